"""Figures over all collections: what their networks reach (paper, figure 2), and maps of their weights (figure 3).

Shape letters: K networks, F features.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from cnnzoo import drawing
from cnnzoo.drawing import Picture
from cnnzoo.report.results import CollectionResults, Results

BINS = 50
CHANCE = 0.1
"""Accuracy of guessing one of ten classes."""
MAP_COLUMNS = ("activation", "optimizer")
"""The hyperparameters that a map of weights is coloured by, after the accuracy."""

Floats = NDArray[np.float64]


def distribution_picture(results: Results) -> Picture:
    """Return the distributions of the final accuracies side by side, one half of a violin an activation."""
    collections = results.collections
    activations = sorted({value for found in collections for value in found.final["config.activation"]})

    def paint(figure: Figure) -> None:
        widths = [max(2, len(collections)), *(2 for _ in activations)]
        axes = figure.subplots(1, len(widths), gridspec_kw={"width_ratios": widths})
        _violins(axes[0], collections, activations)
        for axis, activation in zip(axes[1:], activations, strict=True):
            _cumulative(axis, collections, activation)
        axes[1].set_ylabel("share of networks that are no better")
        axes[1].legend(loc="upper left", fontsize=8)

    medians = ", ".join(f"{found.name} {np.median(found.accuracy):.1%}" for found in collections)
    return Picture(
        name="distributions",
        title="What do the networks reach?",
        caption="Final test accuracies, networks with relu and tanh apart. Left: how many networks lie at each "
        "accuracy, lines are medians, dotted is guessing. Right: the share of networks up to an accuracy.",
        alt=f"Distributions of the final test accuracy of {len(collections)} collections, by activation; "
        f"medians: {medians}.",
        png=drawing.draw(10, 3.6, paint),
    )


def _violins(axis: Axes, collections: Sequence[CollectionResults], activations: Sequence[str]) -> None:
    edges = np.linspace(0, 1, BINS + 1)
    for place, found in enumerate(collections):
        for number, activation in enumerate(activations):
            accuracy = _with(found, activation)
            if not len(accuracy):
                continue
            side = (-1, 1)[number % 2]
            shares = np.histogram(accuracy, edges)[0] / len(accuracy)
            widths = side * 0.45 * np.sqrt(shares / shares.max())
            colour = drawing.category_colour(number)
            axis.barh(edges[:-1], widths, height=1 / BINS, left=place, align="edge", color=colour, linewidth=0)
            median = np.median(accuracy)
            axis.plot([place, place + side * 0.45], [median, median], color=drawing.INK, linewidth=1.2)
    for number, activation in enumerate(activations):
        axis.bar(0, 0, color=drawing.category_colour(number), label=activation)
    axis.axhline(CHANCE, color=drawing.GREY, linestyle=":", linewidth=1)
    drawing.name_columns(axis, [found.name for found in collections], straight=3)
    axis.set(ylabel="final test accuracy", ylim=(0, 1), xlim=(-0.6, len(collections) - 0.4))
    axis.grid(visible=False, axis="x")
    drawing.as_percent(axis.yaxis)
    axis.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=len(activations), fontsize=8)


def _cumulative(axis: Axes, collections: Sequence[CollectionResults], activation: str) -> None:
    for place, found in enumerate(collections):
        accuracy = _with(found, activation)
        if len(accuracy):
            axis.ecdf(accuracy, color=drawing.category_colour(place + 2), linewidth=1.8, label=found.name)
    axis.axvline(CHANCE, color=drawing.GREY, linestyle=":", linewidth=1)
    axis.set(title=activation, xlabel="final test accuracy", xlim=(0, 1), ylim=(0, 1))
    drawing.as_percent(axis.xaxis)
    drawing.as_percent(axis.yaxis)


def _with(found: CollectionResults, activation: str) -> Floats:
    return found.accuracy[(found.final["config.activation"] == activation).to_numpy()]


def map_picture(results: Results) -> Picture | None:
    """Return 2-d maps of the statistics of all layers, one row a collection; None where they were not computed."""
    mapped = [found for found in results.collections if found.statistics is not None]
    if not mapped:
        return None

    def paint(figure: Figure) -> None:
        panels = 1 + len(MAP_COLUMNS)
        axes = figure.subplots(len(mapped), panels, squeeze=False, sharex="row", sharey="row")
        for row, found in zip(axes, mapped, strict=True):
            _map_row(figure, row, found)

    return Picture(
        name="maps",
        title="Do good networks lie together?",
        caption="Each dot is a network after its last epoch, placed by the statistics of its weights alone: their two "
        "principal components, of ranks within the collection. What shares a place has similar weights; the same map "
        "is coloured three times. Colours that separate on the left are what a predictor can learn.",
        alt=f"Maps of {len(mapped)} collections by the first two principal components of the weights' statistics, "
        "coloured by final test accuracy, by activation and by optimizer.",
        png=drawing.draw(10, 0.4 + 3.1 * len(mapped), paint),
    )


def _map_row(figure: Figure, axes: Sequence[Axes], found: CollectionResults) -> None:
    assert found.statistics is not None
    places, shares = principal_components(found.statistics)
    shown = drawing.spread(len(places), drawing.MOST_POINTS)
    x, y = places[shown].T
    style = drawing.dot_style(len(shown)) | {"alpha": 0.85}
    dots = axes[0].scatter(x, y, c=found.accuracy[shown], cmap="viridis", vmin=0, vmax=1, **style)
    axes[0].set_title(f"{found.name}, by accuracy")
    bar = figure.colorbar(dots, ax=axes[0], pad=0.01, aspect=30)
    drawing.as_percent(bar.ax.yaxis)
    for axis, name in zip(axes[1:], MAP_COLUMNS, strict=True):
        column = found.final[f"config.{name}"].to_numpy()[shown]
        values = sorted(set(column))
        colours = np.array([drawing.category_colour(values.index(value)) for value in column])
        axis.scatter(x, y, c=colours, **style)
        for number, value in enumerate(values):
            axis.scatter([], [], color=drawing.category_colour(number), label=value)
        axis.set_title(f"by {name}")
        axis.legend(loc="best", fontsize=8, handletextpad=0.1, borderaxespad=0.1)
    for axis in axes:
        axis.set_xlabel(f"component 1 ({shares[0]:.0%} of the spread)", fontsize=8)
        axis.set_xticks([])
        axis.set_yticks([])
    axes[0].set_ylabel(f"component 2 ({shares[1]:.0%})", fontsize=8)


def principal_components(table: pd.DataFrame) -> tuple[Floats, Floats]:
    """Return the first two principal components (K, 2) of a table (K, F), and the shares of the variance they hold.

    Of ranks, scaled to [-1, 1], as the statistics span many orders of magnitude. A component's sign is that of its
    largest loading. Components that do not exist (one network, one feature, no spread) are zero.
    """
    ranks = table.rank().to_numpy(dtype=np.float64)  # (K, F), ties share the mean of their ranks
    centred = 2 * (ranks - ranks.mean(axis=0)) / len(ranks)
    left, spreads, loadings = np.linalg.svd(centred, full_matrices=False)
    largest = np.abs(loadings).argmax(axis=1)
    signs = np.where(loadings[np.arange(len(loadings)), largest] < 0, -1.0, 1.0)
    places, shares = np.zeros((len(ranks), 2)), np.zeros(2)
    count = min(2, len(spreads))
    places[:, :count] = (left * spreads * signs)[:, :count]
    total = float(np.sum(spreads**2))
    shares[:count] = spreads[:count] ** 2 / total if total > 0 else 0
    return places, shares
