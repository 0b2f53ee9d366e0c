import signal
import sys
import threading
import time

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from cnnzoo import kernel
from cnnzoo.core.errors import CnnzooError
from cnnzoo.network.layout import Architecture
from cnnzoo.training.dropout import masks, step_key
from cnnzoo.training.engines.base import Cohort
from cnnzoo.training.engines.native import NativeEngine
from cnnzoo.training.engines.reference import ReferenceEngine

REASON = kernel.unavailable_reason()
needs_kernel = pytest.mark.skipif(REASON is not None, reason=str(REASON))

PUBLISHED = Architecture()
FAST = [(PUBLISHED, 28), (PUBLISHED, 32)]
GENERIC = [
    (Architecture(num_units=8, num_layers=2), 28),
    (Architecture(num_units=5, num_layers=4), 32),
    (Architecture(num_units=16, num_layers=3), 21),
    (Architecture(num_units=16, num_layers=1), 3),
]
ACTIVATIONS = ("relu", "tanh")
OPTIMIZERS = ("sgd", "adam", "rmsprop")

# Norm-wise relative error of a layer's gradient against float64. Sums of up to 37 * 169 float32 products err by about
# 1e-6; a wrong tap, image, mask or scale errs by more than 1e-2.
GRADIENT_RTOL = 1e-5
# Ten steps against float64, relative to the distance travelled: rounding enters each step again and grows.
TRAJECTORY_RTOL = 1e-4


def make_cohort(architecture=PUBLISHED, image_size=28, networks=2, optimizer="adam", activation="relu", dropout=0.5):
    rng = np.random.default_rng(1)
    return Cohort(
        architecture=architecture,
        image_size=image_size,
        optimizer=optimizer,
        activation=activation,
        learning_rate=rng.uniform(1e-3, 5e-3, networks),
        l2reg=rng.uniform(1e-4, 1e-2, networks),
        dropout=np.full(networks, dropout),
        dropout_keys=rng.integers(0, 2**32, (networks, 2), dtype=np.uint32),
    )


def make_images(count, size, colours=1):
    rng = np.random.default_rng(2)
    images = rng.integers(0, 256, (count, size, size, colours), dtype=np.uint8)
    return images, rng.integers(0, 10, count).astype(np.uint8)


def initial(cohort):
    rng = np.random.default_rng(3)
    return rng.normal(0, 0.15, (cohort.size, cohort.layout.size)).astype(np.float32)


def make_engine(cohort, images, threads=1, state=None):
    engine = NativeEngine(cohort, threads)
    engine.load_images(*images)
    engine.load_state(state if state is not None else {"weights": initial(cohort)})
    return engine


def schedule(steps, size, images, seed=4):
    return np.random.default_rng(seed).integers(0, images, (steps, size))


def exact_gradients(cohort, weights, images, indices, step):
    """Gradients (N, P) by autograd in float64."""
    reference = ReferenceEngine(cohort, torch.float64)
    reference.load_images(*images)
    inputs, labels = reference.inputs[indices], reference.labels[indices]
    rows = []
    for network, weight in zip(reference.networks, weights, strict=True):
        row = torch.from_numpy(weight.astype(np.float64)).requires_grad_()
        key = step_key(network.key, step)
        kept = masks(network.plan, key, network.rate, len(indices)) if network.rate > 0 else None
        loss = F.cross_entropy(network.logits(row, inputs, kept), labels) + network.penalty(row)
        rows.append(torch.autograd.grad(loss, row)[0].numpy())
    return np.stack(rows)


def distance(a, b):
    return np.linalg.norm(a.astype(np.float64) - b)


@needs_kernel
@pytest.mark.parametrize("batch", [1, 7, 37])
@pytest.mark.parametrize("dropout", [0.0, 0.7])
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize(("architecture", "size"), FAST + GENERIC)
def test_gradient_of_every_layer_agrees_with_float64_autograd(architecture, size, activation, dropout, batch):
    cohort = make_cohort(architecture, size, activation=activation, dropout=dropout)
    images = make_images(50, size)
    engine = make_engine(cohort, images)
    indices = np.random.default_rng(5).permutation(50)[:batch]
    gradient = engine.gradient(indices, step=11)
    exact = exact_gradients(cohort, initial(cohort), images, indices, step=11)
    for variable in cohort.layout.variables:
        got, want = gradient[:, variable.start : variable.end], exact[:, variable.start : variable.end]
        assert distance(got, want) <= GRADIENT_RTOL * np.linalg.norm(want), variable.name


