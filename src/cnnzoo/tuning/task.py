"""One search: which predictor is tuned on which features, with which budget and which random numbers."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from cnnzoo import config, predictors, seeds
from cnnzoo.predictors import Predictor
from cnnzoo.tuning.sample import Sample

SOURCES = (Path(__file__).parent, Path(predictors.__file__).parent)
LIBRARIES = ("catboost", "numpy", "optuna", "pandas", "pytorch-lightning", "scikit-learn", "scipy", "torch")
"""What the numbers of a trial depend on besides data and parameters: the code, and the versions of these."""


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
        """Return a hash of everything that determines the trials: data, parameters, code, versions.

        The number of trials is left out: the trials of a smaller budget are the first ones of a larger.
        """
        content = {
            "task": [self.collection, self.predictor, self.features, self.seed],
            "search": self.search.model_dump(mode="json", exclude={"trials", "predictors", "only"}),
            "data": train.digest(),
            "code": _code(),
            "versions": {library: version(library) for library in LIBRARIES},
        }
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _code() -> str:
    """Return a hash of the source of predictors and searches: trials of other code are never mixed."""
    files = sorted(path for folder in SOURCES for path in folder.glob("*.py"))
    return hashlib.sha256(b"".join(path.name.encode() + path.read_bytes() for path in files)).hexdigest()
