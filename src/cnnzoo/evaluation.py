"""Evaluation: the tables that compare all tuned predictors, at home and on the other collections.

`scores.csv`: one row a predictor and feature set of a collection; each score on the held-out half with its bootstrap
interval (the same resamples for all rows of a collection), tau's ceiling, and beside it what the same predictor reaches
with the hyperparameters alone. `transfer.csv`: the same models on the held-out halves of all collections, as in figure
4 of the paper; where a collection lacks a model's features (other layers), there is no row. `metrics.json`: the scores
once more, for `dvc metrics show` and `diff`.
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
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
PREDICTIONS_COLUMNS = {"row": "int64", "network": "str", TARGET: "float64", "predicted": "float64"}
SIZES = ("networks_train", "networks_test")

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

    Raises `CnnzooError` if the search has not been run, or its file is damaged.
    """
    return _read_table(artifacts.predictor(collection, predictor, features) / PREDICTIONS, PREDICTIONS_COLUMNS)


def _read_table(path: Path, columns: Mapping[str, str]) -> pd.DataFrame:
    """Return these columns (name -> dtype) of a search's table, complete and finite, at least one row."""
    try:
        table = pd.read_csv(path, usecols=list(columns), dtype=dict(columns), float_precision="round_trip")
    except (OSError, ValueError) as error:  # ValueError: also what pandas raises for empty, binary and ragged files
        raise _unreadable(path, error) from error
    if table.empty:
        raise _unreadable(path, "no rows")
    if table.isna().any(axis=None) or not np.isfinite(table.select_dtypes("number")).all(axis=None):
        raise _unreadable(path, "values are missing or not finite")
    return table


def _read_counts(path: Path, names: tuple[str, ...]) -> dict[str, int]:
    """Return these whole numbers of a search's JSON file."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise _unreadable(path, error) from error
    if not isinstance(found, dict) or not all(type(found.get(name)) is int for name in names):
        raise _unreadable(path, f"expected whole numbers {', '.join(f'`{name}`' for name in names)}")
    return {name: found[name] for name in names}


def _unreadable(path: Path, why: str | Exception) -> CnnzooError:
    if isinstance(why, FileNotFoundError):
        return CnnzooError(f"{path}: not there; make it with `dvc repro search`")
    return CnnzooError(f"{path}: damaged ({why}); make it again with `dvc repro search`")


def _searches(params: config.Params) -> Iterator[tuple[str, str, str]]:
    """Yield collection, predictor and feature set of every search."""
    for collection in params.collections:
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
        row |= _read_counts(artifacts.predictor(collection, predictor, features) / METRICS, SIZES)
        for name, (low, high) in ranges.items():
            row |= {name: values[name], f"{name}_low": low, f"{name}_high": high}
        yield row | {"kendall_tau_ceiling": values["kendall_tau_ceiling"]}


def _add_baseline(table: pd.DataFrame) -> pd.DataFrame:
    """Add the scores of the same predictor on the hyperparameters; empty where that search is not among `params`."""
    key = ["collection", "predictor"]
    baseline = table[table["features"] == BASELINE][[*key, "r2", "kendall_tau"]]
    names = {"r2": f"{BASELINE}_r2", "kendall_tau": f"{BASELINE}_kendall_tau"}
    return table.merge(baseline.rename(columns=names), on=key, how="left")


def _transfer(artifacts: Artifacts, params: config.Params) -> Iterator[Row]:
    """Score every model on the held-out half of every collection; its own from the stored predictions."""
    zoos = {collection: Collection.open(artifacts.zoo(collection)) for collection in params.collections}
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
