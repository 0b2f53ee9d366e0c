"""Every engine against the reference in float64: one table, one tolerance, one test for each thing an engine does.

Shape letters: N networks, P parameters, S steps, B images of a minibatch.
"""

from dataclasses import dataclass, replace
from functools import cache

import numpy as np
import pytest
import torch

from builders import make_images
from cnnzoo import kernel
from cnnzoo.images import ImageSet
from cnnzoo.network.layout import Architecture
from cnnzoo.training.dropout import masks, step_key
from cnnzoo.training.engines import Cohort, Scores
from cnnzoo.training.engines.batched import BatchedEngine
from cnnzoo.training.engines.native import NativeEngine
from cnnzoo.training.engines.reference import ReferenceEngine


@dataclass(frozen=True)
class Tolerance:
    """|got - reference| <= atol + rtol * |reference|."""

    rtol: float
    atol: float

    def check(self, got, expected, what):
        np.testing.assert_allclose(got, expected, rtol=self.rtol, atol=self.atol, err_msg=what)


# float32 rounds at 6e-8 relative; a sum of up to 13 * 13 * 37 products of mixed sign keeps about 1e-6 of its largest
# part, so a gradient near zero (they are about 1e-2 here) errs by about 1e-8 in the absolute.
GRADIENT = Tolerance(rtol=2e-5, atol=2e-7)
LOSS = Tolerance(rtol=2e-6, atol=0.0)
# Ten steps at a learning rate of up to 5e-3 move a weight by up to 5e-2. sgd only sums the gradients' errors. adam and
# rmsprop divide each by sqrt(v), so that an error counts relative to the gradient of that one parameter: where it
# passes near zero, 1e-7 / 1e-4 * 5e-3 * 10 steps = 5e-5.
STEPS = {"sgd": Tolerance(1e-5, 1e-7), "adam": Tolerance(1e-5, 5e-5), "rmsprop": Tolerance(1e-5, 5e-5)}
# The slots are means of gradients, and of their squares, at weights that differ by that much.
SLOTS = {"m": Tolerance(1e-4, 2e-6), "v": Tolerance(1e-3, 1e-9)}

ENGINES = {
    "reference, float32": ReferenceEngine,
    "batched": BatchedEngine,
    "batched, stacks of 2": lambda cohort: BatchedEngine(cohort, stack_size=2),
    "batched, stacks of 1": lambda cohort: BatchedEngine(cohort, stack_size=1),
    "native": lambda cohort: NativeEngine(cohort, threads=2),
}
GPU = {"batched, cuda": lambda cohort: BatchedEngine(cohort, "cuda")}
MISSING = {
    "native": kernel.unavailable_reason(),
    "batched, cuda": None if torch.cuda.is_available() else "torch finds no CUDA device",
}
PUBLISHED = Architecture()
OPTIMIZERS, ACTIVATIONS = ("sgd", "adam", "rmsprop"), ("relu", "tanh")


@dataclass(frozen=True)
class Case:
    """A row of the table: what kind of cohort is trained on what kind of images."""

    architecture: Architecture = PUBLISHED
    size: int = 28
    colours: int = 1
    networks: int = 3
    dropout: tuple[float, ...] = (0.0, 0.3, 0.7)
    minibatch: int = 16


CASES = {
    "28 pixels": Case(),
    "32 pixels": Case(size=32),
    "32 pixels, no dropout": Case(size=32, dropout=(0.0,)),
    "28 pixels, no dropout": Case(dropout=(0.0,)),
    "colour": Case(size=32, colours=3),
    "cohort of one": Case(networks=1, dropout=(0.5,)),
    "minibatch of one": Case(minibatch=1),
    "5 units, 2 layers": Case(Architecture(num_units=5, num_layers=2), size=13),
    "1 layer": Case(Architecture(num_units=8, num_layers=1)),
    "4 layers": Case(Architecture(num_units=4, num_layers=4), size=32),
}
TABLE = [
    pytest.param(CASES[case], engine, optimizer, activation, id=f"{engine} | {case} | {optimizer} | {activation}")
    for case in CASES
    for engine in (*ENGINES, *GPU)
    for optimizer in OPTIMIZERS
    for activation in ACTIVATIONS
    if (case in ("28 pixels", "32 pixels") and "stacks" not in engine)
    or (optimizer, activation) in (("sgd", "relu"), ("adam", "tanh"))
]


