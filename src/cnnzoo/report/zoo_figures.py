"""Figures of a collection: what the networks reach, how they learn, and what decides it.

Shape letters: K networks, E checkpoint epochs.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from cnnzoo import drawing
from cnnzoo.drawing import Picture
from cnnzoo.network.hyperparameters import LABEL_NOISE, RANGED, SAMPLED
from cnnzoo.report import tables
from cnnzoo.report.results import CollectionResults

THIN_LINES = 60
NORMAL_INITIALIZERS = ("RandomNormal", "TruncatedNormal")
LOG_BELOW = 0.2
"""A hyperparameter whose median is a smaller share of its largest value is shown on a logarithmic axis."""
LEAST_SPREAD = 1e-3
"""The smallest spread that is distinguished, as a share of the median one."""


def zoo_pictures(found: CollectionResults) -> Iterator[Picture]:
    """Yield the figures of a collection, in the order of the page."""
    yield _accuracies(found)
    yield _learning_curves(found)
    yield _hyperparameters(found)
    yield _weight_map(found)


def _bins(networks: int) -> list[float]:
    """Return the edges of a histogram's bins: finer for more networks."""
    bins: list[float] = np.linspace(0, 1, 51 if networks > 500 else 26).tolist()
    return bins


def _accuracies(found: CollectionResults) -> Picture:
    low, median, high = np.quantile(found.accuracy, [0.05, 0.5, 0.95])

    def paint(figure: Figure) -> None:
        axes = figure.subplots(1, 3, sharex=True, sharey=True)
        axes[0].hist(found.accuracy, _bins(len(found.accuracy)), color=drawing.ACCENT)
        axes[0].axvline(median, color=drawing.INK, linewidth=1)
        axes[0].set(title="All networks", ylabel="networks")
        axes[0].yaxis.set_major_locator(MaxNLocator(integer=True))
        axes[0].margins(y=0.18)  # room for the legends
        for axis, name in zip(axes[1:], ("activation", "optimizer"), strict=True):
            _hist_by(axis, found, name)
        for axis in axes:
            drawing.as_percent(axis.xaxis)
            axis.set_xlabel("final test accuracy")

    return Picture(
        name=f"{found.name}-accuracies",
        title="How good are the networks?",
        caption="Distribution of the final test accuracy; the line marks the median.",
        alt=f"Histograms of the final test accuracy of {len(found.accuracy):,} networks: median {median:.1%}, "
        f"90 percent lie between {low:.1%} and {high:.1%}; also by activation and by optimizer.",
        png=drawing.draw(10, 2.9, paint),
    )


def _hist_by(axis: Axes, found: CollectionResults, name: str) -> None:
    column = found.final[f"config.{name}"]
    values = sorted(column.unique())
    parts = [found.accuracy[(column == value).to_numpy()] for value in values]
    labels = [f"{value} ({len(part):,})" for value, part in zip(values, parts, strict=True)]
    colours = [drawing.category_colour(place) for place in range(len(values))]
    axis.hist(parts, _bins(len(column)), histtype="stepfilled", stacked=True, color=colours, label=labels)
    axis.set_title(f"By {name}")
    axis.legend(loc="upper center", fontsize=7.5, ncols=len(values), handlelength=1, columnspacing=1)


def _learning_curves(found: CollectionResults) -> Picture:
    curve = tables.learning_curve(found)
    epochs = curve["epoch"].tolist()
    start, end = curve["q50"].iloc[0], curve["q50"].iloc[-1]

    def paint(figure: Figure) -> None:
        axis = figure.subplots()
        axis.set_xscale("function", functions=(np.sqrt, np.square))
        table = found.zoo.metrics.pivot_table(index="step", columns="modeldir", values="test_accuracy", sort=True)
        thin = table.to_numpy()[:, drawing.spread(table.shape[1], THIN_LINES)]  # (E, K)
        axis.plot(table.index, thin, color=drawing.GREY, linewidth=0.5, alpha=0.45)
        axis.fill_between(epochs, curve["q05"], curve["q95"], color=drawing.ACCENT, alpha=0.12, label="90% of networks")
        axis.fill_between(
            epochs, curve["q25"], curve["q75"], color=drawing.ACCENT, alpha=0.25, label="half of networks"
        )
        axis.plot(epochs, curve["q50"], "o-", color=drawing.ACCENT, linewidth=2, markersize=4, label="median")
        axis.plot([], [], color=drawing.GREY, linewidth=0.7, label="single networks")
        axis.set(xlabel="epoch (square-root scale)", ylabel="test accuracy", ylim=(0, 1), xlim=(epochs[0], epochs[-1]))
        drawing.as_plain(axis.xaxis, _apart(epochs))
        drawing.as_percent(axis.yaxis)
        axis.legend(loc="upper left", bbox_to_anchor=(1.01, 1))

    return Picture(
        name=f"{found.name}-learning_curves",
        title="How do they learn?",
        caption=f"Test accuracy at the kept epochs {', '.join(map(str, epochs))}.",
        alt=f"Learning curves: the median test accuracy goes from {start:.1%} at epoch {epochs[0]} "
        f"to {end:.1%} at epoch {epochs[-1]}, with bands for half and for 90 percent of the networks.",
        png=drawing.draw(10, 3.6, paint),
    )


def _apart(epochs: list[int]) -> list[int]:
    """Return the epochs whose labels do not overlap on the square-root scale; the last one stays."""
    least = 0.04 * np.sqrt(epochs[-1])
    kept = [epochs[-1]]
    for epoch in reversed(epochs[:-1]):
        if np.sqrt(kept[-1]) - np.sqrt(epoch) >= least:
            kept.append(epoch)
    return kept[::-1]


