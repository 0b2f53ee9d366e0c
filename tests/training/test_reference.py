"""The oracle of all engines against oracles of its own: loops, finite differences, Keras' formulas in NumPy.

Shape letters: N networks, P parameters, B images.
"""

import numpy as np
import pytest
import torch

from builders import make_images
from cnnzoo.network.layout import Architecture, layout_of
from cnnzoo.training.dropout import masks, step_key
from cnnzoo.training.engines.base import Cohort
from cnnzoo.training.engines.reference import ReferenceEngine

TINY = Architecture(num_units=3, num_layers=2)
IMAGE_SIZE = 9
IMAGES = make_images(train=12, test=7, size=IMAGE_SIZE)
PIXELS = (IMAGES.train_images[..., 0] / 255.0) * 2 - 1  # (B, H, W)
STEP = 4

# The engine computes in float64 here, but sees float32 pixels: 2**-24 relative, times the gradient's own scale.
RTOL, ATOL = 1e-6, 1e-7


def make_cohort(optimizer="sgd", activation="tanh", dropout=0.4, learning_rate=0.01, l2reg=0.03):
    values = (np.array([value]) for value in (learning_rate, l2reg, dropout))
    keys = np.array([[11, 22]], dtype=np.uint32)
    return Cohort(TINY, IMAGE_SIZE, optimizer, activation, *values, keys)


def make_engine(cohort, weights):
    engine = ReferenceEngine(cohort, torch.float64)
    engine.load_images(IMAGES.train_images, IMAGES.train_labels)
    engine.load_state({"weights": weights[None]})
    return engine


def initial(seed=0):
    return np.random.default_rng(seed).normal(0, 0.4, layout_of(TINY).size)


def loss_by_hand(cohort, weights, images, step=None):
    """The loss of section 1 of the design, in NumPy loops; with dropout if a step is given."""
    tensors = list(cohort.layout.split(weights).values())  # bias, kernel, bias, kernel, ...
    rate, features = cohort.dropout[0], PIXELS[images][..., None]  # (B, H, W, C)
    kept = masks(cohort.mask_plan, step_key((11, 22), step), rate, len(images)) if step is not None else None
    for layer in range(TINY.num_layers):
        bias, kernel = tensors[2 * layer], tensors[2 * layer + 1]
        side = (features.shape[1] - 3) // 2 + 1
        output = np.empty((len(images), side, side, TINY.num_units))
        for row in range(side):
            for column in range(side):
                window = features[:, 2 * row : 2 * row + 3, 2 * column : 2 * column + 3]  # (B, 3, 3, C)
                output[:, row, column] = np.einsum("bijc,ijcu->bu", window, kernel) + bias
        output = np.tanh(output) if cohort.activation == "tanh" else np.maximum(output, 0)
        features = output if kept is None else output * kept[layer].reshape(output.shape) / (1 - rate)
    logits = features.mean(axis=(1, 2)) @ tensors[-1] + tensors[-2]  # (B, 10)
    shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    labels = IMAGES.train_labels[images]
    entropy = -np.log(shares[np.arange(len(images)), labels]).mean()
    penalty = cohort.l2reg[0] * sum((kernel**2).sum() for kernel in tensors[1::2])
    return entropy + penalty, (logits.argmax(axis=1) == labels).mean()


def gradient_by_differences(cohort, weights, images, step):
    gradient, reach = np.empty_like(weights), 1e-6
    for index in range(len(weights)):
        shift = np.zeros_like(weights)
        shift[index] = reach
        upper, _ = loss_by_hand(cohort, weights + shift, images, step)
        lower, _ = loss_by_hand(cohort, weights - shift, images, step)
        gradient[index] = (upper - lower) / (2 * reach)
    return gradient


def gradient_of_engine(cohort, weights, images, step):
    """One step of plain gradient descent at learning rate 1 moves by the gradient."""
    plain = Cohort(**{**cohort.__dict__, "optimizer": "sgd", "learning_rate": np.array([1.0])})
    engine = make_engine(plain, weights)
    engine.train(images[None], step)
    return weights - engine.weights()[0]


