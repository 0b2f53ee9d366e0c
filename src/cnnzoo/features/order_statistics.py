"""Percentiles of the rows of a block, exact for any distribution, several at once.

NumPy sorts short rows in vector registers, but not long ones; np.percentile moreover partitions at several places with
a slow general algorithm. Here are two ways to select a few order statistics of long rows with what NumPy is fast at.
Which is faster depends on the processor, so both are timed once; they select the same values.

Shape letters: B rows, n values of a row, Q percentiles, m runs of w values.
"""

import math
import time
from collections.abc import Callable, Sequence
from functools import cache

import numpy as np
from numpy.typing import NDArray

from cnnzoo.features.workspace import Workspace

Floats = NDArray[np.float32]
Selected = dict[int, Floats]
"""Order statistics (B,) by rank, from 0. NaN ranks last."""
Select = Callable[[Floats, Sequence[int], Workspace], Selected]

RUN_WIDTH = 256
"""Longest sorted run: up to here x86-simd-sort (inside NumPy) uses bitonic networks, 1.1 to 2.3 ns a value; beyond it
partitions, which cost 9 ns a value on Zen 4 with AVX-512 and 4 ns with AVX2 (measured, NumPy 2.4)."""
SLICE_WIDTH = 384
"""Most values that one percentile sorts after the runs; 384 still take the fast path (1.6 ns a value)."""


def percentiles(values: Floats, wanted: Sequence[float], workspace: Workspace) -> Floats:
    """Return percentiles of each row of `values` (B, n), linear between order statistics, (Q, B).

    The values are those of np.percentile to rounding; a row with a NaN has NaN.
    """
    count = values.shape[1]
    places = [percentile / 100 * (count - 1) for percentile in wanted]
    ranks = sorted({count - 1} | {math.floor(place) for place in places} | {math.ceil(place) for place in places})
    select = by_sorting if count <= RUN_WIDTH else fastest()
    selected = select(values, ranks, workspace)
    below = np.stack([selected[math.floor(place)] for place in places])
    above = np.stack([selected[math.ceil(place)] for place in places])
    result = _between(below, above, np.array([[place - math.floor(place)] for place in places]))
    result[:, np.isnan(selected[count - 1])] = np.nan
    return result


@cache
def fastest() -> Select:
    """Return the faster way to select from long rows on this processor."""
    values = np.random.default_rng(0).standard_normal((64, 9 * RUN_WIDTH), dtype=np.float32)
    quarters = [len(values[0]) * quarter // 4 for quarter in (1, 2, 3)]
    return min((by_partitions, by_runs), key=lambda select: _seconds(select, values, quarters))


def _seconds(select: Select, values: Floats, ranks: Sequence[int]) -> float:
    workspace, best = Workspace(), math.inf
    for _ in range(4):  # the first one warms up
        start = time.thread_time()
        select(values, ranks, workspace)
        best = min(best, time.thread_time() - start)
    return best


def by_sorting(values: Floats, ranks: Sequence[int], workspace: Workspace) -> Selected:
    """Sort the rows: the fastest way for short ones."""
    ordered = workspace.array("ordered", values.shape)
    ordered[...] = values
    ordered.sort(axis=1)
    return {rank: ordered[:, rank] for rank in ranks}


def by_partitions(values: Floats, ranks: Sequence[int], workspace: Workspace) -> Selected:
    """Partition the rows at the middle rank, then each side at the middle of its ranks, and so on.

    np.partition at one place is ten times as fast as at several, because only that is vectorised.
    """
    parted = workspace.array("ordered", values.shape)
    parted[...] = values
    selected: Selected = {}

    def select(begin: int, end: int, wanted: Sequence[int]) -> None:
        """Select ranks that lie in the columns from `begin` to `end`."""
        side = parted[:, begin:end]
        inside = [rank for rank in wanted if begin < rank < end - 1]
        if inside:
            middle = inside[len(inside) // 2]
            side.partition(middle - begin, axis=1)
            selected[middle] = parted[:, middle].copy()
            select(begin, middle, [rank for rank in wanted if rank < middle])
            select(middle + 1, end, [rank for rank in wanted if rank > middle])
            return
        for rank in wanted:
            selected[rank] = side.min(axis=1) if rank == begin else side.max(axis=1)

    select(0, values.shape[1], sorted(ranks))
    return selected


def by_runs(values: Floats, ranks: Sequence[int], workspace: Workspace) -> Selected:
    """Sort runs of the rows, then around each rank the few values that can hold it."""
    runs = _sort_runs(values, workspace)
    selected: Selected = {}
    for rank in ranks:
        if rank in (0, values.shape[1] - 1):
            selected[rank] = values.min(axis=1) if rank == 0 else values.max(axis=1)
        elif rank not in selected:
            following = rank + 1 if rank + 1 in ranks else rank
            selected[rank], selected[following] = _neighbours(runs, rank, following, workspace)
    return selected


def _sort_runs(values: Floats, workspace: Workspace) -> Floats:
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


def _neighbours(
    runs: Floats, low: int, high: int, workspace: Workspace, width: int = SLICE_WIDTH
) -> tuple[Floats, Floats]:
    """Return the order statistics `low` and `high` (from 0, equal or neighbours) of each row of `runs` (B, m, w).

    They lie near the same relative place in every run, so it is enough to sort a slice of `width` values around that
    place: what stands left of the slice in any run is taken as smaller, what stands right as larger. Rows where that
    turns out not to hold take a slice twice as wide, at last all their values. So the result is exact for any
    distribution, and fast for dealt weights: the place scatters by at most sqrt(w) / 2 = 8 values from run to run,
    and half a slice of 9 runs is 21.
    """
    rows, number, length = runs.shape
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
        below[wrong], above[wrong] = _neighbours(runs[wrong], low, high, workspace, 2 * width)
    return below, above


def _between(below: Floats, above: Floats, share: NDArray[np.float64]) -> Floats:
    """Interpolate linearly, in float64 as np.percentile does."""
    with np.errstate(invalid="ignore"):  # infinite weights: inf - inf
        return (below + (above.astype(np.float64) - below) * share).astype(np.float32)
