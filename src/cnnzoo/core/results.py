"""The results of searches, forecasts and the evaluation: the names of their files and columns, and their one reader.

Light, so that the report and `cnnzoo score` read results without importing what made them.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from cnnzoo.core.artifacts import Artifacts
from cnnzoo.core.errors import CnnzooError

TARGET = "test_accuracy"
"""The column that predictors predict."""
BASELINE = "hyper"
"""The feature set that every other one is compared with."""
RECIPE = ("catboost", "wstats-layers:0,1,2,3-qts:0,25,50,75,100")
"""The published recipe, boosted trees on statistics of all layers: gains are measured from it."""

MODEL, STUDY, BEST, PREDICTIONS, METRICS = "model", "study.csv", "params.json", "predictions.csv", "metrics.json"
IMPORTANCE, FIGURE, IMPORTANCE_FIGURE = "importance.csv", "predicted.png", "importance.png"
"""The files of a tuned predictor's folder, `Artifacts.predictor`."""
SCORES, BY_ACTIVATION, TRANSFER = "scores.csv", "by_activation.csv", "transfer.csv"
"""The files of `Artifacts.evaluation`."""
FORECAST, STOPPING = "forecast.csv", "stopping.csv"
"""The files of `Artifacts.forecast`."""

_ENDS = ("", "_low", "_high")
SCORES_COLUMNS = (
    *("collection", "predictor", "features", "networks_train", "networks_test", "kendall_tau_ceiling"),
    *(f"{name}{end}" for name in ("r2", "kendall_tau", "mae") for end in _ENDS),
)
GAIN_COLUMNS = tuple(f"{name}_gain{end}" for name in ("r2", "kendall_tau") for end in _ENDS)
"""Gains over the published recipe; empty where the recipe is not among the searches."""
TRANSFER_COLUMNS = ("trained_on", "predictor", "features", "tested_on", "r2", "kendall_tau")
FORECAST_COLUMNS = (
    *("collection", "epoch", "input", "networks_test", "kendall_tau_ceiling"),
    *(f"{name}{end}" for name in ("r2", "kendall_tau") for end in _ENDS),
)
STOPPING_COLUMNS = ("collection", "epoch", "input", "stopped", "kept_best", "regret", "saved")
PREDICTIONS_COLUMNS = {"row": "int64", "network": "str", TARGET: "float64", "predicted": "float64"}


def read_predictions(artifacts: Artifacts, collection: str, predictor: str, features: str) -> pd.DataFrame:
    """Return row, network, test_accuracy and prediction of each held-out network.

    Raises `CnnzooError` if the search has not been run, or its file is damaged.
    """
    path = artifacts.predictor(collection, predictor, features) / PREDICTIONS
    table = read_table(path, PREDICTIONS_COLUMNS, "search")[list(PREDICTIONS_COLUMNS)]
    if table.empty:
        raise damaged(path, "no rows", "search")
    if table.isna().any(axis=None) or not np.isfinite(table.select_dtypes("number")).all(axis=None):
        raise damaged(path, "values are missing or not finite", "search")
    return table


def read_table(path: Path, columns: Mapping[str, str] | Sequence[str], stage: str) -> pd.DataFrame:
    """Return a CSV file that has these columns, some with their dtypes.

    Raises `CnnzooError` naming the stage that makes it if the file is missing, is not a table, or lacks a column.
    """
    types = dict(columns) if isinstance(columns, Mapping) else {}
    try:
        table = pd.read_csv(path, dtype=types, float_precision="round_trip")
    except (OSError, ValueError) as error:  # ValueError: also what pandas raises for empty, binary and ragged files
        raise damaged(path, error, stage) from error
    missing = [column for column in columns if column not in table]
    if missing:
        raise damaged(path, f"no column {', '.join(missing)}", stage)
    return table


def read_metrics(path: Path, names: Sequence[str]) -> dict[str, float | None]:
    """Return these numbers of a search's metrics.json; None is a score that is undefined.

    Raises `CnnzooError` if the file is missing or damaged.
    """
    try:
        found: Any = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise damaged(path, error, "search") from error
    for name in names:
        value = found.get(name, "") if isinstance(found, dict) else ""
        if isinstance(value, bool) or not isinstance(value, int | float | None):
            raise damaged(path, f"expected a number `{name}`", "search")
    return {name: found[name] for name in names}


def damaged(path: Path, why: str | Exception, stage: str) -> CnnzooError:
    """Return the error for a result that cannot be used; `stage` makes it again."""
    if isinstance(why, FileNotFoundError):
        return CnnzooError(f"{path}: not there; make it with `dvc repro {stage}`")
    return CnnzooError(f"{path}: damaged ({why}); make it again with `dvc repro -f {stage}`")
