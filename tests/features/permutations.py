"""Networks whose hidden units or classes have changed places: the same functions, other rows of weights."""

from itertools import pairwise

import numpy as np

from cnnzoo.network.layout import Layout


def permute_hidden_units(weights: np.ndarray, layout: Layout, rng: np.random.Generator) -> np.ndarray:
    """Return rows (N, P) of the same networks with the units of each hidden layer in another order."""
    moved = []
    for row in weights:
        tensors = {name: tensor.copy() for name, tensor in layout.split(row).items()}
        for (bias, kernel), (_, following) in pairwise(layout.layers):
            order = rng.permutation(bias.shape[0])
            tensors[bias.name] = tensors[bias.name][order]
            tensors[kernel.name] = tensors[kernel.name][..., order]
            tensors[following.name] = tensors[following.name][..., order, :]
        moved.append(layout.join(tensors))
    return np.stack(moved)


def permute_classes(weights: np.ndarray, layout: Layout, rng: np.random.Generator) -> np.ndarray:
    """Return rows (N, P) of networks that give the same logits to classes in another order."""
    bias, kernel = layout.layers[-1]
    moved = weights.copy()
    order = rng.permutation(bias.shape[0])
    tensors = layout.split(weights)
    moved[:, bias.start : bias.end] = tensors[bias.name][:, order]
    moved[:, kernel.start : kernel.end] = tensors[kernel.name][..., order].reshape(len(weights), -1)
    return moved


def networks(layout: Layout, count: int = 12, seed: int = 0) -> np.ndarray:
    """Return rows (N, P) of networks from hardly any weights to large ones; some units dead, one network all zero."""
    rng = np.random.default_rng(seed)
    scales = np.geomspace(0.01, 1, count, dtype=np.float32)[:, None]
    weights = rng.standard_normal((count, layout.size), dtype=np.float32) * scales
    bias, kernel = layout.layers[0]
    for part in (bias, kernel):
        layout.split(weights[1:3])[part.name][..., :2] = 0
    weights[-1] = 0
    return weights
