"""Figures that compare searches: a table of all of them, the best with intervals, relu and tanh apart.

Shape letters: F feature sets, P predictors.
"""

from collections.abc import Sequence

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from cnnzoo import drawing
from cnnzoo.core.results import BASELINE, RECIPE
from cnnzoo.drawing import Picture
from cnnzoo.report.labels import KINDS, PREDICTORS, Kind, features_label, kind_of, predictor_label
from cnnzoo.report.results import CollectionResults, Results, is_recipe
from cnnzoo.report.tables import search_labels

KIND_COLOURS: dict[Kind, str] = {"weights": drawing.ACCENT, "both": "#7a5195", "hyperparameters": "#c77700"}
MOST_ROWS = 15
MOST_APART = 8
LOWEST_SHOWN = -0.25
"""Scores below are shown at the edge: one hopeless predictor must not squeeze all others."""
MOST_COLUMNS = 12
"""Columns of the table of scores that stand beside each other; more collections stand below."""
COLOURS = mpl.colormaps["YlGnBu"].resampled(256)
LEAST_MISSED = 0.01
"""The share of the spread that a predictor misses, 1 - R2, at the dark end of the scale."""
Line = str | tuple[float, tuple[float, float]]
SOLID: Line = "-"
DASHED: Line = (0, (2, 1.5))
SCORES = {"r2": "R²", "kendall_tau": "Kendall's τ"}


