"""Statistics of blocks of rows of weights: percentiles, standard deviation, mean, norms.

The published way maps np.percentile, np.std and np.mean over rows and tensors in Python. Here all sets are computed
from a block of rows at once, and what several of them want only once. The result is that of the plain NumPy formulas
to rounding (tests/features), NaN rows included. Its bits are the same on every processor: NumPy's sums along rows
have a fixed order, unlike its products of vectors, which BLAS adds.

Shape letters: B rows of a block, P parameters of a row, n parameters of a range, F features.
"""

import threading
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray

from cnnzoo.features.order_statistics import percentiles
from cnnzoo.features.parts import Norms, Statistics
from cnnzoo.features.workspace import Workspace
from cnnzoo.network.layout import Layout

Floats = NDArray[np.float32]

Statistic = Callable[["_Described"], Floats]
Range = tuple[int, int]
Place = tuple[int, int]
"""The part, by position, and the column of its table."""

CENTRED = 0.1
"""Rows whose squared mean is at most so much of their mean square have their variance from both, without a second pass:
the difference loses less than one bit."""


class StatisticsPlan:
    """What to compute of which range of a row, and where to put it."""

    def __init__(self, parts: Sequence[Statistics | Norms], layout: Layout) -> None:
        known: dict[object, Statistic] = {}
        self._plan: dict[Range, dict[Statistic, list[Place]]] = {}
        self._percentiles: dict[Range, set[float]] = {}
        self._kept = threading.local()  # a workspace for each thread
        for index, part in enumerate(parts):
            wanted = _statistics_of(part)
            for number, span in enumerate(part.spans(layout)):
                place = span.start, span.end
                if isinstance(part, Statistics):
                    self._percentiles.setdefault(place, set()).update(part.percentiles)
                for column, (name, statistic) in enumerate(wanted, start=number * len(wanted)):
                    one = known.setdefault(name, statistic)
                    self._plan.setdefault(place, {}).setdefault(one, []).append((index, column))

    def describe(self, block: Floats, tables: Sequence[Floats]) -> None:
        """Fill the table (B, F) of each part from a block of rows (B, P)."""
        if not hasattr(self._kept, "workspace"):
            self._kept.workspace = Workspace()
        for (start, end), wanted in self._plan.items():
            ranks = sorted(self._percentiles.get((start, end), ()))
            described = _Described(block[:, start:end], ranks, self._kept.workspace)
            for statistic, places in wanted.items():
                values = statistic(described)
                for table, column in places:
                    tables[table][:, column] = values


def _statistics_of(part: Statistics | Norms) -> list[tuple[object, Statistic]]:
    """Return the columns of each span, with a name by which to know the same statistic again."""
    if isinstance(part, Norms):
        return [("l1", _Described.l1)] if part.order == 1 else [("l2", _Described.l2)]
    ranks = [(q, partial(_Described.percentile, percentile=q)) for q in part.percentiles]
    return [*ranks, ("std", _Described.std), ("mean", _Described.mean)]


class _Described:
    """One range of a block: `values` (B, n), and what was found out about them."""

    def __init__(self, values: Floats, wanted: Sequence[float], workspace: Workspace) -> None:
        self._values = values
        self._workspace = workspace
        self._percentiles: dict[float, Floats] = {}
        if wanted:
            self._percentiles = dict(zip(wanted, percentiles(values, wanted, workspace), strict=True))
        self._mean: Floats | None = None

    def percentile(self, percentile: float) -> Floats:
        """Return a percentile of each row (B,)."""
        return self._percentiles[percentile]

    def mean(self) -> Floats:
        if self._mean is None:
            self._mean = np.asarray(self._values.sum(axis=1) / np.float32(self._values.shape[1]))
        return self._mean

    def std(self) -> Floats:
        mean = self.mean()
        squares = self._mean_square(self._values)
        variance = squares - mean * mean
        far = ~(mean * mean <= CENTRED * squares)  # true for NaN
        if far.any():
            variance[far] = self._mean_square(self._values[far] - mean[far, None])
        return np.sqrt(variance)

    def l1(self) -> Floats:
        sizes = self._workspace.array("sizes", self._values.shape)
        return np.asarray(np.abs(self._values, out=sizes).sum(axis=1))

    def l2(self) -> Floats:
        return np.sqrt(self._sum_of_squares(self._values))

    def _mean_square(self, values: Floats) -> Floats:
        return self._sum_of_squares(values) / np.float32(values.shape[1])

    def _sum_of_squares(self, values: Floats) -> Floats:
        squares = self._workspace.array("squares", values.shape)
        return np.asarray(np.multiply(values, values, out=squares).sum(axis=1))
