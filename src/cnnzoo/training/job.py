"""What the trainings of one collection's cohorts have in common."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from cnnzoo.config import Params
from cnnzoo.core.artifacts import Artifacts
from cnnzoo.images import ImageSet
from cnnzoo.training.engines.choice import EngineChoice
from cnnzoo.training.minibatches import Schedule
from cnnzoo.zoo.recipes import Recipe
from cnnzoo.zoo.shards import Origin, Shard


class Listener(Protocol):
    """Hears of every cohort as it trains; returns at once and never raises."""

    def start(self, cohort: str, origin: Origin, recipes: Sequence[Recipe]) -> None:
        """A cohort begins, or goes on after a kill."""

    def checkpoint(self, cohort: str, epoch: int, metrics: Mapping[str, NDArray[np.float64]]) -> None:
        """A checkpoint epoch is reached; each metric is (N,), in the order of the recipes."""

    def finish(self, shard: Shard, nodes: Sequence[str] = ()) -> None:
        """The cohort's shard is written. `nodes` names where each network was trained, (N,); empty: on this machine."""


@dataclass(frozen=True)
class Job:
    """One collection's training: its images, parameters and engine, and who listens."""

    artifacts: Artifacts
    params: Params
    collection: str
    images: ImageSet
    engine: EngineChoice
    listener: Listener

    @property
    def origin(self) -> Origin:
        """What, beside the recipes, determines the shards."""
        return Origin(
            collection=self.collection,
            minibatch=self.params.population(self.collection).minibatch,
            images=self.images.digest,
            engine=self.engine.arithmetic,
            numerics=self.engine.numerics,
        )

    def schedule(self, recipe: Recipe) -> Schedule:
        """Return the minibatches that a network sees; raises `CnnzooError` if it could not take a step."""
        return Schedule(
            seed=recipe.random_seed,
            collection=self.collection,
            fraction=recipe.train_fraction,
            images=len(self.images.train_labels),
            minibatch=self.origin.minibatch,
        )

    def check(self, recipes: Sequence[Recipe]) -> None:
        """Raise `CnnzooError` if any network cannot be trained on these images."""
        for recipe in {(r.train_fraction, r.architecture): r for r in recipes}.values():
            self.schedule(recipe)
            recipe.architecture.feature_sizes(self.images.image_size)
            self.engine.check(recipe.architecture, self.images.image_size)

    def passes(self, recipes: Sequence[Recipe], epochs: int) -> int:
        """Return the image passes (images x networks) of a cohort in a number of epochs."""
        return len(recipes) * epochs * self.schedule(recipes[0]).passes
