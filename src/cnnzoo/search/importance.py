"""What a tuned predictor relies on, as shares of 1, from its training rows alone.

A predictor that has `feature_importances_` (trees, linear) is asked; of any other the error is measured
when one feature's values are shuffled over the networks (permutation importance, Breiman 2001).

Shape letters: n rows, F features.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from numpy.typing import NDArray

from cnnzoo import drawing
from cnnzoo.predictors import Predictor
from cnnzoo.search.sample import Sample

MOST_FEATURES = 256
"""With more columns those of one tensor are taken together: of 4,970 weights none alone says anything."""
MOST_ROWS = 200
"""Rows on which features are shuffled."""
MOST_SHOWN = 15

Groups = Mapping[str, NDArray[np.int64]]


def importance(predictor: Predictor, train: Sample, rng: np.random.Generator) -> pd.DataFrame:
    """Return columns `feature` and `importance`, most first; the importances add up to 1, or are 0 if nothing matters.

    With more than MOST_FEATURES columns, `conv2d/kernel:17` and its like become `conv2d/kernel`.
    """
    groups = _group([str(name) for name in train.features.columns])
    own = getattr(predictor, "feature_importances_", None)
    if own is not None:
        values = np.array([np.asarray(own)[columns].sum() for columns in groups.values()])
    else:
        values = _shuffled_errors(predictor, train, groups, rng)
    total = values.sum()
    table = pd.DataFrame({"feature": list(groups), "importance": values / (total if total > 0 else 1)})
    return table.sort_values(["importance", "feature"], ascending=[False, True], ignore_index=True)


def draw_importance(table: pd.DataFrame, title: str) -> bytes:
    """Return the PNG of the first MOST_SHOWN rows as bars."""
    shown = table.head(MOST_SHOWN).iloc[::-1]

    def paint(figure: Figure) -> None:
        axis = figure.subplots()
        axis.barh(range(len(shown)), shown["importance"], color=drawing.ACCENT)
        axis.set_yticks(range(len(shown)), shown["feature"])
        axis.grid(visible=False, axis="y")
        axis.set(xlabel="share of the total importance", title=title)
        drawing.as_percent(axis.xaxis)

    return drawing.draw(6, 1.4 + 0.24 * len(shown), paint)


def _group(names: Sequence[str]) -> Groups:
    """Return the columns of each feature, or of each tensor if there are many features."""
    many = len(names) > MOST_FEATURES
    columns: dict[str, list[int]] = {}
    for column, name in enumerate(names):
        columns.setdefault((name.rpartition(":")[0] if many else "") or name, []).append(column)
    return {name: np.array(found) for name, found in columns.items()}


def _shuffled_errors(
    predictor: Predictor, train: Sample, groups: Groups, rng: np.random.Generator
) -> NDArray[np.float64]:
    """Return by how much the mean squared error grows when a group's columns are shuffled, at least 0."""
    rows = np.sort(rng.permutation(len(train.target))[:MOST_ROWS])
    table, target = train.features.iloc[rows], train.target[rows]

    def error(features: pd.DataFrame) -> float:
        return float(np.mean((predictor.predict(features) - target) ** 2))

    whole, grown = error(table), []
    for columns in groups.values():
        shuffled = table.iloc[rng.permutation(len(rows))].set_axis(table.index)
        inside = np.isin(np.arange(table.shape[1]), columns)
        grown.append(error(shuffled.where(np.broadcast_to(inside, table.shape), table)) - whole)
    return np.maximum(grown, 0)
