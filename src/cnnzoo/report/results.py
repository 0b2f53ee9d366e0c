"""What the report is about: everything that the earlier stages found out, read once."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cnnzoo.artifacts import Artifacts
from cnnzoo.collection import Collection
from cnnzoo.config import Params
from cnnzoo.errors import CnnzooError
from cnnzoo.report.labels import kind_of

# Named here once more, as the search and the evaluation name them: importing those would import all of machine
# learning for a page of figures. A test compares the names.
PREDICTIONS, SCORES, TRANSFER, DIVERGED = "predictions.csv", "scores.csv", "transfer.csv", "diverged.csv"
BASELINE = "hyper"

_SCORE_NAMES = ("r2", "kendall_tau", "mae")
SCORES_COLUMNS = (
    *("collection", "predictor", "features", "networks_train", "networks_test", "kendall_tau_ceiling"),
    *(f"{name}{suffix}" for name in _SCORE_NAMES for suffix in ("", "_low", "_high")),
)
PREDICTIONS_COLUMNS = ("row", "network", "test_accuracy", "predicted")
TRANSFER_COLUMNS = ("trained_on", "predictor", "features", "tested_on", "r2", "kendall_tau")

Search = tuple[str, str]
"""A predictor and its feature set."""


@dataclass(frozen=True)
class CollectionResults:
    """One collection: its networks, and how well their accuracies are predicted."""

    name: str
    dataset: str
    zoo: Collection
    diverged: pd.DataFrame
    """The networks that have no rows, one a row; empty if there are none."""
    scores: pd.DataFrame
    """One row a search, best R2 first."""
    predictions: Mapping[Search, pd.DataFrame]
    """The held-out half as each search predicts it: row, network, test_accuracy, predicted."""

    @cached_property
    def final(self) -> pd.DataFrame:
        """The metrics of the final checkpoints, one row a network."""
        return self.zoo.metrics.iloc[self.zoo.final()].reset_index(drop=True)

    @cached_property
    def accuracy(self) -> NDArray[np.float64]:
        """Final test accuracy of every network, a fraction."""
        return self.final["test_accuracy"].to_numpy(dtype=np.float64)

    @property
    def best(self) -> pd.Series:
        """The scores of the best search that sees nothing but weights; of the best at all if none does."""
        of_weights = self.scores[self.scores["features"].map(kind_of) == "weights"]
        return (self.scores if of_weights.empty else of_weights).iloc[0]

    @property
    def baseline(self) -> pd.Series | None:
        """The scores of the best search that sees nothing but all hyperparameters, if there is one."""
        found = self.scores[self.scores["features"] == BASELINE]
        return None if found.empty else found.iloc[0]


@dataclass(frozen=True)
class Results:
    """All collections of params.yaml, and the predictors of each on all of them."""

    collections: tuple[CollectionResults, ...]
    transfer: pd.DataFrame
    """One row a search and pair of collections: trained_on, predictor, features, tested_on, r2, kendall_tau ..."""


def read_results(artifacts: Artifacts, params: Params) -> Results:
    """Read what the report shows; raises `CnnzooError` that names a missing file and the stage that makes it."""
    scores = _read_table(artifacts.evaluation / SCORES, SCORES_COLUMNS, "evaluate")
    transfer = _read_table(artifacts.evaluation / TRANSFER, TRANSFER_COLUMNS, "evaluate")
    found = tuple(_read_collection(artifacts, params, name, scores) for name in params.collections)
    return Results(found, transfer[transfer["trained_on"].isin(params.collections)])


def _read_collection(artifacts: Artifacts, params: Params, name: str, scores: pd.DataFrame) -> CollectionResults:
    folder = artifacts.zoo(name)
    if not folder.is_dir():
        raise CnnzooError(f"{folder}: not there; make it with `dvc repro assemble`")
    own = scores[scores["collection"] == name]
    if own.empty:
        path = artifacts.evaluation / SCORES
        raise CnnzooError(f"{path}: no scores of collection `{name}`; make them with `dvc repro evaluate`")
    own = own.sort_values(["r2", "predictor", "features"], ascending=[False, True, True], ignore_index=True)
    predictions = {
        (predictor, features): _read_table(
            artifacts.predictor(name, predictor, features) / PREDICTIONS, PREDICTIONS_COLUMNS, "search"
        )
        for predictor, features in zip(own["predictor"], own["features"], strict=True)
    }
    diverged = folder / DIVERGED  # a published collection has no such file
    return CollectionResults(
        name=name,
        dataset=params.definition(name).dataset,
        zoo=Collection.open(folder),
        diverged=_read_table(diverged, ("network", "diverged_epoch"), "assemble")
        if diverged.exists()
        else pd.DataFrame(columns=["network", "diverged_epoch"]),
        scores=own,
        predictions=predictions,
    )


def _read_table(path: Path, columns: tuple[str, ...], stage: str) -> pd.DataFrame:
    """Read a CSV file; raises `CnnzooError` if it is missing or lacks a column."""
    try:
        table = pd.read_csv(path, float_precision="round_trip")
    except FileNotFoundError as error:
        raise CnnzooError(f"{path}: not there; make it with `dvc repro {stage}`") from error
    except ValueError as error:
        raise CnnzooError(f"{path}: not a table ({error}); make it again with `dvc repro -f {stage}`") from error
    missing = [column for column in columns if column not in table]
    if missing:
        raise CnnzooError(f"{path}: no column {', '.join(missing)}; make it again with `dvc repro -f {stage}`")
    return table