def make_cohort(case, optimizer, activation):
    rng = np.random.default_rng(1)
    return Cohort(
        architecture=case.architecture,
        image_size=case.size,
        optimizer=optimizer,
        activation=activation,
        learning_rate=rng.uniform(1e-3, 5e-3, case.networks),
        l2reg=rng.uniform(1e-4, 1e-2, case.networks),
        dropout=np.resize(case.dropout, case.networks),
        dropout_keys=rng.integers(0, 2**32, (case.networks, 2), dtype=np.uint32),
    )


def images_of(case):
    images = make_images(train=50, test=30, size=case.size)
    if case.colours == 1:
        return images
    rng = np.random.default_rng(2)
    train, test = (rng.integers(0, 256, (n, case.size, case.size, 3), dtype=np.uint8) for n in (50, 30))
    return ImageSet(train, images.train_labels, test, images.test_labels)


def initial(cohort):
    return np.random.default_rng(3).normal(0, 0.15, (cohort.size, cohort.layout.size)).astype(np.float32)


def make(name, cohort, images, weights):
    if MISSING.get(name):
        pytest.skip(MISSING[name])
    return ready((ENGINES | GPU)[name](cohort), images, weights)


def ready(engine, images, weights):
    engine.load_images(images.train_images, images.train_labels)
    engine.load_state({"weights": weights})
    return engine


def exact(cohort, images, weights):
    return ready(ReferenceEngine(cohort, torch.float64), images, weights)


def minibatches_of(case, steps=10):
    return np.random.default_rng(4).integers(0, 50, (steps, case.minibatch))


def moved_by_one_step(engine, weights, minibatch):
    """The gradient, seen from outside: where one step of sgd at learning rate 1 leads.

    The difference is exact to the rounding of a weight, 2**-24 of about 0.15: 1e-8.
    """
    engine.train(minibatch[None], 7)
    return weights.astype(np.float64) - engine.weights()


def descending(cohort):
    return replace(cohort, optimizer="sgd", learning_rate=np.ones(cohort.size))


@dataclass(frozen=True)
class Truth:
    """What the reference says of a case: scores at the start, gradient of one step, state after ten."""

    scores: Scores
    gradient: np.ndarray
    state: dict[str, np.ndarray]


@cache
def truth_of(case, optimizer, activation):
    cohort, images = make_cohort(case, optimizer, activation), images_of(case)
    minibatches, start = minibatches_of(case), initial(cohort)
    reference = exact(cohort, images, start)
    scores = reference.evaluate(images.test_images, images.test_labels)
    reference.train(minibatches, 0)
    gradient = moved_by_one_step(exact(descending(cohort), images, start), start, minibatches[0])
    return Truth(scores, gradient, reference.state())


@pytest.mark.slow
@pytest.mark.parametrize(("case", "engine", "optimizer", "activation"), TABLE)
def test_engine_equals_the_reference(case, engine, optimizer, activation):
    cohort, images, minibatches = make_cohort(case, optimizer, activation), images_of(case), minibatches_of(case)
    start, truth = initial(cohort), truth_of(case, optimizer, activation)
    tested = make(engine, cohort, images, start)
    scores = tested.evaluate(images.test_images, images.test_labels)
    LOSS.check(scores.loss, truth.scores.loss, "loss")
    np.testing.assert_array_equal(scores.accuracy, truth.scores.accuracy)
    gradient = moved_by_one_step(make(engine, descending(cohort), images, start), start, minibatches[0])
    GRADIENT.check(gradient, truth.gradient, "gradient")
    tested.train(minibatches, 0)
    for name, array in truth.state.items():
        SLOTS.get(name, STEPS[optimizer]).check(tested.state()[name], array, f"`{name}` after ten steps")


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("rate", [0.0, 0.4])
def test_gradient_of_the_batched_engine_equals_autograd(activation, rate):
    """The inner gradient, free of the rounding of a weight update."""
    case = Case(dropout=(rate,), networks=2)
    cohort, images = make_cohort(case, "sgd", activation), images_of(case)
    weights, minibatch = initial(cohort), np.arange(9)
    engine = make("batched", cohort, images, weights)
    (stack,) = engine._stacks
    reference = exact(cohort, images, weights)
    inputs, labels = reference.inputs[minibatch], reference.labels[minibatch]
    drawn = None
    if rate:
        drawn = stack._dropout.masks(stack._dropout.step_keys(11, 1)[0], len(minibatch))
    got = stack.gradient(inputs[:, 0].float(), labels, drawn)
    for network, row in zip(reference.networks, got, strict=True):
        leaf = network.tensors["weights"].requires_grad_()
        kept = masks(network.plan, step_key(network.key, 11), rate, len(minibatch)) if rate else None
        loss = torch.nn.functional.cross_entropy(network.logits(leaf, inputs, kept), labels) + network.penalty(leaf)
        GRADIENT.check(row.numpy(), torch.autograd.grad(loss, leaf)[0].numpy(), "gradient")


