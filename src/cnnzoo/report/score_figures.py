"""Figures of single predictors: how near they come to the truth, and what they rely on."""

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cnnzoo import drawing
from cnnzoo.drawing import Picture
from cnnzoo.report import tables
from cnnzoo.report.labels import Kind, features_label, kind_of, predictor_label
from cnnzoo.report.leaderboard_figures import KIND_COLOURS
from cnnzoo.report.results import CollectionResults

MOST_PANELS = 6
MOST_FEATURES = 15
TITLE_LETTERS = 38
TELLING: tuple[Kind, ...] = ("weights", "hyperparameters")
"""The kinds of searches whose importances are shown."""


def predicted_picture(found: CollectionResults) -> Picture:
    """Return predicted over true accuracies: of the best search, the recipe, the baseline, and the next best ones."""
    shown = _shown(found)
    columns = min(3, len(shown))
    rows = -(-len(shown) // columns)

    def paint(figure: Figure) -> None:
        axes = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
        for axis, row in zip(axes.flat, shown.to_dict("records"), strict=False):
            _against_truth(axis, found, row["predictor"], row["features"])
            axis.set_title(
                f"{predictor_label(row['predictor'])} · R² {_signed(row['r2'])}\n"
                f"{drawing.wrapped(features_label(row['features']), TITLE_LETTERS)}",
                fontsize=9,
            )
        for axis in axes.flat[len(shown) :]:
            axis.set_axis_off()
        drawing.as_percent(axes[0, 0].xaxis)
        drawing.as_percent(axes[0, 0].yaxis)
        figure.supxlabel("true test accuracy", fontsize=9)
        figure.supylabel("predicted", fontsize=9)

    more = f" {len(shown)} of {len(found.scores)}, best first." if len(shown) < len(found.scores) else ""
    return Picture(
        name=f"{found.name}-predicted",
        title="Predicted against true accuracy",
        caption=f"Each dot is a network that no predictor saw; on the diagonal the prediction is exact.{more}",
        alt=f"Scatter plots of predicted against true test accuracy on {int(shown['networks_test'].iloc[0]):,} "
        f"held-out networks for {len(shown)} predictors, with the diagonal.",
        png=drawing.draw(2.8 * columns + 0.3, 2.7 * rows + 0.4, paint),
    )


def _shown(found: CollectionResults) -> pd.DataFrame:
    """Return at most MOST_PANELS searches, best first: the landmarks whatever their rank, then the best others."""
    landmarks = [row.name for row in (found.best, found.recipe, found.baseline) if row is not None]
    order = list(dict.fromkeys([*landmarks, *found.scores.index]))
    return found.scores.loc[sorted(order[:MOST_PANELS], key=int)]


def _against_truth(axis: Axes, found: CollectionResults, predictor: str, features: str) -> None:
    table = found.predictions[predictor, features]
    target, predicted = table["test_accuracy"].to_numpy(), table["predicted"].to_numpy()
    drawing.against_truth(axis, target, predicted, KIND_COLOURS[kind_of(features)])


def importance_picture(found: CollectionResults) -> Picture | None:
    """Return the importances of the best search on weights alone and on hyperparameters; None if there are none."""
    order = zip(found.scores["predictor"], found.scores["features"], strict=True)
    known = [search for search in order if search in found.importances]  # best first
    chosen = [
        next(search for search in known if kind_of(search[1]) == kind)
        for kind in TELLING
        if any(kind_of(features) == kind for _, features in known)
    ]
    if not chosen:
        return None

    def paint(figure: Figure) -> None:
        axes = figure.subplots(1, len(chosen), squeeze=False)[0]
        for axis, (predictor, features) in zip(axes, chosen, strict=True):
            table = tables.importance(found, predictor, features).head(MOST_FEATURES)
            axis.barh(range(len(table)), table["importance"], height=0.7, color=KIND_COLOURS[kind_of(features)])
            axis.set_yticks(range(len(table)), table["name"], fontsize=8)
            axis.tick_params(axis="y", labelcolor=drawing.INK)
            axis.set_ylim(MOST_FEATURES - 0.4, -0.6)
            axis.set_title(f"{predictor_label(predictor)}\n{drawing.wrapped(features_label(features))}", fontsize=9)
            axis.grid(visible=False, axis="y")
            drawing.as_percent(axis.xaxis)

    leaders = [tables.importance(found, *search).iloc[0] for search in chosen]
    return Picture(
        name=f"{found.name}-importances",
        title="What do predictors look at?",
        caption=f"Share of a predictor's total importance, its first {MOST_FEATURES} features. Features that say the "
        "same thing share their importance.",
        alt="Bar charts of feature importances; first of all: "
        + "; ".join(f"{leader['name']} with {leader['importance']:.0%}" for leader in leaders)
        + ".",
        png=drawing.draw(4.2 * len(chosen) + 1.2, 3.9, paint),
    )


def _signed(value: float) -> str:
    """Return a score with three digits and a true minus sign."""
    return f"{value:.3f}".replace("-", "−")
