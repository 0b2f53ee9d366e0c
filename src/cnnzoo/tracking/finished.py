"""A finished search as its files tell it: what `search_run` was told while it ran, read from what DVC versions.

No file holds when a trial ran and how long. Light: does not import mlflow.

Shape letters: n held-out networks.
"""

import csv
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cnnzoo.config import Params
from cnnzoo.core.artifacts import Artifacts
from cnnzoo.core.errors import CnnzooError
from cnnzoo.core.results import FIGURE, IMPORTANCE_FIGURE, METRICS, MODEL, STUDY, damaged, read_predictions

PARAM = "params."
"""What the columns of study.csv that hold a trial's parameters begin with."""


@dataclass(frozen=True)
class Trial:
    """One trial of a study."""

    number: int
    params: Mapping[str, str]
    value: float | None
    state: str
    """Optuna's: COMPLETE, PRUNED or FAIL."""


@dataclass(frozen=True)
class Data:
    """What the predictors on one feature set learned from, and what their models are shown with."""

    digest: str
    """Of the training half, as `Sample.digest` gives it."""
    networks_train: int
    rows_test: NDArray[np.int64]
    """Rows of the held-out networks in the collection (n,)."""
    example: pd.DataFrame
    """The features of the first few of them."""


@dataclass(frozen=True)
class FinishedSearch:
    """The content of a search's run in MLflow."""

    collection: str
    predictor: str
    features: str
    budget: Mapping[str, object]
    """What distinguishes it from other searches of the same predictor on the same features."""
    data: Data
    trials: tuple[Trial, ...]
    metrics: Mapping[str, float]
    """The scores that are defined."""
    predicted: NDArray[np.float64]
    """Predictions for `data.example`."""
    figures: tuple[Path, ...]
    model: Path

    @property
    def data_name(self) -> str:
        """The name of its data set in MLflow."""
        return f"{self.collection} {self.features}"


def read_searches(artifacts: Artifacts, params: Params, collection: str) -> Iterator[FinishedSearch]:
    """Yield all of `params.searches`, in their order.

    Raises `CnnzooError` if a file is missing or damaged, or if files do not belong together.
    """
    data: dict[str, Data] = {}  # reading the features takes longest, and predictors share them
    for pair in params.searches:
        if pair[1] not in data:
            data[pair[1]] = _read_data(artifacts, collection, pair[1])
        yield _read_search(artifacts, params, collection, pair, data[pair[1]])


def _read_data(artifacts: Artifacts, collection: str, features: str) -> Data:
    from cnnzoo.search import read_sample
    from cnnzoo.search.runs import EXAMPLE_ROWS
    from cnnzoo.zoo import Collection

    zoo = Collection.open(artifacts.zoo(collection))
    train = read_sample(artifacts, zoo, collection, features, "train")
    test = read_sample(artifacts, zoo, collection, features, "test")
    return Data(train.digest(), len(train.target), test.rows, test.features.iloc[:EXAMPLE_ROWS])


def _read_search(
    artifacts: Artifacts, params: Params, collection: str, pair: tuple[str, str], data: Data
) -> FinishedSearch:
    folder = artifacts.predictor(collection, *pair)
    scores, predictions = _read_scores(folder / METRICS), read_predictions(artifacts, collection, *pair)
    if scores.get("trials") != params.search.trials:
        raise CnnzooError(
            f"{folder / METRICS}: of {scores.get('trials')} trials, where params.yaml says `search.trials="
            f"{params.search.trials}`. Check out the params.yaml that belongs to it, or run `dvc repro search`."
        )
    if predictions["row"].tolist() != data.rows_test.tolist():
        raise CnnzooError(
            f"{folder}: its held-out networks are not those of {artifacts.zoo(collection)}. Get both from one commit: "
            f"`dvc checkout`, or `dvc pull assemble@{collection} search@{collection}`."
        )
    return FinishedSearch(
        *(collection, *pair),
        budget=params.search_budget,
        data=data,
        trials=_read_trials(folder / STUDY),
        metrics={name: float(value) for name, value in scores.items() if value is not None},
        predicted=predictions["predicted"].to_numpy()[: len(data.example)],
        figures=(folder / FIGURE, folder / IMPORTANCE_FIGURE),
        model=folder / MODEL,
    )


def _read_scores(path: Path) -> dict[str, float | None]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise damaged(path, error, "search") from error
    if not isinstance(found, dict) or not all(isinstance(value, int | float | None) for value in found.values()):
        raise damaged(path, "expected numbers by name", "search")
    return found


def _read_trials(path: Path) -> tuple[Trial, ...]:
    """Read study.csv. Parameters stay the text that the search wrote: `64`, not `64.0`."""
    try:
        with path.open(encoding="utf-8", newline="") as file:
            return tuple(_trial(row) for row in csv.DictReader(file))
    except (OSError, ValueError, KeyError) as error:
        raise damaged(path, error, "search") from error


def _trial(row: Mapping[str, str]) -> Trial:
    params = {name.removeprefix(PARAM): text for name, text in row.items() if name.startswith(PARAM)}
    return Trial(
        number=int(row["number"]),
        params={name: text for name, text in params.items() if text},  # empty: this trial had no such parameter
        value=float(row["value"]) if row["value"] else None,
        state=row["state"],
    )
