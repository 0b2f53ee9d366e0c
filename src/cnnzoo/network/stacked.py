"""The forward pass of many networks at once, in torch: what training in batches and learned probes have in common.

Shape letters: N networks, P parameters, B images, H W sides of a feature map, Q = H * W positions, C channels in,
U channels out, K = 9 * C inputs of one position, Z classes.
"""

from collections.abc import Callable

from torch import Tensor

from cnnzoo.network.layout import Layout, Variable

Patches = Callable[[Tensor], tuple[Tensor, int]]
"""im2col: (N or 1, B, H, W, C) -> (N or 1, B * Q, K) in the order (row, column, channel) of a kernel, and the side."""
OnLayer = Callable[[Tensor, Tensor], Tensor]
"""Called with the patches and the activations (N, B, H, W, U) of each convolution; returns what the next layer sees."""


def run_networks(
    rows: Tensor,
    images: Tensor,
    layout: Layout,
    patches: Patches,
    activate: Callable[[Tensor], Tensor],
    on_layer: OnLayer,
) -> tuple[Tensor, Tensor]:
    """Return pooled features (N, B, U) and logits (N, B, Z) of networks `rows` (N, P) on images (B, H, W, C)."""
    *convolutions, (dense_bias, dense_kernel) = layout.layers
    features = images[None]  # (1, B, H, W, C): before the first layer all networks see the same
    for bias, kernel in convolutions:
        columns, side = patches(features)
        activated = activate(columns @ matrix(rows, kernel) + vector(rows, bias))  # (N, B * Q, U)
        features = on_layer(columns, activated.view(len(rows), len(images), side, side, -1))
    pooled = features.mean(dim=(2, 3))
    return pooled, pooled @ matrix(rows, dense_kernel) + vector(rows, dense_bias)


def matrix(rows: Tensor, variable: Variable) -> Tensor:
    """Return a kernel of all networks as matrices (N, K, U)."""
    return rows[:, variable.start : variable.end].view(len(rows), -1, variable.shape[-1])


def vector(rows: Tensor, variable: Variable) -> Tensor:
    """Return a bias of all networks, (N, 1, U)."""
    return rows[:, None, variable.start : variable.end]
