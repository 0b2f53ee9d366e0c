"""What the report is about: everything that the earlier stages found out, read once."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cnnzoo.config import Params
from cnnzoo.core.artifacts import Artifacts
from cnnzoo.core.errors import CnnzooError
from cnnzoo.core.results import (
    BASELINE,
    BY_ACTIVATION,
    FORECAST,
    FORECAST_COLUMNS,
    GAIN_COLUMNS,
    IMPORTANCE,
    RECIPE,
    SCORES,
    SCORES_COLUMNS,
    STOPPING,
    STOPPING_COLUMNS,
    TRANSFER,
    TRANSFER_COLUMNS,
    read_predictions,
    read_table,
)
from cnnzoo.features import Statistics, parse, read_features
from cnnzoo.report.labels import Kind, kind_of
from cnnzoo.zoo import Collection

DIVERGED = "diverged.csv"
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
    statistics: pd.DataFrame | None
    """Statistics of the final weights, one row a network; None where they are no input of this project."""
    scores: pd.DataFrame
    """One row a search, best R2 first."""
    by_activation: pd.DataFrame
    """The same and `activation`, over the networks with that activation alone; empty if not evaluated so."""
    predictions: Mapping[Search, pd.DataFrame]
    """The held-out half as each search predicts it: row, network, test_accuracy, predicted."""
    importances: Mapping[Search, pd.DataFrame]
    """feature and importance, for the searches whose predictor has them."""
    forecast: pd.DataFrame
    """Scores of forecasts of the final accuracy, one row an epoch and input."""
    stopping: pd.DataFrame
    """What stopping a share of the networks costs and saves, one row an epoch, input and share."""

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
        found = self.best_of("weights")
        return self.scores.iloc[0] if found is None else found

    @property
    def baseline(self) -> pd.Series | None:
        """The scores of the best search that sees nothing but all hyperparameters, if there is one."""
        return _first(self.scores[self.scores["features"] == BASELINE])

    @property
    def recipe(self) -> pd.Series | None:
        """The scores of the published recipe, if it is among the searches."""
        return _first(self.scores[is_recipe(self.scores)])

    def best_of(self, kind: Kind) -> pd.Series | None:
        """Return the scores of the best search of a kind, if there is one."""
        return _first(self.scores[self.scores["features"].map(kind_of) == kind])


@dataclass(frozen=True)
class Results:
    """All collections of params.yaml, and the predictors of each on all of them."""

    collections: tuple[CollectionResults, ...]
    transfer: pd.DataFrame
    """One row a search and pair of collections: trained_on, predictor, features, tested_on, r2, kendall_tau ..."""


def is_recipe(table: pd.DataFrame) -> "pd.Series[bool]":
    """Return which rows of a table of searches are the published recipe."""
    return (table["predictor"] == RECIPE[0]) & (table["features"] == RECIPE[1])


def read_results(artifacts: Artifacts, params: Params) -> Results:
    """Read what the report shows; raises `CnnzooError` that names a missing file and the stage that makes it."""
    scores = read_table(artifacts.evaluation / SCORES, SCORES_COLUMNS, "evaluate")
    path = artifacts.evaluation / BY_ACTIVATION
    by_activation = (
        read_table(path, (*SCORES_COLUMNS, "activation"), "evaluate")
        if path.exists()
        else pd.DataFrame(columns=[*SCORES_COLUMNS, "activation"])
    )
    transfer = read_table(artifacts.evaluation / TRANSFER, TRANSFER_COLUMNS, "evaluate")
    found = tuple(_read_collection(artifacts, params, name, scores, by_activation) for name in params.collections)
    return Results(found, transfer[transfer["trained_on"].isin(params.collections)])


def _read_collection(
    artifacts: Artifacts, params: Params, name: str, scores: pd.DataFrame, by_activation: pd.DataFrame
) -> CollectionResults:
    folder = artifacts.zoo(name)
    if not folder.is_dir():
        raise CnnzooError(f"{folder}: not there; make it with `dvc repro assemble`")
    own = _best_first(scores, name)
    if own.empty:
        path = artifacts.evaluation / SCORES
        raise CnnzooError(f"{path}: no scores of collection `{name}`; make them with `dvc repro evaluate`")
    zoo = Collection.open(folder)
    folders = {search: artifacts.predictor(name, *search) for search in _searches(own)}
    diverged = folder / DIVERGED  # a published collection has no such file
    return CollectionResults(
        name=name,
        dataset=params.definition(name).dataset,
        zoo=zoo,
        diverged=read_table(diverged, ("network", "diverged_epoch"), "assemble")
        if diverged.exists()
        else pd.DataFrame(columns=["network", "diverged_epoch"]),
        statistics=_read_statistics(artifacts, params, name, zoo),
        scores=own,
        by_activation=_best_first(by_activation, name),
        predictions={search: read_predictions(artifacts, name, *search) for search in folders},
        importances={
            search: read_table(path / IMPORTANCE, ("feature", "importance"), "search")
            for search, path in folders.items()
            if (path / IMPORTANCE).exists()
        },
        forecast=read_table(artifacts.forecast(name) / FORECAST, FORECAST_COLUMNS, "forecast"),
        stopping=read_table(artifacts.forecast(name) / STOPPING, STOPPING_COLUMNS, "forecast"),
    )


def _best_first(table: pd.DataFrame, collection: str) -> pd.DataFrame:
    """Return the rows of a collection, best R2 first, with gains."""
    own = table[table["collection"] == collection]
    own = own.reindex(columns=[*own.columns, *(name for name in GAIN_COLUMNS if name not in own)])
    return own.sort_values(["r2", "predictor", "features"], ascending=[False, True, True], ignore_index=True)


def _searches(scores: pd.DataFrame) -> Sequence[Search]:
    return list(zip(scores["predictor"], scores["features"], strict=True))


def _read_statistics(artifacts: Artifacts, params: Params, name: str, zoo: Collection) -> pd.DataFrame | None:
    """Return the statistics of the most layers that params.yaml names, at the final checkpoints."""
    named = [part for features in (*params.features.sets, params.forecast.features) for part in parse(features)]
    per_layer = [part for part in named if isinstance(part, Statistics) and part.layers is not None]
    if not per_layer:
        return None
    widest = max(per_layer, key=lambda part: len(part.layers or ()))
    return read_features(zoo, artifacts.features(name), widest.name, zoo.final())


def _first(table: pd.DataFrame) -> pd.Series | None:
    return None if table.empty else table.iloc[0]
