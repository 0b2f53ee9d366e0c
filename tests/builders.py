"""Synthetic recipes, shards and images for tests: small, deterministic, with a signal that a predictor can find.

Every number is a closed formula of a network's id and an epoch, so a test can compute what a file must hold
without asking the code under test: `weights_of` and `metrics_of` say what network 17 has, in whatever shard it lies.

Shape letters: N networks, E checkpoint epochs, P parameters, B images, H pixels.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnnzoo.images import ImageSet
from cnnzoo.network.layout import layout_of
from cnnzoo.zoo import assemble
from cnnzoo.zoo.recipes import Recipe
from cnnzoo.zoo.shards import METRICS, NEVER, Origin, Shard, write_shard

COLLECTION = "tiny"
SEED = 7
GOLDEN_RATIO = 0.6180339887498949
WEIGHT_INITIALIZERS = ("he_normal", "glorot_normal", "orthogonal", "RandomNormal", "TruncatedNormal")


def make_recipe(network: int, **changes: Any) -> Recipe:
    """Return the recipe of one network; `changes` replace its fields (`num_units=4`, `epochs=3` ...)."""
    spread = (network + 1) * GOLDEN_RATIO % 1
    recipe = Recipe(
        network=network,
        activation=("relu", "tanh")[network % 2],
        b_init="zeros",
        dataset="mnist5k",
        dnn_architecture="cnn",
        dropout=0.7 * spread,
        epochs=86,
        epochs_between_checkpoints=20,
        init_std=0.001 + 0.499 * spread,
        l2reg=1e-8 + 0.01 * spread * spread,
        learning_rate=5e-4 + 0.0495 * spread,
        num_layers=3,
        num_units=16,
        optimizer=("sgd", "adam", "rmsprop")[network % 3],
        random_seed=SEED,
        train_fraction=(0.1, 0.25, 0.5, 1.0)[network % 4],
        w_init=WEIGHT_INITIALIZERS[network % 5],
    )
    return replace(recipe, **changes)


def make_recipes(networks: int | Iterable[int], **changes: Any) -> list[Recipe]:
    """Return the recipes of networks 0 ... n - 1, or of the given ids."""
    ids = range(networks) if isinstance(networks, int) else networks
    return [make_recipe(network, **changes) for network in ids]


def epochs_of(recipe: Recipe) -> tuple[int, ...]:
    """The checkpoint epochs of a network, ascending."""
    return recipe.checkpoints


def quality(recipe: Recipe, epoch: int) -> float:
    """How good a network is, in [0, 1): grows with the epoch, peaks at a middle learning rate, falls with dropout."""
    talent = (1 - abs(recipe.learning_rate - 0.02) / 0.05) * (1 - 0.5 * recipe.dropout)
    return talent * epoch / (epoch + 5)


def weights_of(recipe: Recipe) -> NDArray[np.float32]:
    """Weights (E, P) of one network: normal numbers, the larger the better the network is."""
    layout = layout_of(recipe.architecture)
    rng = np.random.default_rng([recipe.random_seed, recipe.network])
    direction = rng.standard_normal(layout.size, dtype=np.float32)
    scales = [0.1 + quality(recipe, epoch) for epoch in epochs_of(recipe)]
    return np.stack([direction * np.float32(scale) for scale in scales])


def metrics_of(recipe: Recipe) -> dict[str, list[float]]:
    """The published metrics of one network, E values each."""
    test = [0.1 + 0.85 * quality(recipe, epoch) for epoch in epochs_of(recipe)]
    train = [0.1 + 0.89 * quality(recipe, epoch) for epoch in epochs_of(recipe)]
    return {
        "test_accuracy": test,
        "test_loss": [2.5 * (1 - accuracy) for accuracy in test],
        "train_accuracy": train,
        "train_loss": [2.5 * (1 - accuracy) for accuracy in train],
    }


def make_origin(collection: str = COLLECTION) -> Origin:
    """Return the origin of synthetic shards."""
    return Origin(collection=collection, minibatch=64, images="0" * 64, engine="reference", numerics="1")


def make_shard(
    folder: Path, recipes: Sequence[Recipe], collection: str = COLLECTION, diverged: Mapping[int, int] | None = None
) -> Shard:
    """Write the shard of some networks; `diverged` says at which epoch which network id diverges."""
    diverged = diverged or {}
    weights = np.stack([weights_of(recipe) for recipe in recipes])  # (N, E, P)
    metrics = {name: np.array([metrics_of(recipe)[name] for recipe in recipes]) for name in METRICS}  # (N, E) each
    diverged_epoch = np.array([diverged.get(recipe.network, NEVER) for recipe in recipes], dtype=np.int64)
    for index, recipe in enumerate(recipes):
        if recipe.network in diverged:
            lost = np.array(epochs_of(recipe)) >= diverged[recipe.network]
            weights[index, lost] = np.nan
            for name in ("test_loss", "train_loss"):
                metrics[name][index, lost] = np.nan
    return write_shard(folder, make_origin(collection), recipes, weights, metrics, diverged_epoch)


def make_shards(
    folder: Path,
    recipes: Sequence[Recipe],
    collection: str = COLLECTION,
    diverged: Mapping[int, int] | None = None,
    cohort_size: int = 256,
) -> list[Shard]:
    """Write the shards of a collection, grouped as cohorts are: by optimizer, activation and training fraction."""

    def cohort(recipe: Recipe) -> tuple[str, str, float]:
        return recipe.optimizer, recipe.activation, recipe.train_fraction

    shards = []
    for _, group in groupby(sorted(recipes, key=cohort), cohort):
        members = list(group)
        for start in range(0, len(members), cohort_size):
            shards.append(make_shard(folder, members[start : start + cohort_size], collection, diverged))
    return shards


def make_images(train: int = 60, test: int = 40, size: int = 28, seed: int = SEED) -> ImageSet:
    """Return random uint8 images (B, H, H, 1) whose brightness in one corner tells their label."""
    rng = np.random.default_rng(seed)

    def part(count: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        labels = rng.integers(0, 10, count, dtype=np.uint8)
        images = rng.integers(0, 256, (count, size, size, 1), dtype=np.uint8)
        images[:, : size // 2, : size // 2, 0] = 25 * labels[:, None, None]
        return images, labels

    train_images, train_labels = part(train)
    test_images, test_labels = part(test)
    return ImageSet(train_images, train_labels, test_images, test_labels)


def make_collection(
    folder: Path, networks: int = 12, collection: str = COLLECTION, diverged: Mapping[int, int] | None = None
) -> Path:
    """Return the folder of a small collection with its split; shards and zoo lie below `folder`."""
    recipes = make_recipes(networks)
    shards = make_shards(folder / "checkpoints" / collection, recipes, collection, diverged)
    assemble(shards, recipes, collection, folder / "zoo" / collection, SEED)
    return folder / "zoo" / collection
