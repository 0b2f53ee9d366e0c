"""Many networks on few images, on one CPU core.

The native kernel does it with the same bits on every processor. Where it is missing, NumPy does, to rounding.

Shape letters: N networks, B images, H side of an image, Q positions of a feature map, C channels in, U channels out,
K classes, P parameters.
"""

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from cnnzoo.kernel import extension, unavailable_reason
from cnnzoo.network.layout import KERNEL_SIZE, STRIDE, Layout, Variable

Floats = NDArray[np.float32]


class Forward(Protocol):
    """The images (B, H, H), ready for networks of one layout."""

    def __call__(self, rows: Floats, activations: Sequence[str]) -> tuple[Floats, Floats]:
        """Return logits (N, B, K) and the last feature maps (N, B, Q, U) of networks (N, P), without dropout."""
        ...


def forward_of(images: Floats, layout: Layout) -> Forward:
    """Return the fastest way to run networks of a layout on images float32 (B, H, H); each thread needs its own."""
    if unavailable_reason() is None:
        return KernelForward(images, layout)
    return NumpyForward(images, layout)


class KernelForward:
    """The native kernel. See `Forward`.

    It knows one input channel; of several, which all see the grey image, it gets the sum of their kernels.

    `reference` takes the definition of the arithmetic instead of the fast kernel: the same bits, slowly, for tests.
    """

    def __init__(self, images: Floats, layout: Layout, *, reference: bool = False) -> None:
        self._forward = extension().forward
        self._images, self._architecture = np.ascontiguousarray(images, np.float32), layout.architecture
        self._first = layout.layers[0][1]
        self._reference = reference
        side = layout.architecture.feature_sizes(images.shape[-1])[-1]
        self._shape = len(images), side**2, layout.architecture.num_units

    def __call__(self, rows: Floats, activations: Sequence[str]) -> tuple[Floats, Floats]:
        """See `Forward`."""
        images, positions, units = self._shape
        logits = np.empty((len(rows), images, self._architecture.num_classes), np.float32)
        maps = np.empty((len(rows), images, positions, units), np.float32)
        names = np.asarray(activations, dtype=str)
        for name in np.unique(names):
            alike = names == name
            logits[alike], maps[alike] = self._alike(np.ascontiguousarray(rows[alike]), str(name))
        return logits, maps

    def _alike(self, rows: Floats, activation: str) -> tuple[Floats, Floats]:
        """Return logits and feature maps of networks with the same activation."""
        architecture, (images, positions, units) = self._architecture, self._shape
        logits = np.empty((len(rows), images, architecture.num_classes), np.float32)
        maps = np.empty((len(rows), images, positions, units), np.float32)
        self._forward(
            image_size=self._images.shape[-1],
            units=units,
            layers=architecture.num_layers,
            classes=architecture.num_classes,
            activation=activation,
            weights=self._of_one_channel(rows),
            images=self._images,
            logits=logits,
            maps=maps,
            reference=self._reference,
        )
        return logits, maps

    def _of_one_channel(self, rows: Floats) -> Floats:
        """Return the rows with the first kernel (3, 3, C, U) summed over its channels in their order."""
        channels = self._architecture.num_channels
        if channels == 1:
            return rows
        kernels = _tensor(rows, self._first)
        total = kernels[:, :, :, 0].copy()
        for channel in range(1, channels):
            total += kernels[:, :, :, channel]
        before, after = rows[:, : self._first.start], rows[:, self._first.end :]
        return np.concatenate([before, total.reshape(len(rows), -1), after], axis=1)


CHUNK_IMAGES = 48
"""Images that pass through the layers together: fewer cost more calls, more overflow the cache (measured)."""


def _relu(values: Floats) -> Floats:
    return np.maximum(values, 0, out=values)


def _tanh(values: Floats) -> Floats:
    return np.tanh(values, out=values)


ACTIVATIONS: dict[str, Callable[[Floats], Floats]] = {"relu": _relu, "tanh": _tanh}


