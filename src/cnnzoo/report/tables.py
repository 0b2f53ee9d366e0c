"""The numbers behind the page, as small tables: for DVC's plots and metrics, and for whoever draws their own.

Accuracies are fractions.
"""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
import pandas as pd

from cnnzoo.core.results import GAIN_COLUMNS, SCORES_COLUMNS
from cnnzoo.report.groups import Components, pair_differences
from cnnzoo.report.labels import feature_label, features_label, kind_of, predictor_label
from cnnzoo.report.results import CollectionResults, Results, is_recipe

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
QUANTILE_COLUMNS = tuple(f"q{100 * quantile:02.0f}" for quantile in QUANTILES)


def accuracies(results: Results) -> pd.DataFrame:
    """Return the final accuracies of every network, ascending, with the share of networks that are no better."""

    def one(found: CollectionResults) -> pd.DataFrame:
        table = found.final.sort_values(["test_accuracy", "modeldir"], ignore_index=True)
        return pd.DataFrame(
            {
                "collection": found.name,
                "network": table["modeldir"],
                "activation": table["config.activation"],
                "share": np.arange(1, len(table) + 1) / len(table),
                "test_accuracy": table["test_accuracy"],
                "train_accuracy": table["train_accuracy"],
            }
        )

    return pd.concat([one(found) for found in results.collections], ignore_index=True)


def learning_curve(found: CollectionResults) -> pd.DataFrame:
    """Return quantiles over the networks of the test accuracy at each checkpoint epoch, ascending."""
    grouped = found.zoo.metrics.groupby("step")["test_accuracy"].quantile(np.array(QUANTILES)).unstack()
    grouped.columns = pd.Index(QUANTILE_COLUMNS)
    return grouped.rename_axis("epoch").reset_index()


def learning_curves(results: Results) -> pd.DataFrame:
    """Return the learning curves of all collections."""
    curves = [learning_curve(found).assign(collection=found.name) for found in results.collections]
    return pd.concat(curves, ignore_index=True)[["collection", "epoch", *QUANTILE_COLUMNS]]


def leaderboard(results: Results) -> pd.DataFrame:
    """Return the scores of every search of every collection, best R2 first in each, with names for people."""
    table = pd.concat([found.scores for found in results.collections], ignore_index=True)
    table = table[[*SCORES_COLUMNS, *GAIN_COLUMNS]]
    table.insert(3, "kind", table["features"].map(kind_of))
    table.insert(4, "search", search_labels(table))
    table.insert(5, "published_recipe", is_recipe(table))
    return table


def search_labels(table: pd.DataFrame) -> list[str]:
    """Return a name for each search of a table: `CatBoost · statistics of layers 0–3`."""
    searches = zip(table["predictor"], table["features"], strict=True)
    return [f"{predictor_label(predictor)} · {features_label(features)}" for predictor, features in searches]


def predicted(results: Results) -> pd.DataFrame:
    """Return each collection's held-out half as its best predictor sees it."""

    def one(found: CollectionResults) -> pd.DataFrame:
        predictor, features = found.best["predictor"], found.best["features"]
        table = found.predictions[predictor, features][["network", "test_accuracy", "predicted"]]
        table.insert(0, "collection", found.name)
        table.insert(1, "predictor", predictor)
        table.insert(2, "features", features)
        return table

    return pd.concat([one(found) for found in results.collections], ignore_index=True)


def importances(results: Results) -> pd.DataFrame:
    """Return the importances of each predictor, greatest first, as shares of their sum; no rows if it has none."""
    columns = ["collection", "predictor", "features", "feature", "name", "importance"]
    found = [
        importance(one, predictor, features).assign(collection=one.name, predictor=predictor, features=features)
        for one in results.collections
        for predictor, features in one.importances
    ]
    return pd.concat(found, ignore_index=True)[columns] if found else pd.DataFrame(columns=columns)


def importance(found: CollectionResults, predictor: str, features: str) -> pd.DataFrame:
    """Return feature, name and importance of a search, most important first; importances add up to 1."""
    table = found.importances[predictor, features]
    return table.assign(name=table["feature"].map(feature_label))[["feature", "name", "importance"]]


def forecast(results: Results) -> pd.DataFrame:
    """Return the scores of forecasts from early checkpoints, of all collections."""
    return pd.concat([found.forecast for found in results.collections], ignore_index=True)


def stopping(results: Results) -> pd.DataFrame:
    """Return what early stopping by forecasts costs and saves, of all collections."""
    return pd.concat([found.stopping for found in results.collections], ignore_index=True)


def pairs(results: Results) -> pd.DataFrame:
    """Return the differences within the pairs of all collections; no rows where there are none."""
    return pd.concat([pair_differences(found) for found in results.collections], ignore_index=True)


def replicates(divided: Mapping[str, Components | None]) -> pd.DataFrame:
    """Return how the variance of each collection with replicates is divided; no rows where there are none."""
    return pd.DataFrame([{"collection": name} | asdict(one) for name, one in divided.items() if one is not None])


def summary(found: CollectionResults) -> dict[str, Any]:
    """Return the numbers of a collection's headline; None where a score is undefined or there is no such search."""
    best, others = found.best, {"hyper": found.baseline, "recipe": found.recipe}
    facts: dict[str, Any] = {
        "networks": len(found.final),
        "diverged": len(found.diverged),
        "checkpoints": len(found.zoo.metrics),
        "median_test_accuracy": float(np.median(found.accuracy)),
        "best_test_accuracy": float(np.max(found.accuracy)),
        "best_predictor": str(best["predictor"]),
        "best_features": str(best["features"]),
    }
    for name in ("r2", "kendall_tau", "mae"):
        facts[f"best_{name}"] = _finite(best[name])
        for kind, row in others.items():
            facts[f"{kind}_{name}"] = None if row is None else _finite(row[name])
    return facts


def headline(found: CollectionResults) -> dict[str, Any]:
    """Return the few numbers of a collection that `dvc exp show` compares: short names, four decimals.

    `r2` and `tau` are those of `best`, the best predictor that sees weights alone; `gain` is its R2 above that of the
    published recipe, None if the recipe is not among the searches.
    """
    best, recipe = found.best, found.recipe
    numbers = {
        "r2": best["r2"],
        "tau": best["kendall_tau"],
        "gain": np.nan if recipe is None else best["r2"] - recipe["r2"],
    }
    rounded = {name: round(float(value), 4) if np.isfinite(value) else None for name, value in numbers.items()}
    return {**rounded, "best": str(best["predictor"]), "networks": len(found.final)}


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
