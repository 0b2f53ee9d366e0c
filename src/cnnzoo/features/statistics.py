"""Statistics of rows of weights, streamed: bounded memory, all cores, as fast as the order statistics allow.

The published way maps np.percentile, np.std and np.mean over rows and tensors in Python. Here a block of rows is
read from the memory map at a time and all sets are computed from it; blocks run on threads (NumPy releases the GIL).
The result is that of the plain NumPy formulas to rounding (tests/features), NaN rows included.

Shape letters: R rows, B rows of a block, P parameters of a row, n parameters of a span, Q percentiles, F features.
"""

import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from cnnzoo.features.names import Norms, Span, Statistics
from cnnzoo.layout import Layout

Computed = Statistics | Norms

BLOCK_ROWS = 128
"""Rows of a block: 2.5 MB of the published network, so that what a block needs stays in cache."""
RUN_WIDTH = 256
"""Longest sorted run: up to here x86-simd-sort (inside NumPy) uses bitonic networks, 1.1 ns a value; beyond it
partitions with compressed stores, 9 ns a value on Zen 4 and 4 ns with AVX2 (measured, NumPy 2.4)."""
SLICE_WIDTH = 384
"""Most values that one percentile sorts after the runs; 384 still take the fast path (1.6 ns a value)."""


def compute(
    weights: NDArray[np.float32], layout: Layout, parts: Sequence[Computed], threads: int = 1
) -> list[NDArray[np.float32]]:
    """Return the features of every row, float32 (R, F) for each part, of `weights` (R, P), usually a memory map."""
    tables = [np.empty((len(weights), len(part.columns(layout))), dtype=np.float32) for part in parts]

    def work(start: int) -> None:
        stop = min(start + BLOCK_ROWS, len(weights))
        block = _Block(np.asarray(weights[start:stop]))
        for part, table in zip(parts, tables, strict=True):
            _describe(block, part, part.spans(layout), table[start:stop])

    with ThreadPoolExecutor(max(1, threads)) as pool:
        list(pool.map(work, range(0, len(weights), BLOCK_ROWS)))
    return tables


def _describe(block: "_Block", part: Computed, spans: Sequence[Span], out: NDArray[np.float32]) -> None:
    """Fill `out` (B, F) with one part's features."""
    width = out.shape[1] // len(spans)
    for index, span in enumerate(spans):
        columns = out[:, index * width : (index + 1) * width]
        if isinstance(part, Norms):
            columns[:, 0] = block.norm(span, part.order)
            continue
        for column, percentile in enumerate(part.percentiles):
            columns[:, column] = block.percentile(span, percentile)
        columns[:, -2], columns[:, -1] = block.std(span), block.mean(span)


class _Block:
    """A block of rows (B, P); what several sets need is computed once."""

    def __init__(self, rows: NDArray[np.float32]) -> None:
        self._rows = rows
        self._kept: dict[tuple[str, int, int, float], NDArray[np.float32]] = {}
        self._runs: dict[tuple[int, int], NDArray[np.float32]] = {}

    def _values(self, span: Span) -> NDArray[np.float32]:
        return self._rows[:, span.start : span.end]

    def percentile(self, span: Span, percentile: float) -> NDArray[np.float32]:
        key = ("percentile", span.start, span.end, percentile)
        if key not in self._kept:
            self._kept[key] = self._percentile(span, percentile)
        return self._kept[key]

    def _percentile(self, span: Span, percentile: float) -> NDArray[np.float32]:
        """Return one percentile of each row (B,), linear between order statistics, NaN for a row with a NaN."""
        if percentile in (0, 100):
            extreme = np.min if percentile == 0 else np.max
            return np.asarray(extreme(self._values(span), axis=1))
        place = percentile / 100 * (span.end - span.start - 1)
        low, fraction = int(place), place - int(place)
        below, above = _order_statistics(self._values(span), self._sorted_runs(span), low)
        below, above = below.astype(np.float64), above.astype(np.float64)
        with np.errstate(invalid="ignore"):  # infinite weights: inf - inf, as in np.percentile
            between = below if fraction == 0 else below + (above - below) * fraction
        result = between.astype(np.float32)
        result[np.isnan(self.percentile(span, 100))] = np.nan
        return result

    def _sorted_runs(self, span: Span) -> NDArray[np.float32]:
        key = (span.start, span.end)
        if key not in self._runs:
            self._runs[key] = _sort_runs(self._values(span))
        return self._runs[key]

    def mean(self, span: Span) -> NDArray[np.float32]:
        key = ("mean", span.start, span.end, 0.0)
        if key not in self._kept:
            self._kept[key] = self._values(span).mean(axis=1)
        return self._kept[key]

    def std(self, span: Span) -> NDArray[np.float32]:
        key = ("std", span.start, span.end, 0.0)
        if key not in self._kept:
            centred = self._values(span) - self.mean(span)[:, None]
            self._kept[key] = np.sqrt(np.einsum("bn,bn->b", centred, centred) / np.float32(centred.shape[1]))
        return self._kept[key]

    def norm(self, span: Span, order: int) -> NDArray[np.float32]:
        values = self._values(span)
        result = np.abs(values).sum(axis=1) if order == 1 else np.sqrt(np.einsum("bn,bn->b", values, values))
        return np.asarray(result, dtype=np.float32)


def _sort_runs(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Deal each row (B, n) out over m runs of at most RUN_WIDTH values and sort each run: (B, m, w).

    Value i goes to run i mod m, so that every run samples all channels and positions of a kernel alike. What is
    missing to m * w is filled with +inf, which leaves the order statistics below n as they are.
    """
    count = values.shape[1]
    runs = math.ceil(count / RUN_WIDTH)
    width = math.ceil(count / runs)
    if runs * width > count:
        padded = np.full((len(values), runs * width), np.inf, dtype=np.float32)
        padded[:, :count] = values
        values = padded
    dealt = values.reshape(len(values), width, runs).transpose(0, 2, 1).copy()  # (B, m, w)
    dealt.sort(axis=2)
    return dealt


def _order_statistics(
    values: NDArray[np.float32], runs: NDArray[np.float32], low: int
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the order statistics `low` and `low + 1` (from 0) of each row: two arrays (B,).

    They lie near the same relative place in every sorted run, so it is enough to sort a slice around that place:
    what stands left of the slice in any run is taken as smaller, what stands right as larger. Where that turns out
    not to hold (checked for every row), the whole row (B, n) is sorted. Exact for any distribution, fast for dealt
    weights: the place in one run scatters by at most sqrt(w) / 2 = 8 values, half a slice is 21 for 9 runs.
    """
    rows, number, width = runs.shape
    centre = round(low / number)
    half = max(2, SLICE_WIDTH // number // 2)
    begin, end = max(0, centre - half), min(width, centre + half)
    middle = runs[:, :, begin:end].reshape(rows, -1)
    if number > 1:
        middle.sort(axis=1)
    rank = low - number * begin
    below, above = middle[:, rank].copy(), middle[:, min(rank + 1, middle.shape[1] - 1)].copy()
    wrong = np.zeros(rows, dtype=bool)
    if begin > 0:
        wrong |= ~(runs[:, :, begin - 1].max(axis=1) <= below)
    if end < width:
        wrong |= ~(runs[:, :, end].min(axis=1) >= above)
    if wrong.any():
        whole = np.sort(values[wrong], axis=1)
        below[wrong], above[wrong] = whole[:, low], whole[:, low + 1]
    return below, above
