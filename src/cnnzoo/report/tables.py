"""The numbers behind the page, as small tables: for DVC's plots and metrics, and for whoever draws their own.

Accuracies are fractions.
"""

from typing import Any

import numpy as np
import pandas as pd

from cnnzoo.report.results import CollectionResults, Results

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


def summary(found: CollectionResults) -> dict[str, Any]:
    """Return the numbers of a collection's headline; None where a score is undefined or there is no baseline."""
    best, baseline = found.best, found.baseline
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
        facts[f"hyper_{name}"] = None if baseline is None else _finite(baseline[name])
    return facts


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
