"""Descriptions of layers that do not change when hidden units change places: spectra, channels, products.

Moving the hidden units of a network permutes the columns of one layer's matrix and the rows of the next one's. It
leaves singular values as they are, of the matrices and of products of neighbours, and so it does sorted lists.

Shape letters: B rows of a block, P parameters of a row, C channels in, U channels out, F features.
"""

from collections.abc import Sequence
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


def describe_spectra(part: Spectra, layout: Layout, block: Floats) -> Doubles:
    """Return log(1 + s) of the singular values of each layer's kernel (B, F), `block` being (B, P).

    Rows that are not finite in a layer have NaN there. Rounding: s is exact to about 1e-8 of the layer's largest.
    """
    scaled = []
    for layer in select_layers(layout, part.layers, part.name):
        scaled.append(_scaled(_unfolded(layer, block)))
        if layer.positions > 1:
            scaled.append(_scaled(_summed(layer, block)))
    return np.concatenate(_log_singular_values(scaled), axis=1)


def describe_channels(part: Channels, layout: Layout, block: Floats) -> Doubles:
    """Return each layer's biases, norms by output and by input channel, and means by output channel, all sorted."""
    columns = []
    for layer in select_layers(layout, part.layers, part.name):
        kernel = _kernel(layer, block)  # (B, positions, C, U)
        bias = block[:, layer.bias.start : layer.bias.end].astype(np.float64)
        squares = fold(kernel * kernel, axis=1)  # (B, C, U)
        outgoing, incoming = np.sqrt(fold(squares, axis=1)), np.sqrt(fold(squares, axis=2))
        mean = fold(fold(kernel, axis=1), axis=1) / (layer.positions * layer.inputs)
        columns += [bias, outgoing, incoming, mean]
    return np.concatenate([np.sort(column, axis=1) for column in columns], axis=1)


def describe_products(part: Products, layout: Layout, block: Floats) -> Doubles:
    """Return log(1 + s) of the singular values of products of layers (B, F); NaN for rows that are not finite."""
    scaled, ranks = [], []
    for chain in part.chains(layout):
        matrices = [_unfolded(chain[0], block), *(_summed(layer, block) for layer in chain[1:])]
        scaled.append(_scaled_product(matrices))
        ranks.append(chain_rank(chain))
    values = zip(_log_singular_values(scaled), ranks, strict=True)
    return np.concatenate([value[:, :rank] for value, rank in values], axis=1)


def _kernel(layer: Layer, block: Floats) -> Doubles:
    """Return a layer's kernels, float64 (B, positions, C, U)."""
    flat = block[:, layer.kernel.start : layer.kernel.end].astype(np.float64)
    return flat.reshape(len(block), layer.positions, layer.inputs, layer.outputs)


def _unfolded(layer: Layer, block: Floats) -> Doubles:
    return _kernel(layer, block).reshape(len(block), -1, layer.outputs)  # (B, positions * C, U)


def _summed(layer: Layer, block: Floats) -> Doubles:
    return fold(_kernel(layer, block), axis=1)  # (B, C, U)


class _Scaled(NamedTuple):
    """Matrices divided by powers of two, so that nothing overflows."""

    matrices: Doubles
    """(B, m, n), 0 for those that are not finite."""
    logarithms: Doubles
    """Of what they were divided by, (B,); NaN for those that are not finite."""


def _scaled(matrices: Doubles) -> _Scaled:
    largest = np.maximum(matrices.max(axis=(1, 2)), -matrices.min(axis=(1, 2)))
    finite = np.isfinite(largest)
    exponents = np.frexp(np.where(finite, largest, 0))[1]
    scaled = matrices * np.ldexp(1.0, -exponents)[:, None, None]
    scaled[~finite] = 0
    return _Scaled(scaled, np.where(finite, exponents * (LN2_HIGH + LN2_LOW), np.nan))


def _scaled_product(matrices: Sequence[Doubles]) -> _Scaled:
    """Return the product of matrices (B, m, n) (B, n, k) ...: (B, m, k)."""
    result = _scaled(matrices[0])
    for matrix in matrices[1:]:
        factor = _scaled(matrix)
        result = _Scaled(product(result.matrices, factor.matrices), result.logarithms + factor.logarithms)
    return result


def _log_singular_values(several: Sequence[_Scaled]) -> list[Doubles]:
    """Return log(1 + s), descending, of matrices (B, m, n) of any shapes: (B, min(m, n)) each.

    From the eigenvalues of the smaller Gram matrix: five times as fast as a singular value decomposition. Those of one
    size are taken together.
    """
    grams = [gram(_upright(each.matrices)) for each in several]
    found: dict[int, list[Doubles]] = {}
    for size in {each.shape[1] for each in grams}:
        together = [each for each in grams if each.shape[1] == size]
        found[size] = np.split(eigenvalues(np.concatenate(together)), len(together))
    values = [found[each.shape[1]].pop(0)[:, ::-1] for each in grams]
    return [_log_one_plus(squares, each.logarithms) for squares, each in zip(values, several, strict=True)]


def _upright(matrices: Doubles) -> Doubles:
    return matrices.transpose(0, 2, 1) if matrices.shape[1] < matrices.shape[2] else matrices


def _log_one_plus(squares: Doubles, logarithms: Doubles) -> Doubles:
    """Return log(1 + s) (B, n) of s = exp(logarithms) * sqrt(squares), where s may be too large for a number."""
    logs = log(np.maximum(squares, 0)) / 2 + logarithms[:, None]
    return np.maximum(logs, 0) + log1p(exp(-np.abs(logs)))
