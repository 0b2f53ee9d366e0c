"""The native engine's bits: those of the definition in plain loops, on every build (see native_builds.py)."""

import hashlib
import itertools

import numpy as np
import pytest

from builders import make_recipe
from cnnzoo import kernel
from cnnzoo.network.layout import Architecture
from cnnzoo.training.engines.base import Cohort
from cnnzoo.training.engines.native import NativeEngine
from cnnzoo.training.initializers import INITIALIZERS, initial_weights

REASON = kernel.unavailable_reason()
needs_kernel = pytest.mark.skipif(REASON is not None, reason=str(REASON))

UNITS = (1, 3, 8, 12, 16, 20, 24, 32, 64)
LAYERS = (1, 2, 3, 4)
SIDES = (28, 31, 32)
SETTINGS = list(itertools.product(("sgd", "rmsprop", "adam"), ("relu", "tanh"), (0.0, 0.7)))
"""Optimizer, activation, dropout."""

GOLDEN = {"3": "36aa004406df83f4cfd842981218cd47d9b8d735155bfaddcb9a0a3edd6a60f5"}
"""Digest of a small trained cohort by `numerics`: another digest needs another number."""


MANY = 19
"""More networks than any vector has lanes, and a part of one: narrow networks pass in groups."""


def make_cohort(architecture, side, optimizer, activation, dropout, networks=2):
    odd = np.arange(networks) % 2
    return Cohort(
        architecture=architecture,
        image_size=side,
        optimizer=optimizer,
        activation=activation,
        learning_rate=np.where(odd, 3e-3, 1e-2),
        l2reg=np.where(odd, 0.0, 1e-3),
        dropout=np.where(np.arange(networks) % 3 == 2, 0.0, dropout),
        dropout_keys=np.arange(1, 2 * networks + 1, dtype=np.uint32).reshape(networks, 2),
    )


def make_images(count, side):
    random = np.random.default_rng(2)
    images = random.integers(0, 256, (count, side, side, 1), dtype=np.uint8)
    return images, random.integers(0, 10, count).astype(np.uint8)


def start(cohort):
    scale = 1 / np.sqrt(9 * cohort.architecture.num_units / 4)
    rows = np.random.default_rng(3).normal(0, scale, (cohort.size, cohort.layout.size))
    return {"weights": rows.astype(np.float32)}


def trained(cohort, images, minibatches, state, reference=False):
    engine = NativeEngine(cohort, threads=1, reference=reference)
    engine.load_images(*images)
    engine.load_state(state)
    engine.train(minibatches, first_step=0)
    return engine


def everything(engine, images):
    scores = engine.evaluate(*images)
    return [*engine.state().values(), scores.accuracy, scores.loss]


def assert_same_bits(cohort, state=None, steps=3):
    images = make_images(30, cohort.image_size)
    minibatches = np.random.default_rng(4).integers(0, 30, (steps, 13))  # one whole block of eight and a part of one
    kernel, reference = (
        everything(trained(cohort, images, minibatches, state or start(cohort), reference=which), images)
        for which in (False, True)
    )
    for ours, defined in zip(kernel, reference, strict=True):
        np.testing.assert_array_equal(ours.view(np.uint8), defined.view(np.uint8))


def fits(layers, side):
    for _ in range(layers):
        side = (side - 3) // 2 + 1
    return side > 0


CASES = [
    (units, layers, side, *SETTINGS[(number * 5) % len(SETTINGS)])
    for number, (units, layers, side) in enumerate(itertools.product(UNITS, LAYERS, SIDES))
    if fits(layers, side)
]


@needs_kernel
@pytest.mark.parametrize(("units", "layers", "side", "optimizer", "activation", "dropout"), CASES)
def test_every_shape_has_the_bits_of_the_definition(units, layers, side, optimizer, activation, dropout):
    architecture = Architecture(num_units=units, num_layers=layers)
    assert_same_bits(make_cohort(architecture, side, optimizer, activation, dropout))


@needs_kernel
@pytest.mark.parametrize(("optimizer", "activation", "dropout"), SETTINGS)
@pytest.mark.parametrize(("units", "layers", "side"), [(1, 3, 28), (2, 2, 31), (5, 4, 32), (7, 1, 28), (20, 3, 32)])
def test_narrow_networks_side_by_side_have_the_bits_of_the_definition(
    units, layers, side, optimizer, activation, dropout
):
    architecture = Architecture(num_units=units, num_layers=layers)
    assert_same_bits(make_cohort(architecture, side, optimizer, activation, dropout, networks=MANY))


@needs_kernel
@pytest.mark.parametrize(("units", "layers", "side"), [(case[0], case[1], case[2]) for case in CASES if case[0] < 16])
def test_every_narrow_shape_side_by_side_has_the_bits_of_the_definition(units, layers, side):
    architecture = Architecture(num_units=units, num_layers=layers)
    assert_same_bits(make_cohort(architecture, side, "sgd", "relu", 0.5, networks=MANY), steps=1)


@needs_kernel
@pytest.mark.parametrize(("optimizer", "activation", "dropout"), SETTINGS)
@pytest.mark.parametrize("side", [28, 32])
def test_the_published_network_has_the_bits_of_the_definition(side, optimizer, activation, dropout):
    assert_same_bits(make_cohort(Architecture(), side, optimizer, activation, dropout), steps=20)


@needs_kernel
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e38, -0.0, 1e-40])
@pytest.mark.parametrize("activation", ["relu", "tanh"])
@pytest.mark.parametrize(("units", "networks"), [(16, 2), (12, 2), (12, MANY)])
def test_an_extreme_weight_has_the_bits_of_the_definition(units, networks, activation, value):
    cohort = make_cohort(Architecture(num_units=units), 28, "adam", activation, 0.5, networks)
    state = start(cohort)
    state["weights"][:, cohort.layout.variables[3].start + 7] = value
    images, minibatches = make_images(30, 28), np.arange(26).reshape(2, 13)
    kernel, reference = (
        everything(trained(cohort, images, minibatches, state, reference=which), images) for which in (False, True)
    )
    for ours, defined in zip(kernel, reference, strict=True):  # which NaN a sum of several gives is not defined
        known = ~np.isnan(defined)
        np.testing.assert_array_equal(np.isnan(ours), ~known)
        np.testing.assert_array_equal(ours[known].view(np.uint8), defined[known].view(np.uint8))


@needs_kernel
def test_a_small_collection_has_the_golden_bits():
    digest = hashlib.sha256()
    for architecture, optimizer, activation in [
        (Architecture(), "adam", "relu"),
        (Architecture(), "rmsprop", "tanh"),
        (Architecture(num_units=12, num_layers=2), "sgd", "tanh"),
    ]:
        cohort = make_cohort(architecture, 28, optimizer, activation, 0.4)
        images = make_images(64, 28)
        minibatches = np.random.default_rng(4).integers(0, 64, (20, 21))
        for w_init in INITIALIZERS:
            made = [make_recipe(network, w_init=w_init, init_std=0.05) for network in range(cohort.size)]
            rows = np.stack([initial_weights(recipe, "golden", cohort.layout) for recipe in made])
            for array in everything(trained(cohort, images, minibatches, {"weights": rows}), images):
                digest.update(array.tobytes())
    assert digest.hexdigest() == GOLDEN[NativeEngine.numerics]
