"""Features of many rows: blocks from a file, on threads, each block described by every part at once.

NumPy releases Python's lock in what takes long, so threads use all cores; BLAS is held to one thread in each.

Shape letters: R rows, P parameters of a row, B rows of a block, F features.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from cnnzoo.core.errors import CnnzooError
from cnnzoo.features.invariants import describe_channels, describe_products, describe_spectra
from cnnzoo.features.parts import Channels, Computed, Norms, Probes, Products, Spectra, Statistics
from cnnzoo.features.probes import Probing
from cnnzoo.features.statistics import StatisticsPlan
from cnnzoo.network.layout import Layout
from cnnzoo.zoo.format import read_rows

Floats = NDArray[np.float32]
Describe = Callable[[Floats, Sequence[str]], NDArray[np.float32] | NDArray[np.float64]]
"""From a block (B, P) and its networks' activations to features (B, F)."""

BLOCK_ROWS = 512
"""Rows of a block: 10 MB of the published network; fewer cost more calls, more memory and no less time (measured)."""


def compute(
    weights: Floats,
    layout: Layout,
    parts: Sequence[Computed],
    threads: int = 1,
    activations: Sequence[str] | None = None,
) -> list[Floats]:
    """Return the features of every row, float32 (R, F) for each part, of `weights` (R, P), usually a memory map.

    `activations` are those of the R networks, which `Probes` need. Raises `CnnzooError` for a layer that the networks
    lack, or if activations are needed and missing.
    """
    tables = [np.empty((len(weights), len(part.columns(layout))), dtype=np.float32) for part in parts]
    if activations is None and any(isinstance(part, Probes) for part in parts):
        raise CnnzooError("feature set `probes`: networks can only be run if their activations are given")
    pairs = list(zip(parts, tables, strict=True))
    streamed = [(part, table) for part, table in pairs if isinstance(part, Statistics | Norms)]
    plan = StatisticsPlan([part for part, _ in streamed], layout)
    others = [(_describer(part, layout), table) for part, table in pairs if not isinstance(part, Statistics | Norms)]

    def work(start: int) -> None:
        rows = slice(start, min(start + BLOCK_ROWS, len(weights)))
        block = read_rows(weights, rows.start, rows.stop)
        with np.errstate(over="ignore", invalid="ignore"):  # rows with huge weights, infinity or NaN
            plan.describe(block, [table[rows] for _, table in streamed])
            for describe, table in others:
                table[rows] = describe(block, activations[rows] if activations is not None else ())
        for table in tables:
            _make_canonical(table[rows])

    with threadpool_limits(1, user_api="blas"), ThreadPoolExecutor(max(1, threads)) as pool:
        list(pool.map(work, range(0, len(weights), BLOCK_ROWS)))
    return tables


def _make_canonical(table: Floats) -> None:
    """Leave one kind of zero and of NaN: which one comes out of a sort or a maximum depends on the processor."""
    table += np.float32(0)  # -0.0 becomes 0.0
    table[np.isnan(table)] = np.nan


def _describer(part: Spectra | Channels | Products | Probes, layout: Layout) -> Describe:
    match part:
        case Spectra():
            return lambda block, _: describe_spectra(part, layout, block)
        case Channels():
            return lambda block, _: describe_channels(part, layout, block)
        case Products():
            return lambda block, _: describe_products(part, layout, block)
        case Probes():
            return Probing(part, layout).describe
