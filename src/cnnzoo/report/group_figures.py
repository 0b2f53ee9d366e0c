"""Figures of networks that belong together: replicates by configuration, pairs by the value that differs."""

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cnnzoo import drawing
from cnnzoo.core.results import TARGET
from cnnzoo.drawing import Picture
from cnnzoo.network.hyperparameters import LABEL_NOISE, RANGED
from cnnzoo.report.groups import GROUP, Components, pair_differences
from cnnzoo.report.results import CollectionResults

ON_LOGARITHMIC_AXIS = ("learning_rate", "l2reg", "init_std")


def replicates_picture(found: CollectionResults, divided: Components) -> Picture:
    """Return the accuracies of all replicates, configurations side by side in the order of their means."""
    final = found.final
    means = final.groupby(GROUP)[TARGET].mean().sort_values()
    place = final[GROUP].map(dict(zip(means.index, range(len(means)), strict=True)))

    def paint(figure: Figure) -> None:
        axis = figure.subplots()
        axis.scatter(place, final[TARGET], s=9, color=drawing.ACCENT, alpha=0.6, linewidths=0, label="a network")
        axis.plot(np.arange(len(means)), means, color=drawing.TREND, linewidth=1, label="mean of a configuration")
        axis.set_xlabel("configurations, by their mean accuracy")
        axis.set_ylabel("final test accuracy")
        drawing.as_percent(axis.yaxis)
        axis.legend(loc="upper left")

    return Picture(
        name=f"{found.name}-replicates",
        title="What the seed alone changes",
        caption="Networks above each other have equal hyperparameters: they differ in initial weights, training "
        "subset, order of minibatches and dropout.",
        alt=f"Final test accuracies of {divided.networks} networks of {divided.configurations} configurations; the "
        f"seed's standard deviation is {np.sqrt(divided.within):.4f}.",
        png=drawing.draw(9, 3.4, paint),
    )


def pairs_picture(found: CollectionResults) -> Picture | None:
    """Return the differences in accuracy within pairs, a panel a hyperparameter; None without pairs."""
    table = pair_differences(found)
    if table.empty:
        return None
    names = sorted(table["hyperparameter"].unique())

    def paint(figure: Figure) -> None:
        axes = figure.subplots(1, len(names), squeeze=False, sharey=True)[0]
        for axis, name in zip(axes, names, strict=True):
            _pairs_panel(axis, table[table["hyperparameter"] == name], name)
        drawing.as_percent(axes[0].yaxis)
        axes[0].set_ylabel("difference in test accuracy")

    means = table.groupby("hyperparameter")["difference"].mean()
    return Picture(
        name=f"{found.name}-pairs",
        title="What one hyperparameter alone changes",
        caption="Each point is a pair of networks with the same seed and the same hyperparameters but one: accuracy "
        "with the second value minus that with the first.",
        alt="Mean differences: " + ", ".join(f"{name} {mean:+.4f}" for name, mean in means.items()) + ".",
        png=drawing.draw(max(5.0, 3.6 * len(names)), 3.4, paint),
    )


def _pairs_panel(axis: Axes, table: pd.DataFrame, name: str) -> None:
    axis.axhline(0, color=drawing.GREY, linewidth=1)
    axis.set_title(name.replace("_", " "))
    if name in (*RANGED, LABEL_NOISE, "train_fraction"):
        values = table[["first", "second"]].astype(float)
        logarithmic = name in ON_LOGARITHMIC_AXIS and bool((values["first"] > 0).all())
        change: Any = values["second"] / values["first"] if logarithmic else values["second"] - values["first"]
        axis.scatter(change, table["difference"], s=12, color=drawing.ACCENT, alpha=0.6, linewidths=0)
        axis.set_xlabel("second value / first value" if logarithmic else "second value − first value")
        axis.set_xscale("log" if logarithmic else "linear")
        return
    labels = table["first"].astype(str) + " → " + table["second"].astype(str)
    kinds = sorted(labels.unique())
    axis.scatter(labels.map(kinds.index), table["difference"], s=12, color=drawing.ACCENT, alpha=0.6, linewidths=0)
    axis.set_xticks(range(len(kinds)), kinds, rotation=30 if len(kinds) > 2 else 0, fontsize=8)
    axis.set_xlim(-0.5, len(kinds) - 0.5)