@pytest.mark.parametrize("engine", [*ENGINES, *GPU])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_resumed_engine_equals_an_undisturbed_one_bit_for_bit(engine, optimizer):
    cohort, images = make_cohort(Case(), optimizer, "relu"), images_of(Case())
    minibatches = np.random.default_rng(5).integers(0, 50, (5, 16))
    undisturbed = make(engine, cohort, images, initial(cohort))
    undisturbed.train(minibatches, 0)
    first = make(engine, cohort, images, initial(cohort))
    first.train(minibatches[:2], 0)
    second = make(engine, cohort, images, initial(cohort))
    second.load_state(first.state())
    second.train(minibatches[2:], 2)
    for name, array in undisturbed.state().items():
        np.testing.assert_array_equal(second.state()[name], array)


@pytest.mark.parametrize("engine", [*ENGINES, *GPU])
def test_state_and_weights_are_copies_and_missing_slots_start_at_zero(engine):
    cohort, images = make_cohort(Case(), "adam", "relu"), images_of(Case())
    tested = make(engine, cohort, images, initial(cohort))
    tested.train(np.arange(8)[None], 0)
    before = tested.state()
    assert set(before) == {"weights", "m", "v"}
    for array in (*tested.state().values(), tested.weights()):
        assert array.shape == (3, cohort.layout.size)
        assert array.dtype == np.float32
        array[:] = 0
    for name, array in before.items():
        np.testing.assert_array_equal(tested.state()[name], array)
        assert array.any()
    tested.load_state({"weights": initial(cohort)})
    assert not tested.state()["m"].any()
    assert not tested.state()["v"].any()


@pytest.mark.parametrize("engine", [*ENGINES, *GPU])
def test_evaluation_ignores_dropout_and_changes_nothing(engine):
    cohort, images = make_cohort(Case(), "adam", "relu"), images_of(Case())
    tested = make(engine, cohort, images, initial(cohort))
    dry = make(engine, replace(cohort, dropout=np.zeros(3)), images, initial(cohort))
    for _ in range(2):
        scores, expected = (each.evaluate(images.test_images, images.test_labels) for each in (tested, dry))
        np.testing.assert_array_equal(scores.loss, expected.loss)
    np.testing.assert_array_equal(tested.weights(), initial(cohort))


@pytest.mark.parametrize("engine", [*ENGINES, *GPU])
def test_scores_follow_the_labels_though_the_images_are_the_same(engine):
    cohort, images = make_cohort(Case(), "sgd", "relu"), images_of(Case())
    tested, reference = make(engine, cohort, images, initial(cohort)), exact(cohort, images, initial(cohort))
    for labels in (images.test_labels, (images.test_labels + 1) % 10, images.test_labels):
        scores, truth = (each.evaluate(images.test_images, labels) for each in (tested, reference))
        LOSS.check(scores.loss, truth.loss, "loss")
        np.testing.assert_array_equal(scores.accuracy, truth.accuracy)


KINDS = {"28 pixels": Case(networks=2), "plain": Case(Architecture(num_units=5, num_layers=2), size=13, networks=2)}
"""What the native engine computes by its fast and by its plain passes."""
EACH_KIND = pytest.mark.parametrize("kind", KINDS)


@EACH_KIND
@pytest.mark.parametrize("engine", [*ENGINES, *GPU])
def test_of_equal_logits_the_first_class_is_the_answer(engine, kind):
    """A network whose activations are all zero gives every image the same logits: ties are no rare case."""
    cohort, images = make_cohort(KINDS[kind], "sgd", "relu"), images_of(KINDS[kind])
    weights = np.zeros((2, cohort.layout.size), dtype=np.float32)
    bias, _ = cohort.layout.layers[-1]
    weights[1, bias.start : bias.end] = [0, 1, 2, 5, 5, 3, 5, 5, 4, 5]
    scores = make(engine, cohort, images, weights).evaluate(images.train_images, images.train_labels)
    expected = [np.mean(images.train_labels == answer) for answer in (0, 3)]
    assert min(expected) > 0
    np.testing.assert_array_equal(scores.accuracy, expected)