class NumpyForward:
    """Only NumPy, each network's intermediates in the cache. See `Forward`.

    A convolution is a matrix product over patches, some images at a time. Within a row of a 3x3 window the pixels and
    channels lie next to each other, so patches are copied in runs of 3 * C. In a row of weights the bias comes before
    its kernel, so together they form a matrix (1 + 9 * C, U), whose product with patches that begin with a 1 is the
    whole layer.
    """

    def __init__(self, images: Floats, layout: Layout) -> None:
        architecture = layout.architecture
        self._sides = architecture.feature_sizes(images.shape[-1])
        *self._convolutions, self._dense = layout.layers
        pixels = np.repeat(images[..., None], architecture.num_channels, axis=-1)  # grey, on every input channel
        self._inputs = _Patches(pixels.shape, self._sides[0])
        self._inputs.fill(pixels)
        self._features: list[Floats] = []  # (B, side, side, U) of each layer, for one chunk of images
        self._patches: list[_Patches] = []  # of each layer but the last
        chunk = min(CHUNK_IMAGES, len(images))
        for side, following in zip(self._sides, (*self._sides[1:], 0), strict=True):
            self._features.append(np.empty((chunk, side, side, architecture.num_units), dtype=np.float32))
            if following:
                self._patches.append(_Patches(self._features[-1].shape, following))

    def __call__(self, rows: Floats, activations: Sequence[str]) -> tuple[Floats, Floats]:
        """See `Forward`."""
        images, units = len(self._inputs.matrix), self._features[-1].shape[-1]
        maps = np.empty((len(rows), images, self._sides[-1] ** 2, units), dtype=np.float32)
        with np.errstate(over="ignore", invalid="ignore"):  # diverged networks
            for row, name, target in zip(rows, activations, maps, strict=True):
                for start in range(0, images, CHUNK_IMAGES):
                    chunk = slice(start, min(start + CHUNK_IMAGES, images))
                    target[chunk] = self._run(self._inputs.matrix[chunk], row, ACTIVATIONS[name])
            bias, kernel = self._dense
            logits = maps.mean(axis=2) @ _tensor(rows, kernel) + rows[:, None, bias.start : bias.end]
        return logits, maps

    def _run(self, patches: Floats, row: Floats, activate: Callable[[Floats], Floats]) -> Floats:
        """Return the last feature maps (B, Q, U) of one network for some images; valid until the next call."""
        count = len(patches)
        for layer, (bias, kernel) in enumerate(self._convolutions):
            matrix = row[bias.start : kernel.end].reshape(-1, kernel.shape[-1])  # (1 + 9 * C, U)
            features = self._features[layer][:count]
            flat = features.reshape(-1, kernel.shape[-1])
            activate(np.matmul(patches.reshape(len(flat), -1), matrix, out=flat))
            if layer < len(self._patches):
                patches = self._patches[layer].fill(features)
        return features.reshape(count, -1, features.shape[-1])


class _Patches:
    """The patches of feature maps (B, H, H, C), each after a 1: `matrix` is (B, Q, 1 + 9 * C)."""

    def __init__(self, shape: tuple[int, ...], side: int) -> None:
        images, _, _, channels = shape
        self._side = side
        self._run = KERNEL_SIZE * channels
        self.matrix = np.ones((images, side**2, 1 + KERNEL_SIZE * self._run), dtype=np.float32)

    def fill(self, features: Floats) -> Floats:
        """im2col of contiguous features (B, H, H, C), in the order (row, column, channel); returns B of the patches."""
        count, side, run = len(features), self._side, self._run
        image, row, column, channel = features.strides
        windows = np.lib.stride_tricks.as_strided(
            features,
            (count, side, side, KERNEL_SIZE, run),
            (image, STRIDE * row, STRIDE * column, row, channel),
            writeable=False,
        )
        patches = self.matrix[:count]
        size = patches.itemsize
        target = np.lib.stride_tricks.as_strided(
            patches[:, :, 1:],
            windows.shape,
            (patches.strides[0], side * patches.strides[1], patches.strides[1], run * size, size),
        )
        target[...] = windows
        return patches


def _tensor(rows: Floats, variable: Variable) -> Floats:
    return rows[:, variable.start : variable.end].reshape(len(rows), *variable.shape)
