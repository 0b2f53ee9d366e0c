"""The scorer of a collection: its best predictor that needs nothing but weights; and the networks most like a new one.

Shape letters: n networks, K networks of the collection, F features.
"""

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cnnzoo import config
from cnnzoo.artifacts import Artifacts
from cnnzoo.collection import Collection
from cnnzoo.errors import CnnzooError
from cnnzoo.features import Hyper, parse, read_features
from cnnzoo.scoring.scorer import Scorer
from cnnzoo.tuning import METRICS, MODEL, PREDICTIONS, TARGET

KNOWABLE = ("activation",)
"""Hyperparameters that are part of a network itself: whoever has it can tell them."""


@dataclass(frozen=True)
class Candidate:
    """A tuned predictor, and how well it did in the cross-validation of its search."""

    predictor: str
    features: str
    cv_r2: float


def choose_scorer(
    artifacts: Artifacts,
    params: config.Params,
    collection: str,
    predictor: str | None = None,
    features: str | None = None,
) -> tuple[Candidate, Scorer]:
    """Return the best tuned predictor of a collection that sees weights alone, of these names if they are given.

    The best is the one with the highest R2 in the cross-validation of its search: the held-out half then remains
    a fair judge. Raises `CnnzooError` that lists what there is if none fits.
    """
    known = list(_candidates(artifacts, params, collection))
    fitting = [c for c in known if predictor in {None, c.predictor} and features in {None, c.features}]
    if not fitting:
        listed = (
            ", ".join(f"{c.predictor} on `{c.features}`" for c in known) or "none; make them with `dvc repro search`"
        )
        raise CnnzooError(
            f"{artifacts.models(collection)}: no such predictor that needs only weights. There are: {listed}"
        )
    best = max(fitting, key=lambda candidate: candidate.cv_r2)
    folder = artifacts.predictor(collection, best.predictor, best.features)
    held_out = pd.read_csv(folder / PREDICTIONS, float_precision="round_trip")[[TARGET, "predicted"]]
    layout = Collection.open(artifacts.zoo(collection)).layout
    return best, Scorer(folder / MODEL, best.features, layout, held_out, params.evaluate.confidence)


def _candidates(artifacts: Artifacts, params: config.Params, collection: str) -> Iterator[Candidate]:
    params.definition(collection)  # raises for an unknown one
    for features in params.features.sets:
        hyper = [name for part in parse(features) if isinstance(part, Hyper) for name in part.hyperparameters]
        if not set(hyper) <= set(KNOWABLE):
            continue
        for predictor in params.search.predictors:
            path = artifacts.predictor(collection, predictor, features) / METRICS
            if path.exists():
                cv_r2 = json.loads(path.read_text(encoding="utf-8"))["cv_r2"]
                yield Candidate(predictor, features, -math.inf if cv_r2 is None else cv_r2)


@dataclass(frozen=True)
class Neighbour:
    """A network of the zoo that is like a given one."""

    network: str
    test_accuracy: float
    distance: float
    """Euclidean, over features in units of their standard deviation in the zoo, divided by the root of their number."""


@dataclass(frozen=True)
class Neighbours:
    """The final checkpoints of a collection in the space of a feature set."""

    zoo: Collection
    features: pd.DataFrame
    """(K, F)."""

    @classmethod
    def of(cls, artifacts: Artifacts, collection: str, features: str) -> "Neighbours":
        """Read the collection's features; raises `CnnzooError` if they are not there."""
        zoo = Collection.open(artifacts.zoo(collection))
        return cls(zoo, read_features(zoo, artifacts.features(collection), features, zoo.final()))

    @cached_property
    def _numbers(self) -> tuple[list[str], NDArray[np.float64], NDArray[np.float64]]:
        """Names, scale (F,) and scaled values (K, F) of the features that are numbers and vary."""
        table = self.features.select_dtypes("number").astype(np.float64)
        scale = table.std(ddof=0)
        columns = list(scale.index[scale > 0])
        return columns, scale[columns].to_numpy(), (table[columns] / scale[columns]).to_numpy()

    def nearest(self, described: pd.DataFrame, count: int) -> list[list[Neighbour]]:
        """Return, for each row (n, F) of features, the `count` nearest networks, nearest first."""
        columns, scale, known = self._numbers
        rows = self.features.index.to_numpy()
        found = []
        for point in described[columns].to_numpy(dtype=np.float64) / scale:
            distance = np.sqrt(np.mean((known - point) ** 2, axis=1))  # (K,)
            nearest = np.argsort(distance, kind="stable")[:count]
            metrics = self.zoo.metrics.iloc[rows[nearest]]
            found.append(
                [
                    Neighbour(str(name), float(accuracy), float(far))
                    for name, accuracy, far in zip(metrics["modeldir"], metrics[TARGET], distance[nearest], strict=True)
                ]
            )
        return found
