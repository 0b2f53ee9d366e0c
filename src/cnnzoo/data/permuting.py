"""Augmentation by the symmetry of hidden units: the same function, another row of weights.

Shape letters: B rows, P parameters, L hidden layers, U units.
"""

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from cnnzoo.core.seeds import key_words
from cnnzoo.network.layout import Layout


def draw_orders(rows: NDArray[np.int64], layers: int, units: int, seed: int, epoch: int) -> NDArray[np.int64]:
    """Return an order of the units of each hidden layer of each row, int64 (B, L, U).

    A counter-based generator (SplitMix64, Steele et al. 2014): what a row draws in an epoch does not depend on its
    batch, and so neither on worker processes.
    """
    high, low = key_words(seed, "data/permutations", epoch)
    key = np.uint64((high << 32) | low)
    numbers = np.arange(layers * units, dtype=np.uint64)
    counters: NDArray[np.uint64] = rows.astype(np.uint64)[:, None] * np.uint64(layers * units) + numbers
    values = _mix(key + counters * np.uint64(0x9E3779B97F4A7C15))
    return values.reshape(len(rows), layers, units).argsort(axis=-1)


def permute_hidden_units(weights: NDArray[np.float32], layout: Layout, orders: NDArray[np.int64]) -> None:
    """Put the hidden units of each row float32 (B, P) into its order (B, L, U), in place."""
    tensors = layout.split(weights)  # views
    for layer, ((bias, kernel), (_, following)) in enumerate(pairwise(layout.layers)):
        order = orders[:, layer]
        for tensor, axis in ((tensors[bias.name], -1), (tensors[kernel.name], -1), (tensors[following.name], -2)):
            sides = [len(order)] + [1] * (tensor.ndim - 1)
            sides[axis] = order.shape[1]
            tensor[...] = np.take_along_axis(tensor, order.reshape(sides), axis=axis)


def _mix(state: NDArray[np.uint64]) -> NDArray[np.uint64]:
    state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return state ^ (state >> np.uint64(31))