@EACH_KIND
@pytest.mark.parametrize("engine", [*ENGINES, *GPU])
def test_a_logit_that_is_not_a_number_is_the_answer(engine, kind):
    """As in torch and NumPy: a diverged network's accuracy is the same with every engine."""
    cohort, images = make_cohort(KINDS[kind], "sgd", "relu"), images_of(KINDS[kind])
    weights = initial(cohort)
    bias, _ = cohort.layout.layers[-1]
    weights[0, bias.start + 4] = weights[1, bias.start + 6] = weights[1, bias.start + 8] = np.nan
    scores = make(engine, cohort, images, weights).evaluate(images.train_images, images.train_labels)
    expected = [np.mean(images.train_labels == answer) for answer in (4, 6)]
    assert min(expected) > 0
    np.testing.assert_array_equal(scores.accuracy, expected)
    assert np.isnan(scores.loss).all()


@EACH_KIND
@pytest.mark.parametrize("shift", [-150.0, 150.0])
@pytest.mark.parametrize("engine", [*ENGINES, *GPU])
def test_gradient_does_not_depend_on_a_shift_of_all_logits(engine, shift, kind):
    cohort, images = descending(make_cohort(KINDS[kind], "sgd", "relu")), images_of(KINDS[kind])
    start, minibatch = initial(cohort), minibatches_of(KINDS[kind])[0]
    bias, _ = cohort.layout.layers[-1]
    shifted = start.copy()
    shifted[:, bias.start : bias.end] += np.float32(shift)
    reference = moved_by_one_step(exact(cohort, images, start), start, minibatch)
    gradient = moved_by_one_step(make(engine, cohort, images, shifted), shifted, minibatch)
    # A logit near 150 is rounded to 8e-6, and so are the biases themselves; a wrong softmax errs by 1e-2.
    np.testing.assert_allclose(gradient, reference, rtol=0, atol=5e-5)


def test_the_batched_engine_agrees_with_the_reference_on_several_threads_of_torch():
    cohort, images, minibatches = (
        make_cohort(Case(), "adam", "tanh"),
        images_of(Case()),
        minibatches_of(Case(), steps=2),
    )
    reference, tested = exact(cohort, images, initial(cohort)), make("batched", cohort, images, initial(cohort))
    reference.train(minibatches, 0)
    torch.set_num_threads(2)
    tested.train(minibatches, 0)
    STEPS["adam"].check(tested.weights(), reference.weights(), "`weights` after two steps")


@pytest.mark.parametrize("engine", [*ENGINES, *GPU])
def test_evaluation_of_many_images_is_the_mean_over_its_blocks(engine, monkeypatch):
    monkeypatch.setattr("cnnzoo.training.engines.batched.EVALUATION_BYTES", {"cpu": 1, "cuda": 1})
    cohort, images = make_cohort(Case(), "sgd", "tanh"), images_of(Case())
    scores, truth = (
        each.evaluate(images.train_images[:23], images.train_labels[:23])
        for each in (make(engine, cohort, images, initial(cohort)), exact(cohort, images, initial(cohort)))
    )
    LOSS.check(scores.loss, truth.loss, "loss")
    np.testing.assert_array_equal(scores.accuracy, truth.accuracy)


@pytest.mark.slow
@pytest.mark.parametrize("engine", [*ENGINES, *GPU])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_diverging_network_leaves_the_others_alone(engine, optimizer):
    cohort, images = make_cohort(Case(), optimizer, "relu"), images_of(Case())
    minibatches = np.random.default_rng(6).integers(0, 50, (6, 16))
    healthy = make(engine, cohort, images, initial(cohort))
    healthy.train(minibatches, 0)
    rates = cohort.learning_rate.copy()
    rates[1] = 1e30
    tested = make(engine, replace(cohort, learning_rate=rates), images, initial(cohort))
    tested.train(minibatches, 0)
    np.testing.assert_array_equal(tested.weights()[[0, 2]], healthy.weights()[[0, 2]])
    scores = tested.evaluate(images.test_images, images.test_labels)
    assert np.isfinite(scores.loss).tolist() == [True, False, True]


@pytest.mark.parametrize("engine", ["reference, float32", "native"])
def test_network_is_the_same_alone_or_in_a_cohort_bit_for_bit(engine):
    cohort, images = make_cohort(Case(), "adam", "relu"), images_of(Case())
    minibatches = np.random.default_rng(7).integers(0, 50, (5, 16))
    together = make(engine, cohort, images, initial(cohort))
    together.train(minibatches, 0)
    for network in range(cohort.size):
        chosen = slice(network, network + 1)
        alone = make(engine, cohort.part(chosen), images, initial(cohort)[chosen])
        alone.train(minibatches, 0)
        np.testing.assert_array_equal(alone.weights()[0], together.weights()[network])