def leaderboard_picture(results: Results) -> Picture:
    """Return R2 of every search: rows are feature sets, columns predictors, a panel a collection."""
    table = pd.concat([found.scores for found in results.collections])
    features = _feature_order(table)
    predictors = _predictor_order(table)
    a_row = max(1, MOST_COLUMNS // len(predictors))
    names = [found.name for found in results.collections]
    lines = [names[start : start + a_row] for start in range(0, len(names), a_row)]

    def paint(figure: Figure) -> None:
        axes = figure.subplots(len(lines), max(map(len, lines)), squeeze=False)
        for line, row in zip(lines, axes, strict=True):
            for name, axis in zip(line, row, strict=False):
                _panel(axis, table[table["collection"] == name], features, predictors)
                axis.set_title(name)
            for axis in row[len(line) :]:
                axis.set_axis_off()
            _label_rows(row[0], features)
        figure.legend(handles=_marks(features), loc="outside lower left", ncols=3, fontsize=8)

    width = 3.4 + 0.55 * max(len(line) * len(predictors) for line in lines)
    best = table[table["features"].map(kind_of) == "weights"]["r2"].max()
    return Picture(
        name="leaderboard",
        title="All inputs and predictors",
        caption="R² on held-out networks. The darker, the less is missed (1 − R², on a logarithmic scale); framed: the "
        "best that sees weights alone; dashed: the published recipe.",
        alt=f"Table of R2 of {len(features)} feature sets and {len(predictors)} predictors on "
        f"{', '.join(names)}; the best on weights alone reaches {best:.3f}.",
        png=drawing.draw(max(7.0, width), 0.7 + (0.9 + 0.29 * len(features)) * len(lines), paint),
    )


def _feature_order(table: pd.DataFrame) -> list[str]:
    """Return the feature sets by what they know, in each kind the best first."""
    best = table.groupby(["features", "collection"])["r2"].max().groupby("features").mean().fillna(-np.inf)
    kinds = list(KINDS)
    return sorted(best.index, key=lambda name: (kinds.index(kind_of(name)), -best[name], name))


def _predictor_order(table: pd.DataFrame) -> list[str]:
    known = list(PREDICTORS)
    return sorted(set(table["predictor"]), key=lambda name: (known.index(name) if name in known else len(known), name))


def _panel(axis: Axes, own: pd.DataFrame, features: Sequence[str], predictors: Sequence[str]) -> None:
    """Draw the scores of one collection, given best first."""
    grid = own.pivot_table(index="features", columns="predictor", values="r2")
    r2 = grid.reindex(index=list(features), columns=list(predictors)).to_numpy(dtype=np.float64)  # (F, P)
    drawing.cells(axis, np.vectorize(_short)(r2), missed_shade(r2), COLOURS)
    drawing.name_columns(axis, [predictor_label(name) for name in predictors], straight=3)
    axis.set_yticks([])
    of_weights = own[own["features"].map(kind_of) == "weights"]
    if len(of_weights):
        best = of_weights.iloc[0]
        _frame(axis, predictors.index(best["predictor"]), features.index(best["features"]), SOLID)
    if RECIPE[0] in predictors and RECIPE[1] in features:
        _frame(axis, predictors.index(RECIPE[0]), features.index(RECIPE[1]), DASHED)
    for row in range(1, len(features)):
        if kind_of(features[row]) != kind_of(features[row - 1]):
            axis.axhline(row - 0.5, color=drawing.INK, linewidth=1)


def missed_shade(r2: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return a shade in [0, 1] of each R2: 0 where nothing is predicted, 1 where LEAST_MISSED or less is missed."""
    missed = np.clip(1 - r2, LEAST_MISSED, 1)
    shades: NDArray[np.float64] = np.log(missed) / np.log(LEAST_MISSED)
    return shades


def _frame(axis: Axes, column: int, row: int, line: Line) -> None:
    axis.add_patch(_rectangle(column - 0.46, row - 0.43, 0.92, 0.86, line))


def _rectangle(x: float, y: float, width: float, height: float, line: Line, label: str = "") -> Rectangle:
    return Rectangle(
        (x, y), width, height, fill=False, edgecolor=drawing.TREND, linewidth=1.6, linestyle=line, label=label, zorder=3
    )


def _label_rows(axis: Axes, features: Sequence[str]) -> None:
    axis.set_yticks(range(len(features)), [drawing.wrapped(features_label(name)) for name in features], fontsize=8)
    for label, name in zip(axis.get_yticklabels(), features, strict=True):
        label.set_color(KIND_COLOURS[kind_of(name)])


def _marks(features: Sequence[str]) -> list[Rectangle]:
    kinds = {kind_of(name) for name in features}
    shown = [(KIND_COLOURS[kind], f"sees {words}") for kind, words in KINDS.items() if kind in kinds]
    return [
        *(Rectangle((0, 0), 1, 1, color=colour, label=label) for colour, label in shown),
        _rectangle(0, 0, 1, 1, SOLID, "best on weights only"),
        _rectangle(0, 0, 1, 1, DASHED, "published recipe"),
    ]


def _short(r2: float) -> str:
    if not np.isfinite(r2):
        return ""
    return "< 0" if r2 < 0 else f"{r2:.3f}".replace("0.", ".")


def best_picture(found: CollectionResults) -> Picture:
    """Return the best searches of a collection with their intervals, baseline and published recipe among them."""
    table = found.scores
    shown = table[(table.index < MOST_ROWS) | _landmarks(table)]

    def paint(figure: Figure) -> None:
        axes = figure.subplots(1, 2, sharey=True)
        for axis, (name, title) in zip(axes, SCORES.items(), strict=True):
            _intervals(axis, shown, name)
            axis.set_title(title)
        axes[1].axvline(table["kendall_tau_ceiling"].max(), color=drawing.INK, linestyle=":", label="ceiling of τ")
        axes[0].set_yticks(range(len(shown)), _marked_labels(shown), fontsize=8)
        axes[0].tick_params(axis="y", labelcolor=drawing.INK)
        axes[0].invert_yaxis()
        for kind, colour in KIND_COLOURS.items():
            if (shown["features"].map(kind_of) == kind).any():
                axes[1].plot([], [], "o", color=colour, label=f"sees {KINDS[kind]}")
        figure.legend(loc="outside lower right", ncols=4)

    first = table.iloc[0]
    few = f"The best {MOST_ROWS} of {len(table)} and, where they rank lower, " if len(shown) < len(table) else ""
    marked = (
        f"{few}◆ the published recipe and ◇ the best on hyperparameters alone. "
        if few
        else ("◆ the published recipe, ◇ the best on hyperparameters alone. ")
    )
    cut = f" What lies below −{-LOWEST_SHOWN} is cut off." if (shown["r2_low"] < LOWEST_SHOWN).any() else ""
    return Picture(
        name=f"{found.name}-scores",
        title="Which predictor is best?",
        caption=f"{marked}Scores on the held-out networks with their bootstrap intervals, best R² first.{cut}",
        alt=f"R2 and Kendall's tau of {len(shown)} predictors with intervals; the best R2, {first['r2']:.3f}, has "
        f"{predictor_label(first['predictor'])} on {features_label(first['features'])}.",
        png=drawing.draw(10, 1.3 + 0.29 * len(shown), paint),
    )


def _landmarks(table: pd.DataFrame) -> "pd.Series[bool]":
    """Return which rows must be shown whatever their rank: the recipe and the best on hyperparameters alone."""
    baseline = table["features"] == BASELINE
    return is_recipe(table) | (baseline & ~baseline.duplicated())


def _marked_labels(table: pd.DataFrame) -> list[str]:
    recipe = is_recipe(table)
    marks = np.where(recipe, "◆ ", np.where(_landmarks(table), "◇ ", ""))
    return [drawing.wrapped(f"{mark}{label}") for mark, label in zip(marks, search_labels(table), strict=True)]


def _intervals(axis: Axes, table: pd.DataFrame, name: str) -> None:
    for place, row in enumerate(table.to_dict("records")):
        colour = KIND_COLOURS[kind_of(row["features"])]
        value, low, high = (max(row[column], LOWEST_SHOWN) for column in (name, f"{name}_low", f"{name}_high"))
        axis.plot([low, high], [place, place], color=colour, linewidth=3, alpha=0.35, solid_capstyle="butt")
        axis.plot(value, place, "<" if row[name] < LOWEST_SHOWN else "o", color=colour, markersize=5.5)
    axis.set_xlim(right=1.01)


def activation_picture(found: CollectionResults) -> Picture | None:
    """Return the best searches on the networks of each activation apart; None if they were not scored apart."""
    table = found.by_activation
    if table.empty:
        return None
    best = found.scores[(found.scores.index < MOST_APART) | _landmarks(found.scores)]
    activations = sorted(table["activation"].unique())
    counts = table.groupby("activation")["networks_test"].first()

    def paint(figure: Figure) -> None:
        axes = figure.subplots(1, 2, sharey=True)
        for axis, (name, title) in zip(axes, SCORES.items(), strict=True):
            for number, activation in enumerate(activations):
                own = best[["predictor", "features"]].merge(table[table["activation"] == activation], how="left")
                offset = (number - (len(activations) - 1) / 2) * 0.3
                _apart(axis, own, name, offset, drawing.category_colour(number))
            axis.set_title(title)
        for number, activation in enumerate(activations):
            label = f"{activation} ({counts[activation]:,} networks)"
            axes[1].plot([], [], "o", color=drawing.category_colour(number), label=label)
        axes[0].set_yticks(range(len(best)), _marked_labels(best), fontsize=8)
        axes[0].tick_params(axis="y", labelcolor=drawing.INK)
        axes[0].invert_yaxis()
        figure.legend(loc="outside lower right", ncols=len(activations))

    return Picture(
        name=f"{found.name}-activations",
        title="relu and tanh apart",
        caption="The same predictors, fitted to all networks, on the held-out networks of one activation at a time. "
        "R² falls where the networks of one activation differ less, even if the errors are as small.",
        alt=f"R2 and Kendall's tau of the best {len(best)} predictors on networks with {' and '.join(activations)}, "
        "with intervals.",
        png=drawing.draw(10, 1.3 + 0.36 * len(best), paint),
    )


def _apart(axis: Axes, table: pd.DataFrame, name: str, offset: float, colour: str) -> None:
    places = np.arange(len(table)) + offset
    value, low, high = (
        table[column].clip(lower=LOWEST_SHOWN).to_numpy() for column in (name, f"{name}_low", f"{name}_high")
    )
    axis.hlines(places, low, high, color=colour, linewidth=3, alpha=0.35)
    axis.plot(value, places, "o", color=colour, markersize=5)
