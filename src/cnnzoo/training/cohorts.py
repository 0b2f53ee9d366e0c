"""Cohorts: which networks train side by side, and which are already trained.

Networks of a cohort share training fraction and root seed (so they see the same minibatches), the share of wrong
labels, optimizer and activation. Valid shards keep the networks they hold; only the others are grouped again, so a
growing collection trains its new networks alone.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from cnnzoo.core import seeds
from cnnzoo.training.engines import Cohort
from cnnzoo.zoo.recipes import Recipe
from cnnzoo.zoo.shards import Origin, Shard, read_shards, serving


@dataclass(frozen=True)
class Plan:
    """What a training run has to do."""

    valid: tuple[Shard, ...]
    """Shards that stay."""
    stale: tuple[Shard, ...]
    """Shards of nothing that is wanted any more."""
    missing: tuple[tuple[Recipe, ...], ...]
    """Cohorts to train."""


def plan(recipes: Sequence[Recipe], origin: Origin, folder: Path, cohort_size: int, any_engine: bool = False) -> Plan:
    """Compare the networks that are wanted with the shards in `folder`.

    A shard is valid if it was made under the same `origin` and holds a wanted network, with the recipe that is wanted,
    that no other valid shard holds. With `any_engine`, shards of other engines, which agree to rounding, are valid
    too: a zoo made on a CPU is not thrown away where a GPU is found. Raises `CnnzooError` for a damaged shard.
    """

    def fits(found: Origin) -> bool:
        foreign = any_engine and found.engine != origin.engine
        return origin == (replace(found, engine=origin.engine, numerics=origin.numerics) if foreign else found)

    found = read_shards(folder)
    served = serving((shard for shard in found if fits(shard.origin)), recipes)
    needed = {shard.name for shard, _ in served.values()}
    untrained = [recipe for recipe in recipes if recipe not in served]
    return Plan(
        tuple(shard for shard in found if shard.name in needed),
        tuple(shard for shard in found if shard.name not in needed),
        tuple(group(untrained, cohort_size)),
    )


def group(recipes: Iterable[Recipe], cohort_size: int) -> list[tuple[Recipe, ...]]:
    """Group recipes into cohorts of at most `cohort_size`, in the order of their first networks."""
    alike: dict[object, list[Recipe]] = {}
    for recipe in recipes:
        alike.setdefault(_shared(recipe), []).append(recipe)
    cohorts = [
        tuple(members[start : start + cohort_size])
        for members in alike.values()
        for start in range(0, len(members), cohort_size)
    ]
    return sorted(cohorts, key=lambda cohort: cohort[0].network)


def _shared(recipe: Recipe) -> object:
    """What the networks of a cohort have in common."""
    images = (recipe.random_seed, recipe.train_fraction, recipe.label_noise)
    epochs = (recipe.epochs, recipe.epochs_between_checkpoints, recipe.checkpoint_epochs)
    return images, recipe.optimizer, recipe.activation, recipe.architecture, epochs


def cohort_of(recipes: Sequence[Recipe], collection: str, image_size: int) -> Cohort:
    """Return the arrays that an engine needs of the recipes of one cohort."""
    first = recipes[0]
    keys = [seeds.key_words(recipe.random_seed, "dropout", collection, recipe.draws_as) for recipe in recipes]
    return Cohort(
        architecture=first.architecture,
        image_size=image_size,
        optimizer=first.optimizer,
        activation=first.activation,
        learning_rate=np.array([recipe.learning_rate for recipe in recipes]),
        l2reg=np.array([recipe.l2reg for recipe in recipes]),
        dropout=np.array([recipe.dropout for recipe in recipes]),
        dropout_keys=np.array(keys, dtype=np.uint32),
    )
