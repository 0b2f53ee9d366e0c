"""Initial weights, as Keras 2 defines its initialisers; biases start at zero.

Source: tf.keras.initializers of TensorFlow 2.x (`VarianceScaling`, `Orthogonal`, `RandomNormal`, `TruncatedNormal`).
Draws are made by inverting the normal distribution function at uniform numbers, with operations of fixed bits
(`core.arithmetic`), so they depend on nothing but the generator's bits.

Shape letters: P parameters.
"""

from collections.abc import Callable
from math import prod, sqrt

import numpy as np
from numpy.typing import NDArray

from cnnzoo.core import arithmetic, seeds
from cnnzoo.network.layout import Layout
from cnnzoo.zoo.recipes import Recipe

TRUNCATION = 0.022750131948179195, 0.9772498680518208
"""The normal distribution function at -2 and 2 standard deviations."""
TRUNCATED_STD = 0.87962566103423978
"""Standard deviation of the unit normal truncated at two sigma; Keras divides by it."""

Shape = tuple[int, ...]
Draw = NDArray[np.float64]


def initial_weights(recipe: Recipe, collection: str, layout: Layout) -> NDArray[np.float32]:
    """Return the weights of one network before training, float32 (P,).

    Each variable has a generator of its own, keyed by root seed, collection, network (or its group) and variable.
    """
    row = np.zeros(layout.size, dtype=np.float32)
    draw = INITIALIZERS[recipe.w_init]
    for variable in layout.variables:
        if variable.is_kernel:
            random = seeds.generator(recipe.random_seed, "weights", collection, recipe.draws_as, variable.name)
            row[variable.start : variable.end] = draw(variable.shape, random, recipe.init_std).reshape(-1)
    return row


def _fans(shape: Shape) -> tuple[int, int]:
    """Inputs and outputs of one unit: kernels are (..., in, out), the leading axes are the receptive field."""
    field = prod(shape[:-2])
    return field * shape[-2], field * shape[-1]


def _normal(shape: Shape, random: np.random.Generator, std: float) -> Draw:
    # `random()` lies in [0, 1); half of its grain keeps it off zero, where the quantile is infinite.
    return std * arithmetic.normal_quantile(random.random(shape) + 2.0**-54)


def _truncated_normal(shape: Shape, random: np.random.Generator, std: float) -> Draw:
    low, high = TRUNCATION
    return std * arithmetic.normal_quantile(low + random.random(shape) * (high - low))


def _he_normal(shape: Shape, random: np.random.Generator, _std: float) -> Draw:
    fan_in, _ = _fans(shape)
    return _truncated_normal(shape, random, sqrt(2.0 / fan_in) / TRUNCATED_STD)


def _glorot_normal(shape: Shape, random: np.random.Generator, _std: float) -> Draw:
    return _truncated_normal(shape, random, sqrt(2.0 / sum(_fans(shape))) / TRUNCATED_STD)


def _orthogonal(shape: Shape, random: np.random.Generator, _std: float) -> Draw:
    rows, columns = prod(shape[:-1]), shape[-1]
    # A positive diagonal of R makes the distribution uniform over orthogonal matrices.
    q = arithmetic.orthonormal_columns(_normal((max(rows, columns), min(rows, columns)), random, 1.0))
    return (q if rows >= columns else q.T).reshape(shape)


INITIALIZERS: dict[str, Callable[[Shape, np.random.Generator, float], Draw]] = {
    "he_normal": _he_normal,
    "glorot_normal": _glorot_normal,
    "orthogonal": _orthogonal,
    "RandomNormal": _normal,
    "TruncatedNormal": _truncated_normal,
}
"""The initialisers of `recipes.w_init`, by their Keras names."""
