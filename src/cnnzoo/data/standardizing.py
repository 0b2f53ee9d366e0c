"""Standardisation of weights, fitted to some rows of a collection: the training ones.

Shape letters: S rows, P parameters.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from cnnzoo.core.errors import CnnzooError
from cnnzoo.zoo import Collection

Per = Literal["parameter", "tensor"]
"""Each parameter by its own mean and deviation, or all of a bias or kernel by one: only that is left alone when hidden
units change places."""
CHUNK = 2048
"""Rows read at once: 40 MB of the published matrix."""


@dataclass(frozen=True)
class Standardizer:
    """Subtracts `mean` and divides by `deviation`, each float32 (P,)."""

    mean: NDArray[np.float32]
    deviation: NDArray[np.float32]

    @classmethod
    def fit(cls, zoo: Collection, rows: NDArray[np.int64], per: Per = "tensor") -> "Standardizer":
        """Fit to rows (S,) of a collection, in double precision and a few MB of memory; what is constant stays.

        Raises `CnnzooError` for an unknown `per`.
        """
        if per not in {"parameter", "tensor"}:
            raise CnnzooError(f'`per` must be "parameter" or "tensor", got {per!r}')
        share = _by_tensor if per == "tensor" else _as_it_is
        mean = share(_mean(_chunks(zoo, rows), len(rows)), zoo)
        deviation = np.sqrt(share(_mean((np.square(chunk - mean) for chunk in _chunks(zoo, rows)), len(rows)), zoo))
        deviation[deviation == 0] = 1
        return cls(mean.astype(np.float32), deviation.astype(np.float32))

    def apply(self, weights: NDArray[np.float32]) -> None:
        """Standardise rows float32 (..., P) in the published order, in place."""
        weights -= self.mean
        weights /= self.deviation


def _chunks(zoo: Collection, rows: NDArray[np.int64]) -> Iterator[NDArray[np.float64]]:
    for start in range(0, len(rows), CHUNK):
        yield np.asarray(zoo.weights[rows[start : start + CHUNK]], dtype=np.float64)


def _mean(chunks: Iterable[NDArray[np.float64]], count: int) -> NDArray[np.float64]:
    total: NDArray[np.float64] = np.add.reduce([chunk.sum(axis=0) for chunk in chunks])
    return total / count


def _as_it_is(values: NDArray[np.float64], zoo: Collection) -> NDArray[np.float64]:
    return values


def _by_tensor(values: NDArray[np.float64], zoo: Collection) -> NDArray[np.float64]:
    """Return (P,) with the mean of each tensor in all of its places."""
    return np.concatenate([np.full(v.end - v.start, values[v.start : v.end].mean()) for v in zoo.layout.variables])
