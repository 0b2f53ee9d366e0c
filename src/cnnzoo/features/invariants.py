"""Descriptions of layers that do not change when hidden units change places: spectra, channels, products.

Moving the hidden units of a network permutes the columns of one layer's matrix and the rows of the next one's. It
leaves singular values as they are, of the matrices and of products of neighbours, and so it does sorted lists.

Shape letters: B rows of a block, P parameters of a row, C channels in, U channels out, F features.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from cnnzoo.features.parts import Channels, Layer, Products, Spectra, chain_rank, select_layers
from cnnzoo.network.layout import Layout

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]


def describe_spectra(part: Spectra, layout: Layout, block: Floats) -> Doubles:
    """Return log(1 + s) of the singular values of each layer's kernel (B, F), `block` being (B, P).

    Rows that are not finite in a layer have NaN there. Rounding: s is exact to about 1e-8 of the layer's largest.
    """
    columns = []
    for layer in select_layers(layout, part.layers, part.name):
        columns.append(_log_singular_values([_unfolded(layer, block)]))
        if layer.positions > 1:
            columns.append(_log_singular_values([_summed(layer, block)]))
    return np.concatenate(columns, axis=1)


def describe_channels(part: Channels, layout: Layout, block: Floats) -> Doubles:
    """Return each layer's biases, norms by output and by input channel, and means by output channel, all sorted."""
    columns = []
    for layer in select_layers(layout, part.layers, part.name):
        kernel = _kernel(layer, block)  # (B, positions, C, U)
        bias = block[:, layer.bias.start : layer.bias.end].astype(np.float64)
        outgoing = np.sqrt(np.einsum("bpcu,bpcu->bu", kernel, kernel))
        incoming = np.sqrt(np.einsum("bpcu,bpcu->bc", kernel, kernel))
        columns += [bias, outgoing, incoming, kernel.mean(axis=(1, 2))]
    return np.concatenate([np.sort(column, axis=1) for column in columns], axis=1)


def describe_products(part: Products, layout: Layout, block: Floats) -> Doubles:
    """Return log(1 + s) of the singular values of products of layers (B, F); NaN for rows that are not finite."""
    columns = []
    for chain in part.chains(layout):
        matrices = [_unfolded(chain[0], block), *(_summed(layer, block) for layer in chain[1:])]
        columns.append(_log_singular_values(matrices)[:, : chain_rank(chain)])
    return np.concatenate(columns, axis=1)


def _kernel(layer: Layer, block: Floats) -> Doubles:
    """Return a layer's kernels, float64 (B, positions, C, U)."""
    flat = block[:, layer.kernel.start : layer.kernel.end].astype(np.float64)
    return flat.reshape(len(block), layer.positions, layer.inputs, layer.outputs)


def _unfolded(layer: Layer, block: Floats) -> Doubles:
    return _kernel(layer, block).reshape(len(block), -1, layer.outputs)  # (B, positions * C, U)


def _summed(layer: Layer, block: Floats) -> Doubles:
    return np.asarray(_kernel(layer, block).sum(axis=1))  # (B, C, U)


def _log_singular_values(matrices: Sequence[Doubles]) -> Doubles:
    """Return log(1 + s), descending, of the product of matrices (B, m, n) (B, n, k) ...: (B, min(m, k)).

    From the eigenvalues of the smaller Gram matrix: five times as fast as a singular value decomposition. Each matrix
    is divided by its largest entry first, so that nothing overflows.
    """
    logarithm = np.zeros(len(matrices[0]))  # of all that was divided by, (B,)
    product: Doubles | None = None
    for matrix in matrices:
        largest = np.abs(matrix).max(axis=(1, 2))
        logarithm += np.log(np.where(largest == 0, 1, largest))
        usable = (largest > 0) & np.isfinite(largest)
        scaled = np.where(usable[:, None, None], matrix, 0) / np.where(usable, largest, 1)[:, None, None]
        product = scaled if product is None else product @ scaled
    assert product is not None
    flipped = product.transpose(0, 2, 1)
    gram = product @ flipped if product.shape[1] < product.shape[2] else flipped @ product
    squares = np.maximum(np.linalg.eigvalsh(gram)[:, ::-1], 0)
    with np.errstate(divide="ignore"):  # log(0) = -inf stands for s = 0
        logs = np.where(np.isfinite(logarithm)[:, None], np.log(squares) / 2 + logarithm[:, None], np.nan)
    return np.asarray(np.logaddexp(0, logs))
