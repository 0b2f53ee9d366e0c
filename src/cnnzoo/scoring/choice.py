"""The scorer of a collection: its best predictor that needs nothing but weights (and the activation)."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from cnnzoo import config
from cnnzoo.core.artifacts import Artifacts
from cnnzoo.core.errors import CnnzooError
from cnnzoo.core.results import METRICS, MODEL, TARGET, read_metrics, read_predictions
from cnnzoo.features import Hyper, parse
from cnnzoo.network.layout import layout_of
from cnnzoo.scoring.scorer import Scorer

KNOWABLE = ("activation",)
"""Hyperparameters that are part of a network itself: whoever has it knows them."""


@dataclass(frozen=True)
class Candidate:
    """A tuned predictor, and how well it did: in the cross-validation of its search, and on the held-out half.

    A score is None where it is undefined, as R2 is for networks that are all equally good.
    """

    predictor: str
    features: str
    cv_r2: float | None
    r2: float | None
    kendall_tau: float | None

    @property
    def rank(self) -> float:
        """The best has the highest. Cross-validation chooses, so held-out scores stay unbiased."""
        return float("-inf") if self.cv_r2 is None else self.cv_r2


def choose_scorer(
    artifacts: Artifacts,
    params: config.Params,
    collection: str,
    predictor: str | None = None,
    features: str | None = None,
) -> tuple[Candidate, Scorer]:
    """Return the best tuned predictor of a collection that sees weights alone, of these names if they are given.

    `predictor` may also be the folder of one. Neither the collection's data nor its images are read. Raises
    `CnnzooError` that lists what there is if none fits, or if its files are damaged.
    """
    known = list(_candidates(artifacts, params, collection))
    folders = [artifacts.predictor(collection, c.predictor, c.features) for c in known]
    fitting = [
        candidate
        for candidate, folder in zip(known, folders, strict=True)
        if (predictor in {None, candidate.predictor} or Path(str(predictor)).resolve() == folder.resolve())
        and features in {None, candidate.features}
    ]
    if not fitting:
        wanted = " on ".join(f"`{name}`" for name in (predictor, features) if name) or "a predictor"
        raise CnnzooError(
            f"{artifacts.models(collection)}: {wanted} that needs weights alone is not there. There are: "
            + (", ".join(f"`{c.predictor}` on `{c.features}`" for c in known) or "none; `dvc repro search` makes them")
        )
    best = max(fitting, key=lambda candidate: candidate.rank)
    held_out = read_predictions(artifacts, collection, best.predictor, best.features)[[TARGET, "predicted"]]
    return best, Scorer(
        artifacts.predictor(collection, best.predictor, best.features) / MODEL,
        best.features,
        layout_of(params.definition(collection).architecture),
        held_out,
        params.evaluate.confidence,
    )


def _candidates(artifacts: Artifacts, params: config.Params, collection: str) -> Iterator[Candidate]:
    """Yield the predictors among those of params.yaml that have been tuned and can be applied to a new network."""
    params.definition(collection)  # raises for an unknown one
    for predictor, features in params.searches:
        hyper = [name for part in parse(features) if isinstance(part, Hyper) for name in part.hyperparameters]
        path = artifacts.predictor(collection, predictor, features) / METRICS
        if set(hyper) <= set(KNOWABLE) and path.exists():
            yield Candidate(predictor, features, **read_metrics(path, ("cv_r2", "r2", "kendall_tau")))
