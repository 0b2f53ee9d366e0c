"""Samples of networks in memory, and a predictor that does what its settings say, for tests of searches.

Shape letters: n networks.
"""

from typing import Any, ClassVar

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator

from cnnzoo import config
from cnnzoo.search import Sample, Task
from zoos import PARAMS


def make_sample(networks: int, first_row: int = 0, seed: int = 0) -> Sample:
    """Return networks whose accuracy is a noisy logistic function of the feature `signal`."""
    rng = np.random.default_rng([seed, networks])
    table = pd.DataFrame(rng.standard_normal((networks, 3)), columns=["noise", "signal", "other"])
    rows = first_row + 2 * np.arange(networks)
    table.index = rows
    accuracy = 1 / (1 + np.exp(-2 * table["signal"] + 0.3 * rng.standard_normal(networks)))
    return Sample(rows, [f"tiny/{row // 2:06d}" for row in rows], table, accuracy.to_numpy())


def make_task(predictor: str = "linear", features: str = "stats", **changes: Any) -> Task:
    """Return a task; `collection`, `seed` and `jobs` among `changes` are its own, others those of its budget."""
    own = {"collection": "tiny", "seed": 7, "jobs": 1}
    own |= {name: changes.pop(name) for name in list(changes) if name in own}
    budget = {"trials": 3, "folds": 2, "max_trees": 20, "max_epochs": 4, **changes}
    search = config.load(PARAMS).search.model_copy(update=budget)
    return Task(own["collection"], predictor, features, own["seed"], search, own["jobs"])


class Scripted(BaseEstimator):
    """Predicts the mean accuracy of its training networks plus `shift`, by a script that tells it for each trial.

    It keeps what it was fitted to and what it predicted, in order: the table's index each time.
    """

    start: ClassVar[dict[str, Any]] = {"setting": 0.5}
    version: ClassVar[int] = 1
    shifts: ClassVar[dict[int, float]] = {}
    fits: ClassVar[list[tuple[int, list[int]]]] = []
    predictions: ClassVar[list[tuple[int, list[int]]]] = []

    def __init__(self, setting: float = 0.0, shift: float = 0.0, number: int = 0) -> None:
        self.setting = setting
        self.shift = shift
        self.number = number

    @classmethod
    def forget(cls, shifts: dict[int, float] | None = None) -> None:
        """Begin again, with a script: shift of each trial (0 where it says nothing)."""
        cls.shifts, cls.fits, cls.predictions = shifts or {}, [], []

    @classmethod
    def suggest(cls, trial: Any) -> dict[str, Any]:
        """Draw `setting`."""
        setting = trial.suggest_float("setting", 0.0, 1.0)
        return {"setting": setting, "shift": cls.shifts.get(trial.number, 0.0), "number": trial.number}

    @classmethod
    def versions(cls) -> tuple[int, ...]:
        return (cls.version,)

    def fit(self, X: pd.DataFrame, y: Any) -> "Scripted":  # noqa: N803
        """Keep the mean."""
        self.fits.append((self.number, X.index.tolist()))
        self.mean_ = float(np.mean(y))
        return self

    def predict(self, X: pd.DataFrame) -> Any:  # noqa: N803
        """Return the same for each network."""
        self.predictions.append((self.number, X.index.tolist()))
        return np.full(len(X), self.mean_ + self.shift)
