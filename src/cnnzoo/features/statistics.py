"""Statistics of blocks of rows of weights, as fast as the order statistics allow.

The published way maps np.percentile, np.std and np.mean over rows and tensors in Python. Here all sets are computed
from a block of rows at once, and what several of them want only once. The result is that of the plain NumPy formulas
to rounding (tests/features), NaN rows included.

Shape letters: B rows of a block, P parameters of a row, n parameters of a span, Q percentiles, F features.
"""

import math
import threading
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray

from cnnzoo.feature_parts import Norms, Statistics
from cnnzoo.layout import Layout

Floats = NDArray[np.float32]

RUN_WIDTH = 256
"""Longest sorted run: up to here x86-simd-sort (inside NumPy) uses bitonic networks, 1.1 ns a value; beyond it
partitions with compressed stores, 9 ns a value on Zen 4 and 4 ns with AVX2 (measured, NumPy 2.4)."""
SLICE_WIDTH = 384
"""Most values that one percentile sorts after the runs; 384 still take the fast path (1.6 ns a value)."""


Statistic = Callable[["_Described"], Floats]
Range = tuple[int, int]
Place = tuple[int, int]
"""The part, by position, and the column of its table."""


class StatisticsPlan:
    """What to compute of which range of a row, and where to put it."""

    def __init__(self, parts: Sequence[Statistics | Norms], layout: Layout) -> None:
        known: dict[object, Statistic] = {}
        self._plan: dict[Range, dict[Statistic, list[Place]]] = {}
        self._kept = threading.local()  # a workspace for each thread: fresh memory for each block costs 40% of the time
        for index, part in enumerate(parts):
            wanted = _statistics_of(part)
            for number, span in enumerate(part.spans(layout)):
                for column, (name, statistic) in enumerate(wanted, start=number * len(wanted)):
                    places = self._plan.setdefault((span.start, span.end), {})
                    places.setdefault(known.setdefault(name, statistic), []).append((index, column))

    def describe(self, block: Floats, tables: Sequence[Floats]) -> None:
        """Fill the table (B, F) of each part from a block of rows (B, P)."""
        if not hasattr(self._kept, "workspace"):
            self._kept.workspace = _Workspace()
        for (start, end), wanted in self._plan.items():
            described = _Described(block[:, start:end], self._kept.workspace)
            for statistic, places in wanted.items():
                values = statistic(described)
                for table, column in places:
                    tables[table][:, column] = values


def _statistics_of(part: Statistics | Norms) -> list[tuple[object, Statistic]]:
    """Return the columns of each span, with a name by which to know the same statistic again."""
    if isinstance(part, Norms):
        return [("l1", _Described.l1)] if part.order == 1 else [("l2", _Described.l2)]
    percentiles = [(q, partial(_Described.percentile, percentile=q)) for q in part.percentiles]
    return [*percentiles, ("std", _Described.std), ("mean", _Described.mean)]


class _Workspace:
    """Memory that is used again and again by one thread."""

    def __init__(self) -> None:
        self._buffers: dict[str, Floats] = {}

    def array(self, purpose: str, shape: tuple[int, ...]) -> Floats:
        """Return an uninitialised array; it is valid until the next one of the same purpose."""
        size = math.prod(shape)
        if purpose not in self._buffers or self._buffers[purpose].size < size:
            self._buffers[purpose] = np.empty(size, dtype=np.float32)
        return self._buffers[purpose][:size].reshape(shape)


