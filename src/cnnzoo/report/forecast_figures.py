"""Figures of forecasts: how early the final accuracy can be predicted; what stopping bad runs early costs and saves."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cnnzoo import drawing
from cnnzoo.drawing import Picture
from cnnzoo.report.leaderboard_figures import KIND_COLOURS, SCORES
from cnnzoo.report.results import CollectionResults

LOWEST_SHOWN = -0.1
LESSON_SHARE = 0.5
"""The share of stopped networks that the lesson in words is about."""
KEEP_AT_LEAST = 0.95
"""The share of the best networks that must go on for early stopping to be called safe."""
MOST_STOPPED = 2
COMPARED = {
    "weights": "the weights",
    "accuracy": "the accuracy so far",
    "hyper": "the hyperparameters",
    "weights+hyper+accuracy": "all three together",
}
"""The inputs of the lesson about ranking, in words."""
ACCURACY = "#2a8f6d"


@dataclass(frozen=True)
class Line:
    """How an input is drawn."""

    input: str
    label: str
    colour: str
    style: str = "-"


LINES = (
    Line("weights+hyper+accuracy", "weights + hyperparameters + accuracy so far", drawing.INK),
    Line("weights+accuracy", "weights + accuracy so far", drawing.ACCENT, "--"),
    Line("weights", "weights", drawing.ACCENT),
    Line("hyper+accuracy", "hyperparameters + accuracy so far", KIND_COLOURS["hyperparameters"], "--"),
    Line("hyper", "hyperparameters", KIND_COLOURS["hyperparameters"]),
    Line("accuracy", "accuracy so far", ACCURACY),
    Line("accuracy as it is", "accuracy so far, taken as it is", drawing.GREY, ":"),
)
"""In the order of the legend. Inputs that are not listed are not drawn."""


def forecast_picture(found: CollectionResults) -> Picture:
    """Return the scores of forecasts over the epoch they are made at, and the share of the best kept by stopping."""
    table, stopping = found.forecast, found.stopping
    shares = _stopped_shares(stopping)
    lines = [line for line in LINES if line.input in set(table["input"])]

    def paint(figure: Figure) -> None:
        axes = figure.subplots(1, len(SCORES) + len(shares))
        for axis, (name, title) in zip(axes, SCORES.items(), strict=False):
            for line in lines:
                _curve(axis, table[table["input"] == line.input], line, name)
            axis.set(title=title, ylim=(_lowest(table, name), 1.02))
        for axis, share in zip(axes[len(SCORES) :], shares, strict=True):
            own = stopping[stopping["stopped"] == share]
            for line in lines:
                _curve(axis, own[own["input"] == line.input], line, "kept_best")
            axis.set(title=f"{share:.0%} stopped:\nshare of the best kept", ylim=(-0.02, 1.02))
            drawing.as_percent(axis.yaxis)
        for axis in axes:
            _epoch_axis(axis, found.zoo.epochs)
        handles, labels = axes[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=3, fontsize=8, handlelength=3)

    return Picture(
        name=f"{found.name}-forecast",
        title=found.name,
        caption=f"{ranking_lesson(found)} {stopping_lesson(found)} Left: forecasts of the final accuracy of held-out "
        "networks from what is known at an epoch, with bootstrap intervals. Right: the share of the truly best tenth "
        "that goes on when the networks with the lowest forecasts are stopped.",
        alt="Curves over the epoch: R2 and Kendall's tau of forecasts of the final accuracy from "
        f"{', '.join(line.label for line in lines)}, and the share of the best networks that early stopping keeps.",
        png=drawing.draw(2.6 * (len(SCORES) + len(shares)), 3.7, paint),
    )


def _stopped_shares(stopping: pd.DataFrame) -> list[float]:
    """Return the shares of stopped networks to draw: half, and the most."""
    shares = sorted(stopping["stopped"].unique())
    wanted = [min(shares, key=lambda share: abs(share - LESSON_SHARE)), shares[-1]] if shares else []
    return sorted(set(wanted))[:MOST_STOPPED]


def _curve(axis: Axes, table: pd.DataFrame, line: Line, name: str) -> None:
    """Draw a column over epochs, with a band between `<name>_low` and `<name>_high` where there are such columns."""
    table = table.sort_values("epoch")
    if f"{name}_low" in table:
        low, high = (table[f"{name}{end}"].to_numpy() for end in ("_low", "_high"))
        axis.fill_between(table["epoch"], low, high, color=line.colour, alpha=0.12, linewidth=0)
    axis.plot(
        table["epoch"],
        table[name],
        line.style,
        color=line.colour,
        linewidth=1.8,
        marker="o",
        markersize=3,
        label=line.label,
    )


def _lowest(table: pd.DataFrame, name: str) -> float:
    return max(LOWEST_SHOWN, min(0.0, float(table[name].min()) - 0.02)) if table[name].notna().any() else 0.0


def _epoch_axis(axis: Axes, epochs: tuple[int, ...]) -> None:
    """Show epochs on a scale that gives the first ones room: log(1 + epoch)."""
    axis.set_xscale("function", functions=(np.log1p, np.expm1))
    axis.set_xlim(epochs[0], epochs[-1])
    drawing.as_plain(axis.xaxis, [epoch for place, epoch in enumerate(epochs) if _has_room(epochs, place)])
    axis.set_xlabel("epoch of the forecast", fontsize=8)


def _has_room(epochs: tuple[int, ...], place: int) -> bool:
    """Return whether an epoch's label stands free of that of the last epoch and of those between."""
    after = np.log1p(epochs[place + 1 :])
    return len(after) == 0 or bool((after - np.log1p(epochs[place])).min() > 0.1 * np.log1p(epochs[-1]))


