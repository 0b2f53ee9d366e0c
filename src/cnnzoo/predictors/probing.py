"""Run networks on learned images and describe their answers: what a network does, learned from its raw weights.

The images (probes) are parameters that are trained with the rest, as in ProbeGen (Kahana, Horwitz, Shuval, Hoshen,
arXiv 2410.10811); they start as smooth noise. Since the networks are run as what they are, nothing here changes when
hidden channels are permuted, but to rounding.

Shape letters: B networks, P parameters, K probes, S side of a feature map, I channels in, C channels out, U classes,
D numbers that describe a network.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from cnnzoo.features import Weights
from cnnzoo.network.layout import KERNEL_SIZE, STRIDE, Architecture, Layout, layout_of
from cnnzoo.network.stacked import run_networks

Activation = Callable[[Tensor], Tensor]
SMALLEST_SIDE = 15
"""Side of the probes of networks with up to three layers, whose last feature map then is one pixel."""
SMALL = 1e-4
"""What is added before a logarithm is taken."""
LARGEST = 1e6
"""What a number of a diverged network is cut to."""


@dataclass(frozen=True)
class NetworkColumns:
    """Where the parameters of a whole network stand among the columns of a table."""

    layout: Layout
    positions: NDArray[np.int64]
    """The column of each parameter (P,)."""


def find_network(names: Sequence[str]) -> NetworkColumns | None:
    """Return the columns of the feature set `weights` among `names`, None if they are not all there."""
    counts = Counter(name.rpartition(":")[0] for name in names)
    units, classes = counts["conv2d/bias"], counts["dense/bias"]
    channels = counts["conv2d/kernel"] // (KERNEL_SIZE**2 * units) if units else 0
    layers = sum(name.startswith("conv2d") and name.endswith("/bias") for name in counts)
    if not channels or classes < 2:
        return None
    layout = layout_of(Architecture(units, layers, channels, classes))
    wanted, places = Weights("weights", None).columns(layout), {name: place for place, name in enumerate(names)}
    if not places.keys() >= set(wanted):
        return None
    return NetworkColumns(layout, np.array([places[name] for name in wanted]))


def draw_probes(count: int, layout: Layout, rng: np.random.Generator) -> Tensor:
    """Return smooth random images (K, I, S, S), float32: noise with spectra from white to 1/f**2, varied contrast."""
    channels = layout.variables[1].shape[2]
    side = max(SMALLEST_SIDE, 2 ** (len(layout.layers)) - 1)
    frequency = np.fft.fftfreq(side)
    radius = np.hypot(frequency[:, None], frequency)
    radius[0, 0] = 1 / side
    noise = rng.standard_normal((count, channels, side, side))
    slope = rng.uniform(0, 2, (count, 1, 1, 1))
    images = np.fft.ifft2(np.fft.fft2(noise) * radius**-slope).real
    images = (images - images.mean((2, 3), keepdims=True)) / images.std((2, 3), keepdims=True)
    images = images * rng.uniform(0.3, 1.0, slope.shape) + rng.uniform(-0.6, 0.3, slope.shape)
    return torch.from_numpy(images.astype(np.float32))


class Probing(nn.Module):
    """The probes, and what networks answer to them."""

    def __init__(self, probes: Tensor, layout: Layout) -> None:
        super().__init__()
        self.probes = nn.Parameter(probes)
        self.probes.register_hook(_finite)  # type: ignore[no-untyped-call]
        self.layout = layout

    def forward(self, weights: Tensor, is_relu: Tensor | None) -> Tensor:
        """Return the descriptions (B, D) of networks (B, P).

        `is_relu` (B,) says which networks have relu units; the others have tanh. If it is not known, each network is
        run with both, and D is twice as large.
        """
        if is_relu is None:
            return torch.cat([self._describe(weights, F.relu), self._describe(weights, torch.tanh)], dim=1)
        relu, tanh = torch.nonzero(is_relu)[:, 0], torch.nonzero(~is_relu)[:, 0]
        kinds = ((relu, F.relu), (tanh, torch.tanh))
        parts = [self._describe(weights[rows], activation) for rows, activation in kinds if len(rows)]
        return torch.cat(parts)[torch.argsort(torch.cat([relu, tanh]))]

    def _describe(self, weights: Tensor, activation: Activation) -> Tensor:
        logits, sizes = self._run(weights, activation)
        probabilities = logits.softmax(2)  # (B, K, U)
        top = logits.topk(2, dim=2).values
        numbers = [
            torch.asinh(logits).flatten(1),
            probabilities.amax(2),
            -(probabilities * logits.log_softmax(2)).sum(2),  # entropy
            _log(top[..., 0] - top[..., 1]),
            _log(logits.std(2, correction=0)),
            probabilities.mean(1).sort(1).values,
            _log(_spectrum(logits)),
            sizes,
        ]
        return torch.nan_to_num(torch.cat(numbers, dim=1), 0.0, LARGEST, -LARGEST)

    def _run(self, weights: Tensor, activation: Activation) -> tuple[Tensor, Tensor]:
        """Return the logits (B, K, U), and how large each layer's activations are and how much they vary (B, 2 * L)."""
        sizes: list[Tensor] = []

        def measure(_: Tensor, maps: Tensor) -> Tensor:
            sizes.extend([_log(maps.abs().mean((1, 2, 3, 4))), _log(maps.std((1, 2, 3), correction=0).mean(1))])
            return maps

        _, logits = run_networks(
            weights, self.probes.permute(0, 2, 3, 1), self.layout, _patches, activation, on_layer=measure
        )
        return logits, torch.stack(sizes, dim=1)


def _patches(maps: Tensor) -> tuple[Tensor, int]:
    """im2col: (B, K, S, S, I) -> (B, K * s * s, 9 * I) in the order (row, column, channel) of a kernel, and s.

    By one gather, whose gradient costs little; that of torch's own unfolding takes five times as long on a CPU.
    """
    count, probes, side, _, channels = maps.shape
    after = (side - KERNEL_SIZE) // STRIDE + 1
    corner, inside = STRIDE * torch.arange(after), torch.arange(KERNEL_SIZE)
    rows = (corner[:, None, None, None] + inside[None, None, :, None]) * side
    columns = corner[None, :, None, None] + inside[None, None, None, :]
    windows = (rows + columns).reshape(-1)  # (s * s * 9,)
    gathered = maps.reshape(count, probes, side * side, channels).index_select(2, windows)
    return gathered.view(count, probes * after * after, KERNEL_SIZE**2 * channels), after


def _finite(gradient: Tensor) -> Tensor:
    """A network that overflows teaches nothing."""
    return torch.nan_to_num(gradient, 0.0, 0.0, 0.0)


def _spectrum(logits: Tensor) -> Tensor:
    """Return the variances of the logits (B, K, U) along their principal axes (B, U), ascending."""
    # float64: the small variances of networks with fewer hidden channels than classes are rounding errors.
    bounded = torch.nan_to_num(logits.double(), 0.0, LARGEST, -LARGEST).clamp(-LARGEST, LARGEST)
    centred = bounded - bounded.mean(1, keepdim=True)
    covariance = centred.transpose(1, 2) @ centred / logits.shape[1]
    variances: Tensor = torch.linalg.eigvalsh(covariance)
    return variances.clamp_min(0).float()


def _log(values: Tensor) -> Tensor:
    return torch.log(values + SMALL)
