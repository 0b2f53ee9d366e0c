"""Figures of the predictors: how near they come, how they compare, how they fare on other collections."""

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cnnzoo import drawing
from cnnzoo.drawing import Picture
from cnnzoo.report.labels import Kind, features_label, kind_of, predictor_label
from cnnzoo.report.results import CollectionResults, Results

KIND_COLOURS: dict[Kind, str] = {"weights": drawing.ACCENT, "both": "#7a5195", "hyperparameters": "#c77700"}
MOST_PANELS = 9
LOWEST_SHOWN = -0.25
"""Scores below are shown at the edge: one hopeless predictor must not squeeze all others."""


def score_pictures(found: CollectionResults) -> Iterator[Picture]:
    """Yield the figures of a collection's predictors, in the order of the page."""
    yield _leaderboard(found)
    yield _predicted(found)


def _leaderboard(found: CollectionResults) -> Picture:
    table = found.scores

    def paint(figure: Figure) -> None:
        axes = figure.subplots(1, 2, sharey=True)
        for axis, name, title in zip(axes, ("r2", "kendall_tau"), ("R²", "Kendall's τ"), strict=True):
            _intervals(axis, table, name)
            axis.set_title(title)
        axes[1].axvline(table["kendall_tau_ceiling"].max(), color=drawing.INK, linestyle=":", label="ceiling of τ")
        labels = [
            f"{predictor_label(predictor)} · {features_label(features)}"
            for predictor, features in zip(table["predictor"], table["features"], strict=True)
        ]
        axes[0].set_yticks(range(len(table)), labels)
        axes[0].tick_params(axis="y", labelcolor=drawing.INK)
        axes[0].invert_yaxis()
        for kind, colour in KIND_COLOURS.items():
            if (table["features"].map(kind_of) == kind).any():
                knows = "weights and hyperparameters" if kind == "both" else f"{kind} only"
                axes[1].plot([], [], "o", color=colour, label=f"knows {knows}")
        figure.legend(loc="outside lower right", ncols=4)

    first = table.iloc[0]
    cut = f" What lies below −{-LOWEST_SHOWN} is cut off." if (table["r2_low"] < LOWEST_SHOWN).any() else ""
    return Picture(
        name=f"{found.name}-scores",
        title="Which predictor is best?",
        caption=f"Scores on the held-out networks with their bootstrap intervals, best R² first.{cut}",
        alt=f"R2 and Kendall's tau of {len(table)} predictors with intervals; the best R2, {first['r2']:.3f}, has "
        f"{predictor_label(first['predictor'])} on {features_label(first['features'])}.",
        png=drawing.draw(10, 1.3 + 0.3 * len(table), paint),
    )


def _intervals(axis: Axes, table: pd.DataFrame, name: str) -> None:
    for place, row in enumerate(table.to_dict("records")):
        colour = KIND_COLOURS[kind_of(row["features"])]
        value, low, high = (max(row[column], LOWEST_SHOWN) for column in (name, f"{name}_low", f"{name}_high"))
        axis.plot([low, high], [place, place], color=colour, linewidth=2, alpha=0.5, solid_capstyle="butt")
        axis.plot(value, place, "<" if row[name] < LOWEST_SHOWN else "o", color=colour, markersize=6)
    left, _ = axis.get_xlim()
    axis.set_xlim(left, 1.02)


def _predicted(found: CollectionResults) -> Picture:
    shown = found.scores.head(MOST_PANELS)
    columns = min(3, len(shown))
    rows = -(-len(shown) // columns)

    def paint(figure: Figure) -> None:
        axes = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
        for axis, row in zip(axes.flat, shown.to_dict("records"), strict=False):
            _against_truth(axis, found, row["predictor"], row["features"])
            axis.set_title(
                f"{predictor_label(row['predictor'])} · R² {_signed(row['r2'])}\n{features_label(row['features'])}",
                fontsize=9,
            )
        for axis in axes.flat[len(shown) :]:
            axis.set_axis_off()
        drawing.as_percent(axes[0, 0].xaxis)
        drawing.as_percent(axes[0, 0].yaxis)
        figure.supxlabel("true test accuracy", fontsize=9)
        figure.supylabel("predicted", fontsize=9)

    more = f" The best {len(shown)} of {len(found.scores)}." if len(shown) < len(found.scores) else ""
    return Picture(
        name=f"{found.name}-predicted",
        title="Predicted against true accuracy",
        caption=f"Each dot is a network that no predictor saw; on the diagonal the prediction is exact.{more}",
        alt=f"Scatter plots of predicted against true test accuracy on {int(shown['networks_test'].iloc[0]):,} "
        f"held-out networks for {len(shown)} predictors, with the diagonal.",
        png=drawing.draw(2.8 * columns + 0.3, 2.7 * rows + 0.4, paint),
    )


def _against_truth(axis: Axes, found: CollectionResults, predictor: str, features: str) -> None:
    table = found.predictions[predictor, features]
    target, predicted = table["test_accuracy"].to_numpy(), table["predicted"].to_numpy()
    drawing.against_truth(axis, target, predicted, KIND_COLOURS[kind_of(features)])


def transfer_picture(results: Results) -> Picture | None:
    """Return the scores of one search on all collections (paper, figure 4); None for a single collection."""
    names = [found.name for found in results.collections]
    if len(names) < 2:
        return None
    predictor, features = _best_overall(results)
    table = results.transfer
    chosen = table[(table["predictor"] == predictor) & (table["features"] == features)]

    def paint(figure: Figure) -> None:
        for axis, name, title in zip(
            figure.subplots(1, 2, sharey=True), ("r2", "kendall_tau"), ("R²", "Kendall's τ"), strict=True
        ):
            _grid(axis, chosen.pivot_table(index="trained_on", columns="tested_on", values=name), names)
            axis.set(title=title, xlabel="tested on")
            if name == "r2":
                axis.set_ylabel("trained on")

    return Picture(
        name="transfer",
        title="Does it carry over?",
        caption=f"{predictor_label(predictor)} on {features_label(features)}: trained on one collection, tested on the "
        "held-out networks of another. Empty: the other collection's networks have other layers.",
        alt="Grids of R2 and Kendall's tau for each pair of a training and a test collection.",
        png=drawing.draw(10, 1.6 + 0.7 * len(names), paint),
    )


def _best_overall(results: Results) -> tuple[str, str]:
    """Return the search on weights alone with the best mean R2 at home; on anything if there is none."""
    table = pd.concat([found.scores for found in results.collections])
    of_weights = table[table["features"].map(kind_of) == "weights"]
    means = (table if of_weights.empty else of_weights).groupby(["predictor", "features"])["r2"].mean()
    best: tuple[str, str] = means.index[int(means.fillna(-np.inf).to_numpy().argmax())]
    return best


def _grid(axis: Axes, values: pd.DataFrame, names: Sequence[str]) -> None:
    grid = values.reindex(index=list(names), columns=list(names)).to_numpy(dtype=np.float64)
    axis.imshow(grid, cmap="viridis", vmin=0, vmax=1, aspect="auto")
    for (row, column), value in np.ndenumerate(grid):
        if np.isfinite(value):
            axis.text(column, row, f"{value:.2f}", ha="center", va="center", color="white" if value < 0.6 else "black")
    axis.set_xticks(range(len(names)), names)
    axis.set_yticks(range(len(names)), names)
    axis.grid(visible=False)


def _signed(value: float) -> str:
    """Return a score with three digits and a true minus sign."""
    return f"{value:.3f}".replace("-", "−")