def _hyperparameters(found: CollectionResults) -> Picture:
    sampled = [*SAMPLED, *[LABEL_NOISE] * (f"config.{LABEL_NOISE}" in found.final)]
    shown = [name for name in sampled if found.final[f"config.{name}"].nunique() > 1]
    columns = min(4, max(1, len(shown)))
    rows = max(1, -(-len(shown) // columns))

    def paint(figure: Figure) -> None:
        axes = figure.subplots(rows, columns, sharey=True, squeeze=False)
        for axis, name in zip(axes.flat, shown, strict=False):
            (_ranged if name in (*RANGED, LABEL_NOISE) else _chosen)(axis, found, name)
            axis.set_title(name)
        for axis in axes.flat[len(shown) :]:
            axis.set_axis_off()
        drawing.as_percent(axes[0, 0].yaxis)
        axes[0, 0].set_ylim(0, 1)
        figure.supylabel("final test accuracy", fontsize=9)

    return Picture(
        name=f"{found.name}-hyperparameters",
        title="What decides?",
        caption="Each dot is a network, its final test accuracy against one hyperparameter; red: medians. "
        "init_std: networks with a RandomNormal or TruncatedNormal initialiser, the ones that use it.",
        alt=f"Scatter plots of the final test accuracy against {', '.join(shown)}.",
        png=drawing.draw(10, 0.4 + 2.5 * rows, paint),
    )


def _ranged(axis: Axes, found: CollectionResults, name: str) -> None:
    """Draw accuracies over a real hyperparameter, with the median of each eighth of the networks."""
    table = found.final
    if name == "init_std":
        table = table[table["config.w_init"].isin(NORMAL_INITIALIZERS)]
    value, accuracy = table[f"config.{name}"].to_numpy(dtype=np.float64), table["test_accuracy"].to_numpy()
    if not len(value):
        return
    if value.min() > 0 and np.median(value) < LOG_BELOW * value.max():
        axis.set_xscale("log")
    _dots(axis, value, accuracy)
    parts = np.array_split(np.argsort(value, kind="stable"), max(1, min(8, len(value) // 8)))
    medians = [(np.median(value[part]), np.median(accuracy[part])) for part in parts]
    axis.plot(*zip(*medians, strict=True), "o-", color=drawing.TREND, linewidth=1.5, markersize=3.5)


def _chosen(axis: Axes, found: CollectionResults, name: str) -> None:
    """Draw accuracies over a category, with the median of each."""
    column = found.final[f"config.{name}"]
    values = sorted(column.unique())
    codes = pd.Categorical(column, categories=values).codes
    _dots(axis, codes + 0.6 * drawing.jitter(len(codes)), found.accuracy)
    for code in range(len(values)):
        median = np.median(found.accuracy[codes == code])
        axis.hlines(median, code - 0.36, code + 0.36, color=drawing.TREND, linewidth=2)
    names = [f"{value:g}" if isinstance(value, float) else str(value) for value in values]
    axis.set_xticks(range(len(values)), names, fontsize=8, rotation=90 if len(values) > 4 else 0)
    axis.grid(visible=False, axis="x")


def _dots(axis: Axes, x: NDArray[np.float64], y: NDArray[Any]) -> None:
    chosen = drawing.spread(len(x), drawing.MOST_POINTS)
    axis.scatter(x[chosen], y[chosen], color=drawing.ACCENT, **drawing.dot_style(len(chosen)))


def _weight_map(found: CollectionResults) -> Picture:
    rows = found.zoo.final()
    rows = rows[drawing.spread(len(rows), drawing.MOST_POINTS)]
    weights = found.zoo.weights[rows]  # (K, P): 80 MB at most
    accuracy = found.zoo.metrics["test_accuracy"].to_numpy()[rows]
    worst_first = np.argsort(accuracy, kind="stable")
    layers = found.zoo.layout.layers

    def paint(figure: Figure) -> None:
        axes = figure.subplots(1, len(layers), squeeze=False)[0]
        for number, (axis, (bias, kernel)) in enumerate(zip(axes, layers, strict=True)):
            spreads = [_positive(weights[:, part.start : part.end].std(axis=1)) for part in (kernel, bias)]
            x, y = (values[worst_first] for values in spreads)
            style = drawing.dot_style(len(x)) | {"alpha": 0.9}
            dots = axis.scatter(x, y, c=accuracy[worst_first], cmap="viridis", vmin=0, vmax=1, **style)
            last = number == len(layers) - 1
            axis.set(xscale="log", yscale="log", xlabel="spread of the kernel")
            axis.set_title("dense layer" if last else f"convolution {number + 1}")
        axes[0].set_ylabel("spread of the bias")
        bar = figure.colorbar(dots, ax=list(axes), label="final test accuracy", pad=0.01)
        drawing.as_percent(bar.ax.yaxis)

    return Picture(
        name=f"{found.name}-weights",
        title="Do the weights show the accuracy?",
        caption="Each dot is a network: standard deviation of a layer's kernel and bias, coloured by final test "
        "accuracy. Where colours separate, the weights alone give the accuracy away. Networks whose weights have all "
        "but vanished stand at the edge.",
        alt="Maps of the networks, one a layer, by the standard deviations of kernel and bias, coloured by accuracy.",
        png=drawing.draw(10, 2.9, paint),
    )


def _positive(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return values fit for a logarithmic axis: those that vanish beside the median one stand at its lower end."""
    median = float(np.median(values))
    return np.maximum(values, LEAST_SPREAD * median if median > 0 else 1.0)
