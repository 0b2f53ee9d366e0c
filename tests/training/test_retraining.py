"""Networks retrained by hand equal those of the stage `train`.

Everything is written out here from the design: which images a network sees and in which order, the images' scaling,
the forward pass, the loss, dropout, the optimizers of Keras 2, the metrics. Taken from the project are the generators
of `seeds` and the initial weights (which have tests of their own), and nothing of the engines.

Shape letters: N networks, E checkpoint epochs, P parameters, B images, H W pixels, C channels, U units.
"""

from dataclasses import dataclass, replace
from itertools import product

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from cnnzoo import kernel
from cnnzoo.core import seeds
from cnnzoo.images import ImageSet
from cnnzoo.training import module
from cnnzoo.training.initializers import initial_weights
from cnnzoo.zoo.recipes import draw
from trainings import TINY, Recorder, Zoo, tiny_params

SIZE, SIDES, UNITS = 11, (5, 2), 4
MINIBATCH = 8
EPOCHS = (0, 1, 2, 3, 6)
"""The checkpoints; epochs 4 and 5 are trained and not kept."""
FRACTIONS = (0.5, 1.0)
COMBINATIONS = list(product(FRACTIONS, ("relu", "tanh"), ("sgd", "adam", "rmsprop")))
ENGINES = [
    pytest.param("native", marks=pytest.mark.skipif(kernel.unavailable_reason() is not None, reason="no kernel")),
    "batched",
    "reference",
]


def make_colour_images():
    rng = np.random.default_rng(20)
    # 44 images are 5 minibatches of 8 and 4 images that an epoch leaves out; half of them are 2 minibatches and 6.
    parts = [
        (rng.integers(0, 256, (count, SIZE, SIZE, 3), dtype=np.uint8), rng.integers(0, 10, count, dtype=np.uint8))
        for count in (44, 30)
    ]
    return ImageSet(*parts[0], *parts[1])


IMAGES = make_colour_images()
PARAMS = tiny_params(
    recipes={
        "learning_rate": {"log_uniform": [1e-3, 5e-3]},
        "l2reg": {"log_uniform": [1e-3, 1e-1]},
        "init_std": {"log_uniform": [0.1, 0.4]},
        "epochs": 6,
        "epochs_between_checkpoints": 6,
    },
    runtime={"resume_interval_s": 0},
    networks=2 * len(COMBINATIONS),
)
RECIPES = [
    replace(recipe, train_fraction=fraction, activation=activation, optimizer=optimizer)
    for recipe, (fraction, activation, optimizer) in zip(draw(PARAMS, TINY), 2 * COMBINATIONS, strict=True)
]


def network_inputs(images):
    """uint8 (B, H, W, C) -> float64 (B, 1, H, W): [0, 255] to [-1, 1], then the mean over the colours."""
    return torch.from_numpy((images / 255.0 * 2.0 - 1.0).mean(axis=-1))[:, None]


def subset_of(recipe):
    """The images of the training subset: drawn once for all networks with this fraction."""
    images = len(IMAGES.train_labels)
    random = seeds.generator(recipe.random_seed, "subset", TINY, repr(recipe.train_fraction))
    return sorted(random.permutation(images)[: int(images * recipe.train_fraction)].tolist())


def minibatches_of(recipe, epoch):
    """The minibatches of an epoch (from 1), as positions in the subset: a new order, the incomplete one dropped."""
    size = int(len(IMAGES.train_labels) * recipe.train_fraction)
    order = seeds.generator(recipe.random_seed, "order", TINY, repr(recipe.train_fraction), epoch).permutation(size)
    return [order[start : start + MINIBATCH] for start in range(0, size - MINIBATCH + 1, MINIBATCH)]


def mix(counter, key):
    """The generator of dropout as documented: 32-bit words, here in integers of 64 bits or more."""
    bits = 2**32 - 1
    x = (counter * 0x9E3779B9 + key[0]) & bits
    x ^= x >> 16
    x = x * 0x21F0AAAD & bits
    x ^= x >> 15
    x ^= key[1]
    x = x * 0x735A2D97 & bits
    return x ^ x >> 15


