"""How every figure looks, and how it becomes a file: the same data give the same bytes.

Figures are made as objects on the Agg canvas; nothing is global, no display is needed.
"""

import io
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import Colormap
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullLocator, PercentFormatter
from numpy.typing import NDArray

DOTS_PER_INCH = 144
INK, GREY, PALE, ACCENT, TREND = "#1f2933", "#6b7784", "#d5dbe1", "#1f6fb2", "#b5361c"
CATEGORY_COLOURS = ("#2a8f6d", "#c2477f", "#5560b8", "#b8902a", "#5b7f95", "#8c5a3c")
"""For collections, activations, optimizers ...: none of the colours that stand for what a predictor knows."""
STYLE: dict[Any, Any] = {
    "axes.axisbelow": True,
    "axes.edgecolor": PALE,
    "axes.grid": True,
    "axes.labelcolor": INK,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlelocation": "left",
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "grid.color": "#eceff2",
    "legend.frameon": False,
    "text.color": INK,
    "xtick.color": GREY,
    "ytick.color": GREY,
}
LABEL_LETTERS = 62
"""Letters of a label in one line, at most."""
MOST_POINTS = 4000
"""Points that a scatter plot shows at most: more only blacken it."""


@dataclass(frozen=True)
class Picture:
    """One figure of the report's page."""

    name: str
    """Name of its file, without the ending."""
    title: str
    caption: str
    alt: str
    """What it shows, for who cannot see it."""
    png: bytes


def draw(width: float, height: float, paint: Callable[[Figure], Any]) -> bytes:
    """Return the PNG file of a figure of `width` x `height` inches that `paint` fills."""
    with rc_context(STYLE):
        figure = Figure(figsize=(width, height), dpi=DOTS_PER_INCH, layout="constrained")
        canvas = FigureCanvasAgg(figure)
        paint(figure)
        file = io.BytesIO()
        canvas.print_png(file, metadata={"Software": None})  # type: ignore[no-untyped-call]  # print_figure lays out twice
    return file.getvalue()


def as_percent(axis: Any) -> None:
    """Show fractions on an axis as percentages."""
    axis.set_major_formatter(PercentFormatter(1, decimals=0))


def as_plain(axis: Any, ticks: list[int]) -> None:
    """Put whole numbers as ticks on an axis of any scale."""
    axis.set_ticks(ticks)
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.0f}"))


def spread(count: int, most: int) -> NDArray[np.int64]:
    """Return at most `most` of the positions 0 ... count - 1, evenly spread."""
    return np.unique(np.linspace(0, count - 1, min(count, most)).round().astype(np.int64))


def jitter(count: int) -> NDArray[np.float64]:
    """Return offsets in (-0.5, 0.5) that keep points apart: the golden-ratio sequence, not chance."""
    golden_ratio = (np.sqrt(5) - 1) / 2
    places: NDArray[np.float64] = np.arange(1, count + 1) * golden_ratio % 1 - 0.5
    return places


def dot_style(count: int) -> dict[str, Any]:
    """Return size, opacity and edge of `count` points: many are small and pale."""
    return {
        "s": float(np.clip(2000 / max(count, 1), 5, 26)),
        "alpha": float(np.clip(300 / max(count, 1), 0.25, 0.8)),
        "linewidths": 0,
    }


def against_truth(
    axis: Axes, target: NDArray[np.float64], predicted: NDArray[np.float64], colour: str = ACCENT
) -> None:
    """Draw predicted over true accuracies, both (n,) fractions, with the diagonal of exact predictions."""
    shown = spread(len(target), MOST_POINTS)
    axis.axline((0, 0), slope=1, color=GREY, linewidth=1)
    axis.scatter(target[shown], predicted[shown], color=colour, **dot_style(len(shown)))
    axis.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), aspect="equal")


def category_colour(place: int) -> str:
    """Return the colour of the category at a place of a list; more categories than colours share them."""
    return CATEGORY_COLOURS[place % len(CATEGORY_COLOURS)]


def name_columns(axis: Axes, names: Sequence[str], straight: int) -> None:
    """Write names below the places 0, 1, ... of the x axis; more than `straight` of them are rotated."""
    style: dict[str, Any] = {"rotation": 30, "ha": "right", "rotation_mode": "anchor"} if len(names) > straight else {}
    axis.set_xticks(range(len(names)), names, fontsize=8, **style)
    axis.tick_params(axis="x", labelcolor=INK)


def wrapped(label: str, letters: int = LABEL_LETTERS) -> str:
    """Break a long label into lines that leave room for the figure."""
    return "\n".join(textwrap.wrap(label, letters, break_long_words=False)) or label


def cells(axis: Axes, texts: NDArray[np.str_], shades: NDArray[np.float64], colours: Colormap) -> None:
    """Draw a table of rows x columns whose cells are filled by `shades` in [0, 1]; NaN stays empty."""
    axis.imshow(shades, cmap=colours, vmin=0, vmax=1, aspect="auto")
    for (row, column), shade in np.ndenumerate(shades):
        if np.isfinite(shade):
            axis.text(
                column,
                row,
                str(texts[row, column]),
                ha="center",
                va="center",
                fontsize=8,
                color=_readable(colours(shade)),
            )
    axis.grid(visible=False)
    axis.tick_params(length=0, labelcolor=INK)
    axis.spines[:].set_visible(False)
    rows, columns = shades.shape
    for edge in range(1, rows):
        axis.axhline(edge - 0.5, color="white", linewidth=1.5)
    for edge in range(1, columns):
        axis.axvline(edge - 0.5, color="white", linewidth=1.5)


def _readable(background: tuple[float, float, float, float]) -> str:
    """Return the colour of a text that is legible on a background: by the luma of its red, green and blue."""
    red, green, blue, _ = background
    return INK if 0.299 * red + 0.587 * green + 0.114 * blue > 0.55 else "white"