@pytest.mark.parametrize("activation", ["relu", "tanh"])
def test_scores_are_mean_cross_entropy_plus_l2_of_the_kernels_and_share_of_hits(activation):
    cohort, everything = make_cohort(activation=activation), np.arange(12)
    scores = make_engine(cohort, initial()).evaluate(IMAGES.train_images, IMAGES.train_labels)
    loss, accuracy = loss_by_hand(cohort, initial(), everything)
    np.testing.assert_allclose(scores.loss, [loss], rtol=RTOL, atol=ATOL)
    assert scores.accuracy == [accuracy]


def test_biases_are_not_penalised():
    layout = layout_of(TINY)
    weights, cohort = np.where(layout.kernel_mask, 0.0, 1.0), make_cohort(l2reg=5.0)
    scores = make_engine(cohort, weights).evaluate(IMAGES.train_images, IMAGES.train_labels)
    assert scores.loss[0] == pytest.approx(np.log(10))


def test_scores_of_many_images_are_those_of_their_parts(monkeypatch):
    monkeypatch.setattr("cnnzoo.training.engines.reference.EVALUATION_BATCH", 5)
    cohort = make_cohort()
    scores = make_engine(cohort, initial()).evaluate(IMAGES.train_images, IMAGES.train_labels)
    np.testing.assert_allclose(scores.loss[0], loss_by_hand(cohort, initial(), np.arange(12))[0], rtol=RTOL)


@pytest.mark.parametrize("dropout", [0.0, 0.4])
@pytest.mark.parametrize("activation", ["relu", "tanh"])
def test_gradient_equals_finite_differences(activation, dropout):
    cohort, images = make_cohort(activation=activation, dropout=dropout), np.array([3, 1, 4, 1, 5])
    expected = gradient_by_differences(cohort, initial(), images, STEP)
    # Differences at 1e-6 of a loss near 3 err by about 3 * 2**-53 / 1e-6 = 3e-10, curvature by less.
    np.testing.assert_allclose(gradient_of_engine(cohort, initial(), images, STEP), expected, rtol=1e-5, atol=ATOL)


def keras_adam(weights, gradients, rate):
    """tf.keras.optimizers.Adam of Keras 2: beta_1 0.9, beta_2 0.999, epsilon 1e-7 outside the root."""
    m = v = np.zeros_like(weights)
    for t, gradient in enumerate(gradients(weights), start=1):
        m = 0.9 * m + 0.1 * gradient
        v = 0.999 * v + 0.001 * gradient**2
        weights = weights - rate * np.sqrt(1 - 0.999**t) / (1 - 0.9**t) * m / (np.sqrt(v) + 1e-7)
        yield weights


def keras_rmsprop(weights, gradients, rate):
    """tf.keras.optimizers.RMSprop of Keras 2: rho 0.9, epsilon 1e-7, no momentum, not centred."""
    v = np.zeros_like(weights)
    for gradient in gradients(weights):
        v = 0.9 * v + 0.1 * gradient**2
        weights = weights - rate * gradient / (np.sqrt(v) + 1e-7)
        yield weights


def keras_sgd(weights, gradients, rate):
    for gradient in gradients(weights):
        weights = weights - rate * gradient
        yield weights


@pytest.mark.parametrize(("optimizer", "keras"), [("sgd", keras_sgd), ("adam", keras_adam), ("rmsprop", keras_rmsprop)])
def test_optimizers_follow_the_formulas_of_keras(optimizer, keras):
    cohort = make_cohort(optimizer)
    minibatches = np.random.default_rng(1).integers(0, 12, (6, 5))
    visited = [initial()]

    def gradients(_start):
        for step, images in enumerate(minibatches):
            yield gradient_of_engine(cohort, visited[-1], images, step)

    engine = make_engine(cohort, initial())
    for step, weights in enumerate(keras(initial(), gradients, 0.01)):
        visited.append(weights)
        engine.train(minibatches[step : step + 1], step)
        np.testing.assert_allclose(engine.weights()[0], weights, rtol=1e-9, atol=1e-12)


def test_masks_follow_the_step_and_the_key():
    cohort, images = make_cohort(), np.arange(5)
    gradients = [gradient_of_engine(cohort, initial(), images, step) for step in (0, 0, 1)]
    np.testing.assert_array_equal(gradients[0], gradients[1])
    assert not np.allclose(gradients[0], gradients[2])
    other = Cohort(**{**cohort.__dict__, "dropout_keys": np.array([[11, 23]], np.uint32)})
    assert not np.allclose(gradient_of_engine(other, initial(), images, 0), gradients[0])