@needs_kernel
@pytest.mark.parametrize("dropout", [0.0, 0.5])
@pytest.mark.parametrize("size", [28, 32])
def test_a_kept_negative_zero_is_not_taken_for_a_dropped_tanh(size, dropout):
    cohort = make_cohort(image_size=size, activation="tanh", dropout=dropout)
    bias, kernel = cohort.layout.layers[0]
    weights = initial(cohort)
    weights[:, bias.start : bias.end] = -0.0
    weights[:, kernel.start : kernel.end] = 0.0
    images = np.zeros((4, size, size, 1), np.uint8), np.arange(4, dtype=np.uint8)  # -1 for the network
    engine = make_engine(cohort, images, state={"weights": weights})
    got = engine.gradient(np.arange(4), step=0)[:, bias.start : bias.end]
    want = exact_gradients(cohort, weights, images, np.arange(4), step=0)[:, bias.start : bias.end]
    assert distance(got, want) <= GRADIENT_RTOL * np.linalg.norm(want)


@needs_kernel
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize(("architecture", "size"), [*FAST, GENERIC[0]])
def test_ten_steps_follow_the_reference(architecture, size, activation, optimizer):
    cohort = make_cohort(architecture, size, optimizer=optimizer, activation=activation, dropout=0.3)
    images = make_images(60, size)
    start, minibatches = initial(cohort), schedule(10, 9, 60)
    engine, reference = make_engine(cohort, images), ReferenceEngine(cohort, torch.float64)
    reference.load_images(*images)
    reference.load_state({"weights": start})
    engine.train(minibatches, first_step=3)
    reference.train(minibatches, first_step=3)
    got, want = engine.state(), reference.state()
    assert got.keys() == want.keys()
    for name in want:
        travelled = want[name] - (start if name == "weights" else 0)
        assert distance(got[name], want[name]) <= TRAJECTORY_RTOL * np.linalg.norm(travelled), name


@needs_kernel
@pytest.mark.parametrize("count", [1, 300])
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize(("architecture", "size"), [*FAST, GENERIC[0]])
def test_scores_agree_with_the_reference(architecture, size, activation, count):
    cohort = make_cohort(architecture, size, activation=activation)
    images = make_images(count, size, colours=3)
    reference = ReferenceEngine(cohort, torch.float64)
    reference.load_state({"weights": initial(cohort)})
    want = reference.evaluate(*images)
    engine = make_engine(cohort, make_images(1, size))
    for _ in range(2):  # the second time from the prepared images
        got = engine.evaluate(*images)
        np.testing.assert_array_equal(got.accuracy, want.accuracy)
        np.testing.assert_allclose(got.loss, want.loss, rtol=1e-6)


@needs_kernel
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize(("architecture", "size"), [FAST[0], GENERIC[0]])
def test_network_is_the_same_alone_in_any_cohort_and_on_any_number_of_threads(architecture, size, optimizer):
    cohort = make_cohort(architecture, size, networks=5, optimizer=optimizer)
    images, minibatches = make_images(40, size), schedule(4, 13, 40)
    together = make_engine(cohort, images, threads=1)
    together.train(minibatches, 0)
    for threads in (2, 3, 8):
        engine = make_engine(cohort, images, threads)
        engine.train(minibatches, 0)
        np.testing.assert_array_equal(engine.weights(), together.weights())
    for network in range(cohort.size):
        chosen = slice(network, network + 1)
        alone = make_engine(cohort.part(chosen), images, state={"weights": initial(cohort)[chosen]})
        alone.train(minibatches, 0)
        np.testing.assert_array_equal(alone.weights()[0], together.weights()[network])


