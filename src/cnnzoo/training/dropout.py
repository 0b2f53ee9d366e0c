"""Dropout masks from a counter-based generator: every engine draws the same mask, in any order, on any device.

A mask bit is a pure function of (network key, step, image, position, channel), so a network has the same dropout
alone or in a cohort, resumed or not, on one thread or many. Definition, all arithmetic on unsigned 32-bit words:

    step key    (s0, s1) = (word(step; k0, k1), word(step + 2**31; k0, k1)),  (k0, k1) = the network's key
    word(c; a, b): x = c * 0x9E3779B9 + a;  x ^= x >> 16;  x *= 0x21F0AAAD;  x ^= x >> 15;
                   x ^= b;  x *= 0x735A2D97;  x ^= x >> 15
    counter     c = image * W + offset[layer] + (position // 2) * C + channel
    16 bits     h = word(c; s0, s1) >> (16 * (position % 2)) & 0xFFFF
    kept        h >= threshold,  threshold = round(rate * 65536)

`step` counts minibatches since the initialisation; `position` is row * side + column in the layer's feature map; C is
`num_units`; offset[layer] = C * sum of ceil(positions / 2) over the layers before; W the same sum over all layers.
The mixing function is a 32-bit finaliser of low bias found by search (C. Wellons, hash-prospector, "lowbias32"),
the second key word enters in its middle. Kept activations are scaled by 1 / (1 - rate).

Shape letters: B images, L layers.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

WEYL = 0x9E3779B9
MULTIPLIER_1 = 0x21F0AAAD
MULTIPLIER_2 = 0x735A2D97
RATE_SCALE = 65536


@dataclass(frozen=True)
class MaskPlan:
    """Where the words of each layer lie among those of one image."""

    positions: tuple[int, ...]
    """Positions (side * side) of each layer's feature map."""
    channels: int

    @property
    def layer_words(self) -> tuple[int, ...]:
        """Words of each layer: one for two positions of one channel."""
        return tuple((positions + 1) // 2 * self.channels for positions in self.positions)

    @property
    def offsets(self) -> tuple[int, ...]:
        """First word of each layer."""
        return tuple(sum(self.layer_words[:layer]) for layer in range(len(self.positions)))

    @property
    def image_words(self) -> int:
        """Words of one image, W."""
        return sum(self.layer_words)


def words(counters: NDArray[np.uint32], key: tuple[int, int]) -> NDArray[np.uint32]:
    """Return the generator's word for each counter."""
    x = counters * np.uint32(WEYL) + np.uint32(key[0])
    x ^= x >> np.uint32(16)
    x *= np.uint32(MULTIPLIER_1)
    x ^= x >> np.uint32(15)
    x ^= np.uint32(key[1])
    x *= np.uint32(MULTIPLIER_2)
    x ^= x >> np.uint32(15)
    return x


def step_key(network_key: tuple[int, int], step: int) -> tuple[int, int]:
    """Return the key of one network's masks at one step."""
    first, second = words(np.array([step, step + 2**31], dtype=np.uint32), network_key)
    return int(first), int(second)


def threshold(rate: float) -> int:
    """Return the smallest 16-bit number that is kept at a dropout rate in [0, 1)."""
    return round(rate * RATE_SCALE)


def masks(plan: MaskPlan, key: tuple[int, int], rate: float, images: int) -> list[NDArray[np.bool_]]:
    """Return, per layer, what is kept: bool (B, positions, channels). `key` is the step's key."""
    kept = []
    for positions, offset, count in zip(plan.positions, plan.offsets, plan.layer_words, strict=True):
        starts = np.arange(images, dtype=np.uint32) * np.uint32(plan.image_words)  # (B,)
        counters = np.add.outer(starts, np.arange(offset, offset + count, dtype=np.uint32))  # (B, words)
        drawn = words(counters, key).reshape(images, -1, plan.channels)
        halves = np.stack([drawn & np.uint32(0xFFFF), drawn >> np.uint32(16)], axis=2)  # (B, pairs, 2, channels)
        kept.append(halves.reshape(images, -1, plan.channels)[:, :positions] >= threshold(rate))
    return kept
