"""Augmentation by the symmetry of hidden units: the same function, another row of weights.

Shape letters: B rows, P parameters, L hidden layers, U units.
"""

import numpy as np
import torch
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


def permute_hidden_units(
    weights: NDArray[np.float32], layout: Layout, orders: NDArray[np.int64]
) -> NDArray[np.float32]:
    """Return rows float32 (B, P) of the same networks whose hidden units stand in the orders (B, L, U)."""
    places = torch.from_numpy(_places(layout, orders))
    moved: NDArray[np.float32] = torch.from_numpy(weights).gather(1, places).numpy()
    return moved


def _places(layout: Layout, orders: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the place in its row that each permuted number comes from, (B, P)."""
    count = len(orders)
    places = np.empty((count, layout.size), dtype=np.int64)
    inputs = np.zeros((count, 0), dtype=np.int64)
    for layer, (bias, kernel) in enumerate(layout.layers):
        ins, outs = kernel.shape[-2:]
        if layer == 0:
            inputs = np.broadcast_to(np.arange(ins), (count, ins))
        last = layer == len(layout.layers) - 1
        outputs = np.broadcast_to(np.arange(outs), (count, outs)) if last else orders[:, layer]
        places[:, bias.start : bias.end] = bias.start + outputs
        blocks = np.arange(kernel.start, kernel.end, ins * outs)  # one for each position of a convolution
        parts = places[:, kernel.start : kernel.end].reshape(count, len(blocks), ins, outs)
        np.add(blocks[:, None, None], (inputs[:, :, None] * outs + outputs[:, None, :])[:, None], out=parts)
        inputs = outputs
    return places


def _mix(state: NDArray[np.uint64]) -> NDArray[np.uint64]:
    state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return state ^ (state >> np.uint64(31))