def ranking_lesson(found: CollectionResults) -> str:
    """Say in one sentence how well each input forecasts the final ranking soon after the start."""
    started = found.forecast[found.forecast["epoch"] > 0]
    first = started[started["epoch"] == started["epoch"].min()].set_index("input")["kendall_tau"].dropna()
    forecasts = [
        f"{words} with τ {first[name]:.2f}".replace("-", "−") for name, words in COMPARED.items() if name in first
    ]
    if not forecasts:
        return ""
    return f"At epoch {int(started['epoch'].min())} the final ranking is forecast by {_listed(forecasts)}."


def _listed(texts: list[str]) -> str:
    return texts[0] if len(texts) == 1 else f"{', '.join(texts[:-1])} and {texts[-1]}"


def stopping_lesson(found: CollectionResults) -> str:
    """Say in one sentence how early half of the networks can be stopped, and at what loss."""
    last = found.zoo.epochs[-1]
    own = found.stopping[(found.stopping["stopped"] == LESSON_SHARE) & (found.stopping["epoch"] < last)]
    safe = own[own["kept_best"] >= KEEP_AT_LEAST].sort_values(["epoch", "kept_best"], ascending=[True, False])
    if safe.empty:
        return (
            f"No forecast here lets half of the networks be stopped before epoch {last} and keeps "
            f"{KEEP_AT_LEAST:.0%} of the best tenth."
        )
    first = safe.iloc[0]
    labels = {line.input: line.label for line in LINES}
    plain = own[(own["epoch"] == first["epoch"]) & (own["input"] == "accuracy as it is")]["kept_best"]
    beside = f", where the accuracy so far alone keeps {plain.iloc[0]:.0%}" if len(plain) else ""
    return (
        f"Stopping half of the networks at epoch {int(first['epoch'])} of {last} by a forecast from "
        f"{labels.get(first['input'], first['input'])} keeps {first['kept_best']:.0%} of the best tenth{beside}, and "
        f"saves {first['saved']:.0%} of the work."
    )