def masks_of(recipe, step):
    """What dropout keeps at a step, counted from 0: bool (B, U, H, W) for each layer."""
    network_key = seeds.key_words(recipe.random_seed, "dropout", TINY, recipe.network)
    key = mix(step, network_key), mix(step + 2**31, network_key)
    pairs = [(side**2 + 1) // 2 for side in SIDES]
    image, unit = np.arange(MINIBATCH)[:, None, None], np.arange(UNITS)[None, :, None]
    kept = []
    for layer, side in enumerate(SIDES):
        position = np.arange(side**2)[None, None, :]
        counter = image * UNITS * sum(pairs) + UNITS * sum(pairs[:layer]) + position // 2 * UNITS + unit
        drawn = mix(counter.astype(np.uint64), key).astype(np.int64) >> 16 * (position % 2) & 0xFFFF
        kept.append((drawn >= round(recipe.dropout * 65536)).reshape(MINIBATCH, UNITS, side, side))
    return kept


def variables_of(row):
    """The layers of a row, as the published layout.csv says: (bias, kernel in torch's order) each."""
    first = 9 * UNITS
    starts = [0, UNITS, UNITS + first, 2 * UNITS + first, 2 * UNITS + first + 9 * UNITS**2]
    parts = [row[a:b] for a, b in zip(starts, [*starts[1:], starts[-1] + 10], strict=True)]
    dense = row[starts[-1] + 10 :].reshape(UNITS, 10)
    kernels = parts[1].reshape(3, 3, 1, UNITS), parts[3].reshape(3, 3, UNITS, UNITS)
    return [(parts[0], kernels[0].permute(3, 2, 0, 1)), (parts[2], kernels[1].permute(3, 2, 0, 1)), (parts[4], dense)]


def logits_of(recipe, row, inputs, kept=None):
    activation = {"relu": torch.relu, "tanh": torch.tanh}[recipe.activation]
    *convolutions, (dense_bias, dense) = variables_of(row)
    features = inputs
    for layer, (bias, weight) in enumerate(convolutions):
        features = activation(F.conv2d(features, weight, bias, stride=2))
        if kept is not None:
            features = features * torch.from_numpy(kept[layer]) / (1 - recipe.dropout)
    return features.mean(dim=(2, 3)) @ dense + dense_bias


def loss_of(recipe, row, logits, labels):
    penalty = sum(kernel.square().sum() for _, kernel in variables_of(row))
    return F.cross_entropy(logits, labels) + recipe.l2reg * penalty


class Keras:
    """The optimizers of Keras 2 with their default constants."""

    def __init__(self, recipe, row):
        self.name, self.rate, self.steps = recipe.optimizer, recipe.learning_rate, 0
        self.m, self.v = torch.zeros_like(row), torch.zeros_like(row)

    def moved(self, row, gradient):
        self.steps += 1
        if self.name == "sgd":
            return row - self.rate * gradient
        if self.name == "rmsprop":
            self.v = 0.9 * self.v + 0.1 * gradient**2
            return row - self.rate * gradient / (self.v.sqrt() + 1e-7)
        self.m = 0.9 * self.m + 0.1 * gradient
        self.v = 0.999 * self.v + 0.001 * gradient**2
        rate = self.rate * (1 - 0.999**self.steps) ** 0.5 / (1 - 0.9**self.steps)
        return row - rate * self.m / (self.v.sqrt() + 1e-7)


@dataclass(frozen=True)
class Part:
    """What the metrics of one half must be: the loss, and bounds of the accuracy.

    The bounds differ by the images whose two highest logits are so close that rounding may exchange them.
    """

    loss: float
    least_accuracy: float
    most_accuracy: float


def score(recipe, row, images, labels):
    with torch.no_grad():
        targets = torch.from_numpy(labels.astype(np.int64))
        logits = logits_of(recipe, row, network_inputs(images))
        loss = float(loss_of(recipe, row, logits, targets))
    own = logits.gather(1, targets[:, None])[:, 0]
    others = logits.scatter(1, targets[:, None], -torch.inf).max(dim=1).values
    lead = own - others
    return Part(loss, float((lead > 1e-4).double().mean()), float((lead > -1e-4).double().mean()))


def retrain(recipe):
    """Train one network by hand: {epoch: (row float64 (P,), scores on the test set, on the training subset)}."""
    subset = subset_of(recipe)
    images, labels = IMAGES.train_images[subset], IMAGES.train_labels[subset]
    inputs, targets = network_inputs(images), torch.from_numpy(labels.astype(np.int64))
    row = torch.from_numpy(initial_weights(recipe, TINY, recipe.layout).astype(np.float64))
    optimizer, step, kept = Keras(recipe, row), 0, {}
    for epoch in range(max(EPOCHS) + 1):
        for minibatch in minibatches_of(recipe, epoch) if epoch else []:
            leaf = row.requires_grad_()
            logits = logits_of(recipe, leaf, inputs[minibatch], masks_of(recipe, step))
            (gradient,) = torch.autograd.grad(loss_of(recipe, leaf, logits, targets[minibatch]), leaf)
            row, step = optimizer.moved(row.detach(), gradient), step + 1
        if epoch in EPOCHS:
            test = score(recipe, row.detach(), IMAGES.test_images, IMAGES.test_labels)
            kept[epoch] = row.detach().numpy(), test, score(recipe, row.detach(), images, labels)
    return kept


@pytest.fixture(scope="module")
def by_hand():
    return {recipe.network: retrain(recipe) for recipe in RECIPES}


def check(trained, by_hand, recipes):
    """Compare all shards with the networks that were trained by hand."""
    seen = []
    for shard in trained:
        assert shard.epochs == EPOCHS
        for index, recipe in enumerate(shard.recipes):
            seen.append(recipe)
            rows = shard.weights()[index].astype(np.float64)
            for column, epoch in enumerate(EPOCHS):
                row, *parts = by_hand[recipe.network][epoch]
                # float32 against float64: the error grows with the distance travelled. Another image, order, mask or
                # constant changes that distance by more than a per cent.
                travelled = np.linalg.norm(row - by_hand[recipe.network][0][0])
                assert np.linalg.norm(rows[column] - row) <= 1e-3 * travelled, (recipe, epoch)
                for name, part in zip(("test", "train"), parts, strict=True):
                    loss, accuracy = (shard.metrics[f"{name}_{of}"][index, column] for of in ("loss", "accuracy"))
                    assert loss == pytest.approx(part.loss, rel=1e-4), (recipe, epoch, name)
                    assert part.least_accuracy - 1e-9 <= accuracy <= part.most_accuracy + 1e-9, (recipe, epoch, name)
            assert shard.diverged_epoch[index] == -1
    assert sorted(seen, key=lambda recipe: recipe.network) == recipes


def params_of(engine):
    return PARAMS.model_copy(update={"train": PARAMS.train.model_copy(update={"engine": engine})})


def test_the_cases_are_all_kinds_of_networks_with_masks_that_matter():
    assert {(r.train_fraction, r.activation, r.optimizer) for r in RECIPES} == set(COMBINATIONS)
    assert len({r.w_init for r in RECIPES}) == 5
    assert sum(r.dropout > 0.1 for r in RECIPES) > 12
    assert set(subset_of(RECIPES[0])) != set(range(22))


@pytest.mark.slow
@pytest.mark.parametrize("engine", ENGINES)
def test_trained_networks_equal_those_retrained_by_hand(tmp_path, by_hand, engine):
    check(Zoo(tmp_path, IMAGES, TINY).train(params_of(engine), recipes=RECIPES), by_hand, RECIPES)


@pytest.mark.parametrize("block", [1, 2 * 2 * MINIBATCH])
def test_so_do_interrupted_and_resumed_ones_however_many_minibatches_a_call_trains(
    tmp_path, by_hand, monkeypatch, block
):
    """Cohorts of two networks; a call of the engine trains one minibatch, or two: two, two and one an epoch."""
    monkeypatch.setattr(module, "CALL_IMAGES", block)
    zoo, params, interruptions = Zoo(tmp_path, IMAGES, TINY), params_of("batched"), 0
    chosen = {(0.5, "relu", "adam"), (1.0, "tanh", "rmsprop")}
    recipes = [recipe for recipe in RECIPES if (recipe.train_fraction, recipe.activation, recipe.optimizer) in chosen]
    while interruptions < 50:
        try:
            trained = zoo.train(params, Recorder(fail_at=[4]), recipes)  # at the third checkpoint of this run
            break
        except RuntimeError:
            interruptions += 1
    assert interruptions >= 2
    check(trained, by_hand, recipes)
