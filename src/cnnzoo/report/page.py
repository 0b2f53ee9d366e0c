"""The page: numbers and pictures put into `templates/`. One file that opens offline and fetches nothing."""

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
from cnnzoo.core.results import RECIPE
from cnnzoo.drawing import Picture
from cnnzoo.report import tables
from cnnzoo.report.groups import GROUP, Components
from cnnzoo.report.labels import KINDS, features_label, kind_of, predictor_label
from cnnzoo.report.results import CollectionResults

MADE_WITH = ("cnnzoo", "torch", "pytorch-lightning", "catboost", "optuna", "scikit-learn", "numpy", "pandas")
SHOWN_PARAMS = ("seed", "populations", "imported", "recipes", "train", "features", "search", "forecast", "evaluate")
"""What determines results; the rest of params.yaml changes where data come from, or speed."""
TEMPLATES = ("page.html", "style.css", "table.js")
MOST_DIVERGED = 20
MISSING = "–"


@dataclass(frozen=True)
class Section:
    """One collection on the page."""

    found: CollectionResults
    forecast: Picture
    pictures: Sequence[Picture]
    """All others, in the order of the page."""
    replicates: Components | None = None
    """How the variance of its accuracy is divided, if its networks are replicated."""


@dataclass(frozen=True)
class Overview:
    """The pictures over all collections."""

    leaderboard: Picture
    distributions: Picture
    maps: Picture | None
    transfer: Picture | None

    @property
    def pictures(self) -> list[Picture]:
        """Those that there are."""
        every = (self.leaderboard, self.distributions, self.maps, self.transfer)
        return [picture for picture in every if picture is not None]


def render(sections: Sequence[Section], overview: Overview, params: Params) -> str:
    """Return the HTML of the whole page."""
    folder = files(__package__) / "templates"
    environment = jinja2.Environment(
        loader=jinja2.DictLoader({name: (folder / name).read_text(encoding="utf-8") for name in TEMPLATES}),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"data_uri": _data_uri}
    kinds = {kind_of(name) for section in sections for name in section.found.scores["features"]}
    facts = [tables.summary(section.found) for section in sections]
    return environment.get_template("page.html").render(
        totals={
            "trained": sum(fact["networks"] + fact["diverged"] for fact in facts),
            "diverged": sum(fact["diverged"] for fact in facts),
            "checkpoints": sum(fact["checkpoints"] for fact in facts),
        },
        collections=[_collection(section) for section in sections],
        rows=[
            _row(section.found, row) | _ceiling(section, row)
            for section in sections
            for _, row in section.found.scores.iterrows()
        ],
        kinds=[(kind, words) for kind, words in KINDS.items() if kind in kinds],
        leaderboard=overview.leaderboard,
        distributions=overview.distributions,
        maps=overview.maps,
        transfer=overview.transfer,
        forecasts=[section.forecast for section in sections],
        confidence=f"{params.evaluate.confidence:.0%}",
        trials=params.search.trials,
        folds=params.search.folds,
        grouped=any(GROUP in section.found.final for section in sections),
        params=[(name, _parameter(params, name)) for name in SHOWN_PARAMS],
        versions=[(name, _version(name)) for name in MADE_WITH],
    )


def _collection(section: Section) -> dict[str, Any]:
    found = section.found
    best, baseline, recipe = found.best, found.baseline, found.recipe
    return {
        "name": found.name,
        "dataset": found.dataset,
        "facts": tables.summary(found),
        "epochs": ", ".join(map(str, found.zoo.epochs)),
        "parameters": found.zoo.layout.size,
        "range": [f"{value:.1%}" for value in np.quantile(found.accuracy, [0, 0.5, 1])],
        "tested": int(best["networks_test"]),
        "trained": int(best["networks_train"]),
        "best": _row(found, best),
        "baseline": None if baseline is None else _row(found, baseline),
        "recipe": None if recipe is None or recipe.name == best.name else _row(found, recipe),
        "verdicts": [_verdict(best, baseline), *_gain_verdict(best)],
        "ceiling": _number(best["kendall_tau_ceiling"]),
        "replicates": None if section.replicates is None else _replicates(section.replicates),
        "pictures": section.pictures,
        "diverged": _diverged(found.diverged),
    }


