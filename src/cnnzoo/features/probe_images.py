"""The synthetic images that networks are probed with: no data, the same for every network and every project.

Each family draws patterns with a dark ground or none, as the images of the published collections have them. A pattern
comes in variants: as it is, inverted, shifted by two pixels, with noise. What a network says about them depends on how
it was trained; how much that changes from variant to variant shows how well (see `features.probes`).

Shape letters: S side, F families, I patterns of a family, V variants.
"""

from collections.abc import Callable
from functools import cache

import numpy as np
from numpy.typing import NDArray

from cnnzoo.core import seeds
from cnnzoo.features.parts import FAMILIES, VARIANTS
from cnnzoo.network.layout import Architecture

PATTERNS = 4
"""Patterns of each family; with 8 (192 images) CatBoost gains 0.001 of R2 and tau (measured on 512 networks)."""
SIDE = 28
"""Side of the images; deeper networks get the smallest that they can take."""
SHIFT = 2
NOISE = 0.3
SEED = 0

Doubles = NDArray[np.float64]
Grid = tuple[Doubles, Doubles]


def side_for(architecture: Architecture) -> int:
    """Return the side of the images for networks of some depth: global average pooling makes any side possible."""
    return int(max(SIDE, 2 ** (architecture.num_layers + 1) - 1))


@cache
def probe_images(side: int) -> NDArray[np.float32]:
    """Return the images, float32 (F, I, V, S, S) in [-1, 1], at 256 levels as those of data sets. Read only."""
    images = np.empty((len(FAMILIES), PATTERNS, len(VARIANTS), side, side))
    for family, name in enumerate(FAMILIES):
        for index in range(PATTERNS):
            rng = seeds.generator(SEED, "probes", name, index)
            pattern = _DRAW[name](rng, _grid(side))
            variants = {
                "plain": pattern,
                "inverted": -pattern,
                "shifted": np.roll(pattern, (SHIFT, SHIFT), axis=(0, 1)),
                "noisy": pattern + NOISE * rng.standard_normal(pattern.shape),
            }
            images[family, index] = [variants[variant] for variant in VARIANTS]
    levels = np.round((np.clip(images, -1, 1) + 1) / 2 * 255)  # as uint8: no libm's last bit is left
    result = (levels / 255 * 2 - 1).astype(np.float32)
    result.flags.writeable = False
    return result


def _grid(side: int) -> Grid:
    """Return rows and columns of the pixels' centres, each (S, S) in [-1, 1]."""
    places = (np.arange(side) + 0.5) / side * 2 - 1
    rows, columns = np.meshgrid(places, places, indexing="ij")
    return rows, columns


def _grating(rng: np.random.Generator, grid: Grid) -> Doubles:
    """Draw a sine wave of any direction, 1.5 to 7 periods."""
    return np.asarray(np.sin(np.pi * rng.uniform(1.5, 7) * _along(rng, grid) + rng.uniform(0, 2 * np.pi)))


def _blobs(rng: np.random.Generator, grid: Grid) -> Doubles:
    """Draw one to four Gaussian spots on a dark ground."""
    light = np.zeros_like(grid[0])
    for _ in range(rng.integers(1, 5)):
        light = np.maximum(light, _spot(grid, rng.uniform(-0.6, 0.6, 2), rng.uniform(0.1, 0.35)))
    return 2 * light - 1


def _texture(rng: np.random.Generator, grid: Grid) -> Doubles:
    """Draw noise with the amplitudes of natural images, 1 / frequency."""
    frequencies = np.fft.fftfreq(len(grid[0]))
    frequency = np.hypot(frequencies[:, None], frequencies)
    frequency[0, 0] = np.inf  # no mean
    texture = np.fft.ifft2(np.fft.fft2(rng.standard_normal(grid[0].shape)) / frequency).real
    return np.asarray(0.6 * texture / texture.std())


def _strokes(rng: np.random.Generator, grid: Grid) -> Doubles:
    """Draw the line of a pen that turns at random, light on a dark ground."""
    place, direction = rng.uniform(-0.6, 0.6, 2), rng.uniform(0, 2 * np.pi)
    turn, width = rng.uniform(-0.3, 0.3), rng.uniform(0.06, 0.13)
    light = np.zeros_like(grid[0])
    for _ in range(40):
        light = np.maximum(light, _spot(grid, place, width))
        direction += turn + 0.15 * rng.standard_normal()
        place = np.clip(place + 0.05 * np.array([np.cos(direction), np.sin(direction)]), -0.75, 0.75)
    return 2 * np.minimum(1, 1.3 * light) - 1


def _edge(rng: np.random.Generator, grid: Grid) -> Doubles:
    """Draw the border of a light and a dark half."""
    return np.asarray(np.tanh(12 * (_along(rng, grid) - rng.uniform(-0.5, 0.5))))


def _shapes(rng: np.random.Generator, grid: Grid) -> Doubles:
    """Draw a light rectangle, turned, on a dark ground."""
    angle = rng.uniform(0, np.pi)
    row, column = (axis - centre for axis, centre in zip(grid, rng.uniform(-0.3, 0.3, 2), strict=True))
    height, width = rng.uniform(0.2, 0.7, 2)
    across = np.abs(column * np.cos(angle) + row * np.sin(angle)) / width
    along = np.abs(row * np.cos(angle) - column * np.sin(angle)) / height
    return np.asarray(-np.tanh(12 * (np.maximum(across, along) - 1)))


def _along(rng: np.random.Generator, grid: Grid) -> Doubles:
    """Return how far each pixel lies in a direction drawn at random, (S, S)."""
    angle = rng.uniform(0, 2 * np.pi)
    return np.asarray(grid[1] * np.cos(angle) + grid[0] * np.sin(angle))


def _spot(grid: Grid, centre: Doubles, width: float) -> Doubles:
    distance = (grid[0] - centre[0]) ** 2 + (grid[1] - centre[1]) ** 2
    return np.asarray(np.exp(-distance / (2 * width**2)))


_DRAW: dict[str, Callable[[np.random.Generator, Grid], Doubles]] = {
    "grating": _grating,
    "blobs": _blobs,
    "texture": _texture,
    "strokes": _strokes,
    "edge": _edge,
    "shapes": _shapes,
}
