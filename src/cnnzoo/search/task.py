"""One search: which predictor is tuned on which features, with which budget and which random numbers."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

from cnnzoo import config, predictors
from cnnzoo.core import seeds
from cnnzoo.predictors import Predictor
from cnnzoo.search.sample import Sample

VERSION = 1
"""To be raised when a search runs other trials for the same task: other folds, sampling or refits."""
LIBRARIES = ("catboost", "numpy", "optuna", "pandas", "pytorch-lightning", "scikit-learn", "scipy", "torch")
"""Libraries whose versions decide what a trial finds."""


@dataclass(frozen=True)
class Task:
    """One predictor to tune on one feature set."""

    collection: str
    predictor: str
    features: str
    seed: int
    search: config.Search
    jobs: int
    """Threads of predictors whose result does not depend on them."""

    @property
    def kind(self) -> type[Predictor]:
        """The class of the predictor."""
        return predictors.REGISTRY[self.predictor]

    def build(self, settings: Mapping[str, Any]) -> Predictor:
        """Return an unfitted predictor with these settings, this task's limits and its random state."""
        limits = {"iterations": self.search.max_trees, "max_epochs": self.search.max_epochs, "n_jobs": self.jobs}
        limits["random_state"] = self.draw("search.random_state")
        predictor = self.kind(**settings)
        known = predictor.get_params()
        predictor.set_params(**{name: value for name, value in limits.items() if name in known})
        return predictor

    def draw(self, purpose: str, *key: int) -> int:
        """Return the seed of one purpose of this task."""
        rng = seeds.generator(self.seed, purpose, self.collection, self.predictor, self.features, *key)
        return int(rng.integers(2**31))

    def digest(self, train: Sample) -> str:
        """Return a hash of everything that determines the trials: data, parameters, versions of code and libraries.

        The number of trials is left out: the trials of a smaller budget are the first ones of a larger.
        """
        content = {
            "task": [self.collection, self.predictor, self.features, self.seed],
            "search": self.search.model_dump(mode="json", exclude={"trials", "predictors", "only"}),
            "data": train.digest(),
            "code": [VERSION, *self.kind.versions()],
            "versions": {library: version(library) for library in LIBRARIES},
        }
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
