"""Descriptions of layers that do not change when hidden units change places: spectra, channels, products.

Moving the hidden units of a network permutes the columns of one layer's matrix and the rows of the next one's. It
leaves singular values as they are, of the matrices and of products of neighbours, and so it does sorted lists.

Shape letters: B rows of a block, P parameters of a row, C channels in, U channels out, F features.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache, reduce
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cnnzoo.core.arithmetic import LN2_HIGH, LN2_LOW, exp, fold, log, log1p
from cnnzoo.features.eigenvalues import eigenvalues
from cnnzoo.features.exact_products import gram, product
from cnnzoo.features.parts import Channels, Layer, Products, Spectra, chain_rank, select_layers
from cnnzoo.network.layout import Layout

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]

CACHED_ROWS = 128
"""Rows whose matrices are made together: fewer spend the time on Python's lock, more overflow the cache
(measured)."""


def describe_spectra(part: Spectra, layout: Layout, block: Floats) -> Doubles:
    """Return log(1 + s) of the singular values of each layer's kernel (B, F), `block` being (B, P).

    Rows that are not finite in a layer have NaN there. Rounding: s is exact to about 1e-8 of the layer's largest.
    """
    layers = select_layers(layout, part.layers, part.name)

    def matrices(rows: Floats) -> Iterator[_Scaled]:
        for layer in layers:
            kernels = _finite(layer, rows)
            yield _unfolded(kernels)
            if layer.positions > 1:
                yield _summed(kernels)

    return np.concatenate(_log_singular_values(matrices, block), axis=1)


def describe_channels(part: Channels, layout: Layout, block: Floats) -> Doubles:
    """Return each layer's biases, norms by output and by input channel, and means by output channel, all sorted."""
    layers = select_layers(layout, part.layers, part.name)
    return np.concatenate([_channels(layers, rows) for rows in _in_cache(block)])


def describe_products(part: Products, layout: Layout, block: Floats) -> Doubles:
    """Return log(1 + s) of the singular values of products of layers (B, F); NaN for rows that are not finite."""
    chains = part.chains(layout)

    def matrices(rows: Floats) -> Iterator[_Scaled]:
        kernels = cache(lambda layer: _finite(layer, rows))
        summed = cache(lambda layer: _summed(kernels(layer)))
        for chain in chains:
            yield reduce(_product, map(summed, chain[1:]), _unfolded(kernels(chain[0])))

    values = zip(_log_singular_values(matrices, block), chains, strict=True)
    return np.concatenate([value[:, : chain_rank(chain)] for value, chain in values], axis=1)


def _in_cache(block: Floats) -> list[Floats]:
    return [block[start : start + CACHED_ROWS] for start in range(0, len(block), CACHED_ROWS)]


def _channels(layers: Sequence[Layer], rows: Floats) -> Doubles:
    columns = []
    for layer in layers:
        kernel = _kernel(layer, rows)  # (B, positions, C, U)
        bias = rows[:, layer.bias.start : layer.bias.end].astype(np.float64)
        mean = fold(fold(kernel, axis=1), axis=1) / (layer.positions * layer.inputs)
        squares = fold(kernel * kernel, axis=1)  # (B, C, U)
        columns += [bias, np.sqrt(fold(squares, axis=1)), np.sqrt(fold(squares, axis=2)), mean]
    return np.concatenate([np.sort(column, axis=1) for column in columns], axis=1)


def _kernel(layer: Layer, block: Floats) -> Doubles:
    """Return a layer's kernels, float64 (B, positions, C, U)."""
    flat = block[:, layer.kernel.start : layer.kernel.end].astype(np.float64)
    return flat.reshape(len(block), layer.positions, layer.inputs, layer.outputs)


class _Scaled(NamedTuple):
    """Matrices or kernels of any size: 2^exponents * values."""

    values: Doubles
    """(B, m, n) or (B, positions, C, U), 0 for those that are not finite."""
    exponents: Doubles
    """(B,), NaN for those that are not finite."""


def _finite(layer: Layer, rows: Floats) -> _Scaled:
    """Return a layer's kernels (B, positions, C, U)."""
    finite = np.isfinite(rows[:, layer.kernel.start : layer.kernel.end]).all(axis=1)
    kernels = _kernel(layer, rows)
    kernels[~finite] = 0
    return _Scaled(kernels, np.where(finite, 0.0, np.nan))


def _unfolded(kernels: _Scaled) -> _Scaled:
    count, positions, inputs, outputs = kernels.values.shape
    return _Scaled(kernels.values.reshape(count, positions * inputs, outputs), kernels.exponents)


def _summed(kernels: _Scaled) -> _Scaled:
    return _Scaled(fold(kernels.values, axis=1), kernels.exponents)  # (B, C, U)


def _product(left: _Scaled, right: _Scaled) -> _Scaled:
    values, exponents = product(left.values, right.values)
    return _Scaled(values, left.exponents + right.exponents + exponents)


def _log_singular_values(matrices: Callable[[Floats], Iterable[_Scaled]], block: Floats) -> list[Doubles]:
    """Return log(1 + s), descending, of the matrices (B, m, n) that are made of rows of a block: (B, min(m, n)) each.

    From the eigenvalues of the smaller Gram matrix: five times as fast as a singular value decomposition. Those of one
    size are taken together, for the whole block.
    """
    chunks = [
        [_Scaled(gram(_upright(each.values)), each.exponents) for each in matrices(rows)] for rows in _in_cache(block)
    ]
    several = [_Scaled(*map(np.concatenate, zip(*chunk, strict=True))) for chunk in zip(*chunks, strict=True)]
    found: dict[int, list[Doubles]] = {}
    for size in {each.values.shape[1] for each in several}:
        together = [each.values for each in several if each.values.shape[1] == size]
        found[size] = np.split(eigenvalues(np.concatenate(together)), len(together))
    squares = [found[each.values.shape[1]].pop(0)[:, ::-1] for each in several]
    return [_log_one_plus(square, each.exponents) for square, each in zip(squares, several, strict=True)]


def _upright(matrices: Doubles) -> Doubles:
    return matrices.transpose(0, 2, 1) if matrices.shape[1] < matrices.shape[2] else matrices


def _log_one_plus(squares: Doubles, exponents: Doubles) -> Doubles:
    """Return log(1 + s) (B, n) of s = 2^exponents * sqrt(squares), where s may be too large for a number."""
    logs = log(np.maximum(squares, 0)) / 2 + (exponents * (LN2_HIGH + LN2_LOW))[:, None]
    return np.maximum(logs, 0) + log1p(exp(-np.abs(logs)))