class _Described:
    """One span of a block: `values` (B, n), and what was found out about them."""

    def __init__(self, values: Floats, workspace: _Workspace) -> None:
        self._values = values
        self._workspace = workspace
        self._runs: Floats | None = None
        self._mean: Floats | None = None

    def percentile(self, percentile: float) -> Floats:
        """Return a percentile of each row (B,), linear between order statistics, NaN for a row with a NaN."""
        if percentile in (0, 100):  # propagate NaN by themselves
            return np.asarray(self._values.min(axis=1) if percentile == 0 else self._values.max(axis=1))
        if self._runs is None:
            self._runs = _sort_runs(self._values, self._workspace)
        place = percentile / 100 * (self._values.shape[1] - 1)
        low, share = int(place), place - int(place)
        below, above = _order_statistics(self._runs, low, math.ceil(place), self._workspace)
        result = _between(below, above, share)
        result[np.isnan(self._runs[:, :, -1].max(axis=1))] = np.nan  # NaN is sorted to the end of its run
        return result

    def mean(self) -> Floats:
        if self._mean is None:
            self._mean = self._values.mean(axis=1)
        return self._mean

    def std(self) -> Floats:
        centred = self._workspace.array("centred", self._values.shape)
        np.subtract(self._values, self.mean()[:, None], out=centred)
        variance: Floats = np.vecdot(centred, centred) / np.float32(centred.shape[1])
        return np.sqrt(variance)

    def l1(self) -> Floats:
        sizes = self._workspace.array("centred", self._values.shape)
        return np.asarray(np.abs(self._values, out=sizes).sum(axis=1))

    def l2(self) -> Floats:
        squares: Floats = np.vecdot(self._values, self._values)
        return np.sqrt(squares)


def _sort_runs(values: Floats, workspace: _Workspace) -> Floats:
    """Deal each row (B, n) out over m runs of at most RUN_WIDTH values and sort each run: (B, m, w).

    Value i goes to run i mod m, so that every run samples all channels and positions of a kernel alike. What is
    missing to m * w is filled with +inf, which leaves the order statistics below n as they are.
    """
    rows, count = values.shape
    number = math.ceil(count / RUN_WIDTH)
    width = math.ceil(count / number)
    runs = workspace.array("runs", (rows, number, width))
    whole = count // number
    runs[:, :, :whole] = values[:, : whole * number].reshape(rows, whole, number).transpose(0, 2, 1)
    if whole < width:
        rest = count - whole * number
        runs[:, :rest, whole] = values[:, whole * number :]
        runs[:, rest:, whole] = np.inf
    runs.sort(axis=2)
    return runs


def _order_statistics(
    runs: Floats, low: int, high: int, workspace: _Workspace, width: int = SLICE_WIDTH
) -> tuple[Floats, Floats]:
    """Return the order statistics `low` and `high` (from 0, equal or neighbours) of each row of `runs` (B, m, w).

    They lie near the same relative place in every run, so it is enough to sort a slice of `width` values around that
    place: what stands left of the slice in any run is taken as smaller, what stands right as larger. Rows where that
    turns out not to hold take a slice twice as wide, at last all their values. So the result is exact for any
    distribution, and fast for dealt weights: the place scatters by at most sqrt(w) / 2 = 8 values from run to run,
    and half a slice of 9 runs is 21.
    """
    rows, number, length = runs.shape
    if number == 1:
        return runs[:, 0, low], runs[:, 0, high]
    centre, half = round(low / number), max(2, width // number // 2)
    begin, end = max(0, centre - half), min(length, centre + half)
    middle = workspace.array("middle", (rows, number, end - begin))
    middle[...] = runs[:, :, begin:end]
    middle = middle.reshape(rows, -1)
    middle.sort(axis=1)
    below, above = middle[:, low - number * begin].copy(), middle[:, high - number * begin].copy()
    wrong = np.zeros(rows, dtype=bool)
    if begin > 0:
        wrong |= ~(runs[:, :, begin - 1].max(axis=1) <= below)
    if end < length:
        wrong |= ~(runs[:, :, end].min(axis=1) >= above)
    if wrong.any():
        below[wrong], above[wrong] = _order_statistics(runs[wrong], low, high, workspace, 2 * width)
    return below, above


def _between(below: Floats, above: Floats, share: float) -> Floats:
    """Interpolate linearly, in float64 as np.percentile does."""
    with np.errstate(invalid="ignore"):  # infinite weights: inf - inf
        return (below + (above.astype(np.float64) - below) * share).astype(np.float32)
