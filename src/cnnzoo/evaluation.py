"""Evaluation: the tables that compare all tuned predictors, at home and on the other collections.

`scores.csv`: one row a predictor and feature set of a collection; each score on the held-out half with its bootstrap
interval (the same resamples for all rows of a collection), tau's ceiling, and beside it what the same predictor reaches
with the hyperparameters alone. `transfer.csv`: the same models on the held-out halves of all collections, as in figure
4 of the paper; where a collection lacks a model's features (other layers), there is no row. `metrics.json`: the scores
once more, for `dvc metrics show` and `diff`.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from cnnzoo import config, predictors, scores, seeds
from cnnzoo.artifacts import Artifacts, slug
from cnnzoo.atomic import atomic_folder, write_text
from cnnzoo.collection import Collection
from cnnzoo.errors import CnnzooError
from cnnzoo.features import feature_columns, parse
from cnnzoo.search import METRICS, MODEL, PREDICTIONS, TARGET, read_sample

SCORES_TABLE, TRANSFER_TABLE, SUMMARY = "scores.csv", "transfer.csv", "metrics.json"
BASELINE = "hyper"
"""The feature set that every other one is compared with."""
SUMMARISED = ("r2", "mae", "kendall_tau")
TRANSFERRED = ("r2", "kendall_tau", "kendall_tau_ceiling")

Row = dict[str, Any]


def evaluate(artifacts: Artifacts, params: config.Params) -> None:
    """Write `scores.csv`, `transfer.csv` and `metrics.json` over all collections, whole or not at all.

    Raises `CnnzooError` that names what is missing if a search has not been run.
    """
    table = _add_baseline(pd.DataFrame(_home_scores(artifacts, params)))
    transfer = pd.DataFrame(_transfer(artifacts, params))
    with atomic_folder(artifacts.evaluation) as folder:
        table.to_csv(folder / SCORES_TABLE, index=False, lineterminator="\n")
        transfer.to_csv(folder / TRANSFER_TABLE, index=False, lineterminator="\n")
        write_text(folder / SUMMARY, json.dumps(_summary(table), indent=1, allow_nan=False) + "\n")


def _summary(table: pd.DataFrame) -> dict[str, Any]:
    """Return the scores as `dvc metrics` shows them: collection -> predictor -> feature set -> score."""
    summary: dict[str, Any] = {}
    for row in table.to_dict("records"):
        of_predictor = summary.setdefault(row["collection"], {}).setdefault(row["predictor"], {})
        defined = {name: row[name] for name in SUMMARISED if pd.notna(row[name])}
        of_predictor[slug(row["features"])] = defined
    return summary


def read_predictions(artifacts: Artifacts, collection: str, predictor: str, features: str) -> pd.DataFrame:
    """Return row, network, test_accuracy and prediction of each held-out network.

    Raises `CnnzooError` if the search has not been run.
    """
    path = artifacts.predictor(collection, predictor, features) / PREDICTIONS
    try:
        return pd.read_csv(path, float_precision="round_trip")
    except FileNotFoundError as error:
        raise CnnzooError(f"{path}: not there; make it with `dvc repro search`") from error


def _searches(params: config.Params) -> Iterator[tuple[str, str, str]]:
    """Yield collection, predictor and feature set of every search."""
    for collection in params.populations:
        for features in params.features.sets:
            for predictor in params.search.predictors:
                yield collection, predictor, features


def _home_scores(artifacts: Artifacts, params: config.Params) -> Iterator[Row]:
    for collection, predictor, features in _searches(params):
        found = read_predictions(artifacts, collection, predictor, features)
        target, predicted = found[TARGET].to_numpy(), found["predicted"].to_numpy()
        values = scores.score(target, predicted)
        rng = seeds.generator(params.seed, "evaluate.bootstrap", collection)
        ranges = scores.intervals(target, predicted, params.evaluate.bootstrap, params.evaluate.confidence, rng)
        row: Row = {"collection": collection, "predictor": predictor, "features": features}
        row |= _sizes(artifacts.predictor(collection, predictor, features))
        for name, (low, high) in ranges.items():
            row |= {name: values[name], f"{name}_low": low, f"{name}_high": high}
        yield row | {"kendall_tau_ceiling": values["kendall_tau_ceiling"]}


def _sizes(folder: Path) -> Row:
    """Return how many networks trained and tested a predictor."""
    metrics = json.loads((folder / METRICS).read_text(encoding="utf-8"))
    return {name: metrics[name] for name in ("networks_train", "networks_test")}


def _add_baseline(table: pd.DataFrame) -> pd.DataFrame:
    """Add the scores of the same predictor on the hyperparameters; empty where that search is not among `params`."""
    key = ["collection", "predictor"]
    baseline = table[table["features"] == BASELINE][[*key, "r2", "kendall_tau"]]
    names = {"r2": f"{BASELINE}_r2", "kendall_tau": f"{BASELINE}_kendall_tau"}
    return table.merge(baseline.rename(columns=names), on=key, how="left")


def _transfer(artifacts: Artifacts, params: config.Params) -> Iterator[Row]:
    """Score every model on the held-out half of every collection; its own from the stored predictions."""
    zoos = {collection: Collection.open(artifacts.zoo(collection)) for collection in params.populations}
    with threadpool_limits(1):
        for home, predictor, features in _searches(params):
            model = predictors.load(artifacts.predictor(home, predictor, features) / MODEL)
            for other, zoo in zoos.items():
                if other == home:
                    found = read_predictions(artifacts, home, predictor, features)
                    target, predicted = found[TARGET].to_numpy(), found["predicted"].to_numpy()
                elif _has_features(zoo, features, model):
                    sample = read_sample(artifacts, zoo, other, features, "test")
                    target, predicted = sample.target, model.predict(sample.features)
                else:
                    continue
                values = scores.score(target, predicted)
                row = {"trained_on": home, "predictor": predictor, "features": features, "tested_on": other}
                yield row | {"networks_test": len(target)} | {name: values[name] for name in TRANSFERRED}


def _has_features(zoo: Collection, features: str, model: predictors.Predictor) -> bool:
    """Tell whether a collection has the features that a model was fitted on."""
    try:
        columns = [column for part in parse(features) for column in feature_columns(part, zoo)]
    except CnnzooError:
        return False
    return columns == list(model.feature_names_in_)