@needs_kernel
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize(("architecture", "size"), [FAST[0], GENERIC[0]])
def test_diverging_networks_become_non_finite_and_leave_the_others_alone(architecture, size, activation, optimizer):
    cohort = make_cohort(architecture, size, networks=3, optimizer=optimizer, activation=activation)
    images, minibatches = make_images(40, size), schedule(5, 16, 40)
    healthy = make_engine(cohort, images)
    healthy.train(minibatches, 0)
    cohort.learning_rate[1] = 1e38
    engine = make_engine(cohort, images)
    engine.train(minibatches, 0)
    weights = engine.weights()
    assert not np.isfinite(weights[1]).all()
    np.testing.assert_array_equal(weights[[0, 2]], healthy.weights()[[0, 2]])
    scores = engine.evaluate(*images)
    assert not np.isfinite(scores.loss[1])
    assert np.isfinite(scores.loss[[0, 2]]).all()


@needs_kernel
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 3e38])
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("size", [28, 32])
def test_a_network_with_one_bad_weight_stays_non_finite(size, activation, value):
    cohort = make_cohort(image_size=size, activation=activation, dropout=0.2)
    weights = initial(cohort)
    weights[0, cohort.layout.variables[-1].start] = value
    engine = make_engine(cohort, make_images(20, size), state={"weights": weights})
    engine.train(schedule(3, 8, 20), 0)
    assert not np.isfinite(engine.weights()[0]).all() or value == 3e38
    assert np.isfinite(engine.weights()[1]).all()


@needs_kernel
def test_denormal_numbers_are_flushed_inside_and_kept_outside():
    cohort, images = make_cohort(optimizer="sgd"), make_images(8, 28)
    engine = make_engine(cohort, images, state={"weights": np.full((2, cohort.layout.size), 1e-41, np.float32)})
    engine.gradient(np.arange(8), step=0)  # runs on this thread
    engine.train(schedule(1, 8, 8), 0)
    assert np.float32(1e-40) * np.float32(0.5) != 0
    weights = engine.weights()
    assert not ((weights != 0) & (np.abs(weights) < np.finfo(np.float32).tiny)).any()


@needs_kernel
def test_training_releases_the_interpreter():
    cohort, images = make_cohort(networks=4), make_images(64, 28)
    engine = make_engine(cohort, images)
    worker = threading.Thread(target=engine.train, args=(schedule(100, 64, 64), 0))
    worker.start()
    ticks = 0
    while worker.is_alive():
        ticks += 1
        time.sleep(0.001)
    assert ticks >= 5


@needs_kernel
def test_training_can_be_interrupted():
    engine = make_engine(make_cohort(networks=4), make_images(64, 28))
    minibatches = schedule(20_000, 512, 64)  # minutes of work
    previous = signal.signal(signal.SIGALRM, signal.default_int_handler)
    signal.setitimer(signal.ITIMER_REAL, 0.2)
    try:
        with pytest.raises(KeyboardInterrupt):
            engine.train(minibatches, 0)
    finally:
        signal.signal(signal.SIGALRM, previous)
    assert (engine.weights()[0] != initial(engine.cohort)[0]).any()
    np.testing.assert_array_equal(engine.weights()[3], initial(engine.cohort)[3])  # its turn never came


@needs_kernel
def test_faulty_input_is_refused_before_it_can_do_harm():
    cohort, images = make_cohort(), make_images(10, 28)
    engine = make_engine(cohort, images)
    for indices in ([[0, 10]], [[-1, 0]]):
        with pytest.raises(ValueError, match="index"):
            engine.train(np.array(indices), 0)
    with pytest.raises(ValueError, match="label"):
        engine.evaluate(images[0], np.full(10, 10, np.uint8))
    with pytest.raises(ValueError, match="label"):
        engine.evaluate(images[0], images[1][:-1])
    with pytest.raises(ValueError, match="size"):
        engine.evaluate(make_images(10, 32)[0], images[1])
    with pytest.raises(ValueError, match="dropout"):
        NativeEngine(make_cohort(dropout=1.0))


def test_without_the_kernel_the_reason_teaches(monkeypatch):
    monkeypatch.setitem(sys.modules, kernel.EXTENSION, None)
    assert "compiler" in kernel.unavailable_reason()
    with pytest.raises(CnnzooError, match="engine: batched"):
        NativeEngine(make_cohort())


def test_a_kernel_that_cannot_be_loaded_says_why(monkeypatch):
    def fail(name):
        raise ImportError("compiled for a processor with more instructions")

    monkeypatch.setattr(kernel.importlib, "import_module", fail)
    assert "more instructions" in kernel.unavailable_reason()
