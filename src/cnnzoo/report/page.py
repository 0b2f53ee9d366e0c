"""The page: numbers and pictures put into `template.html`. One file that opens offline and fetches nothing."""

import base64
import json
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.resources import files
from typing import Any

import jinja2
import numpy as np
import pandas as pd

from cnnzoo.config import Params
from cnnzoo.drawing import Picture
from cnnzoo.report import tables
from cnnzoo.report.labels import features_label, kind_of, predictor_label
from cnnzoo.report.results import CollectionResults

MADE_WITH = ("cnnzoo", "torch", "pytorch-lightning", "catboost", "optuna", "scikit-learn", "numpy", "pandas")
SHOWN_PARAMS = ("seed", "populations", "imported", "recipes", "train", "features", "search", "forecast", "evaluate")
"""What determines results; the rest of params.yaml changes where data come from, or speed."""
MOST_DIVERGED = 20
MISSING = "–"


@dataclass(frozen=True)
class Section:
    """One collection on the page."""

    found: CollectionResults
    zoo_pictures: Sequence[Picture]
    score_pictures: Sequence[Picture]


def render(sections: Sequence[Section], transfer: Picture | None, params: Params) -> str:
    """Return the HTML of the whole page."""
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"data_uri": _data_uri}
    template = environment.from_string(files(__package__).joinpath("template.html").read_text(encoding="utf-8"))
    return template.render(
        sections=[_section(section) for section in sections],
        transfer=transfer,
        confidence=f"{params.evaluate.confidence:.0%}",
        trials=params.search.trials,
        folds=params.search.folds,
        params=[(name, _parameter(params, name)) for name in SHOWN_PARAMS],
        versions=[(name, _version(name)) for name in MADE_WITH],
    )


def _section(section: Section) -> dict[str, Any]:
    found = section.found
    best, baseline = found.best, found.baseline
    epochs = found.zoo.epochs
    return {
        "name": found.name,
        "dataset": found.dataset,
        "facts": tables.summary(found),
        "epochs": ", ".join(map(str, epochs)),
        "last_epoch": epochs[-1],
        "parameters": found.zoo.layout.size,
        "range": [f"{value:.1%}" for value in np.quantile(found.accuracy, [0, 0.5, 1])],
        "tested": int(best["networks_test"]),
        "trained": int(best["networks_train"]),
        "best": _score_row(best),
        "baseline": None if baseline is None else _score_row(baseline),
        "verdict": _verdict(best, baseline),
        "scores": [_score_row(row) for _, row in found.scores.iterrows()],
        "ceiling": _number(best["kendall_tau_ceiling"]),
        "zoo_pictures": section.zoo_pictures,
        "score_pictures": section.score_pictures,
        "diverged": _diverged(found.diverged),
    }


def _score_row(row: "pd.Series[Any]") -> dict[str, Any]:
    """Return one row of the table of scores, as texts."""
    return {
        "predictor": predictor_label(row["predictor"]),
        "features": features_label(row["features"]),
        "features_name": row["features"],
        "kind": kind_of(row["features"]),
        "r2": _number(row["r2"]),
        "r2_interval": _interval(row, "r2"),
        "kendall_tau": _number(row["kendall_tau"]),
        "kendall_tau_interval": _interval(row, "kendall_tau"),
        "mae": _number(100 * row["mae"], digits=1),
    }


def _verdict(best: "pd.Series[Any]", baseline: "pd.Series[Any] | None") -> str:
    """Say in words whether the weights tell more than the hyperparameters do."""
    if baseline is None:
        return "There is no predictor on the hyperparameters alone to compare with: add `hyper` to `features.sets`."
    if kind_of(best["features"]) != "weights":
        return "No predictor saw the weights alone: add `weights` to `features.sets`."
    better = best["r2"] > baseline["r2"]
    if best["r2_low"] > baseline["r2_high"]:
        return "By R² the weights tell more than the hyperparameters do: the intervals do not overlap."
    if best["r2_high"] < baseline["r2_low"]:
        return "By R² the hyperparameters tell more than the weights do: the intervals do not overlap."
    return (
        f"By R² the weights tell {'more' if better else 'less'} than the hyperparameters, but the intervals overlap: "
        f"{int(best['networks_test']):,} held-out networks are too few to be sure."
    )


def _diverged(table: pd.DataFrame) -> dict[str, Any]:
    columns = ("network", "activation", "optimizer", "learning_rate", "w_init", "diverged_epoch")
    shown = [f"config.{name}" if f"config.{name}" in table else name for name in columns]
    rows = table.head(MOST_DIVERGED).reindex(columns=shown).to_dict("records")
    return {
        "columns": [column.removeprefix("config.").replace("_", " ") for column in shown],
        "rows": [[f"{value:.3g}" if isinstance(value, float) else value for value in row.values()] for row in rows],
        "more": max(0, len(table) - MOST_DIVERGED),
    }


def _number(value: float, digits: int = 3) -> str:
    return f"{value:.{digits}f}".replace("-", "−") if np.isfinite(value) else MISSING


def _interval(row: "pd.Series[Any]", name: str) -> str:
    return f"{_number(row[f'{name}_low'])} to {_number(row[f'{name}_high'])}"


def _parameter(params: Params, name: str) -> str:
    value = params.model_dump(mode="json", exclude_none=True)[name]
    if not isinstance(value, dict):
        return str(value)
    return "\n".join(f"{key}: {json.dumps(entry)}" for key, entry in value.items())


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def _data_uri(png: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"