def _replicates(divided: Components) -> dict[str, Any]:
    """Return how the variance of accuracy is divided, as texts."""
    return {
        "configurations": divided.configurations,
        "networks": divided.networks,
        "share": _number(divided.share),
        "interval": f"{_number(divided.low)} to {_number(divided.high)}",
        "hyperparameters": f"{divided.share:.1%}",
        "seed": f"{1 - divided.share:.1%}",
        "spread": _number(100 * np.sqrt(divided.within), 2),
    }


def _ceiling(section: Section, row: "pd.Series[Any]") -> dict[str, str]:
    """Return the highest R2 that can be expected of a predictor that sees hyperparameters alone, where it is known."""
    known = section.replicates is not None and kind_of(row["features"]) == "hyperparameters"
    return {"ceiling": _number(section.replicates.share) if known and section.replicates else ""}


def _row(found: CollectionResults, row: "pd.Series[Any]") -> dict[str, Any]:
    """Return one row of the leaderboard, as texts."""
    kind = kind_of(row["features"])
    marks = [("published recipe", found.recipe), ("best on weights", found.best), ("baseline", found.baseline)]
    return {
        "collection": found.name,
        "predictor": predictor_label(row["predictor"]),
        "features": features_label(row["features"]),
        "features_name": row["features"],
        "kind": kind,
        "kind_words": KINDS[kind],
        "mark": next((mark for mark, one in marks if one is not None and one.name == row.name), None),
        "r2": _score(row, "r2"),
        "kendall_tau": _score(row, "kendall_tau"),
        "mae": _score(row, "mae", scale=100, digits=1),
        "r2_gain": _gain(row, "r2_gain"),
        "kendall_tau_gain": _gain(row, "kendall_tau_gain"),
    }


def _score(row: "pd.Series[Any]", name: str, scale: float = 1, digits: int = 3) -> dict[str, str]:
    """Return a score as text, its interval, and the value to sort by; empty where it is undefined."""
    value, low, high = (scale * row[f"{name}{end}"] for end in ("", "_low", "_high"))
    known = bool(np.isfinite(value))
    interval = f"{_number(low, digits)} to {_number(high, digits)}" if known else ""
    return {"text": _number(value, digits), "interval": interval, "value": f"{value:.6g}" if known else ""}


def _gain(row: "pd.Series[Any]", name: str) -> dict[str, str]:
    """Return a difference with its sign; its direction is `up` or `down` if the interval lies on one side of 0."""
    found = _score(row, name)
    if not found["value"] or (row["predictor"], row["features"]) == RECIPE:
        return {"text": MISSING, "interval": "", "value": "", "direction": ""}
    direction = "up" if row[f"{name}_low"] > 0 else "down" if row[f"{name}_high"] < 0 else ""
    sign = "+" if row[name] > 0 else ""
    return found | {"text": f"{sign}{found['text']}", "direction": direction}


def _verdict(best: "pd.Series[Any]", baseline: "pd.Series[Any] | None") -> str:
    """Say in a sentence whether the weights predict better than the hyperparameters do."""
    if baseline is None:
        return "There is no predictor on the hyperparameters alone to compare with: add `hyper` to `features.sets`."
    if kind_of(best["features"]) != "weights":
        return "No predictor saw the weights alone: add `weights` to `features.sets`."
    better = best["r2"] > baseline["r2"]
    if best["r2_low"] > baseline["r2_high"]:
        return "By R² the weights predict better than the hyperparameters do: the intervals do not overlap."
    if best["r2_high"] < baseline["r2_low"]:
        return "By R² the hyperparameters predict better than the weights do: the intervals do not overlap."
    return (
        f"By R² the weights predict {'better' if better else 'worse'} than the hyperparameters, but the intervals "
        f"overlap: {int(best['networks_test']):,} held-out networks are too few to be sure."
    )


def _gain_verdict(best: "pd.Series[Any]") -> list[str]:
    """Say in words what the best predictor gains over the published recipe; nothing where that is not known."""
    if (best["predictor"], best["features"]) == RECIPE:
        return ["The published recipe, boosted trees on statistics of all layers, is the best here."]
    gain = _gain(best, "r2_gain")
    if not gain["value"]:
        return []
    sure = {
        "up": "the interval excludes 0",
        "down": "the interval excludes 0",
        "": "the interval includes 0, so it may be chance",
    }[gain["direction"]]
    return [f"Over the published recipe the best predictor gains {gain['text']} in R² ({gain['interval']}): {sure}."]


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
