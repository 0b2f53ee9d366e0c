"""Stacking: the predictions of several predictors, combined (Wolpert 1992; non-negative weights: Breiman 1996).

Each member predicts training networks that it has not seen (folds inside the training rows). The combination is a
weighted sum of these predictions' logits plus a constant, with weights that are not negative, at the least squared
error of fractions (least squares of the logits themselves did worse: near 0 and 1 they are mostly noise). Then every
member is fitted to all training rows.

Shape letters: n rows, M members.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from optuna.trial import BaseTrial
from scipy.optimize import minimize
from scipy.special import expit, logit
from sklearn.base import clone
from sklearn.utils import check_random_state

from cnnzoo.predictors.base import Arrays, Floats, Predictor
from cnnzoo.predictors.boosting import BoostedTrees
from cnnzoo.predictors.linear import LogitLinear
from cnnzoo.predictors.mlp import DNN
from cnnzoo.predictors.storage import load_predictor, save_predictor
from cnnzoo.predictors.tables import Table

MEMBERS: dict[str, type[Predictor]] = {"linear": LogitLinear, "catboost": BoostedTrees, "dnn": DNN}
MARGIN = 1e-3
"""Fractions are kept so far from 0 and 1 before their logit is taken."""
RIDGE = 1e-3
SMALLEST_TO_FOLD = 12
"""With fewer training rows the members count alike."""


class Stack(Predictor):
    """Logit-linear, boosted trees and a DNN, combined on the logit scale.

    `folds` divide the training rows for the combination. The other settings go to the members that know them.
    """

    members_: dict[str, Predictor]
    weights_: NDArray[np.float64]
    """Weight of each member (M,), not negative."""
    constant_: float

    def __init__(
        self,
        folds: int = 3,
        l2: float = 1e-3,
        depth: int = 5,
        rsm: float = 0.5,
        hidden_units: int = 256,
        dropout: float = 0.05,
        iterations: int = 1000,
        max_epochs: int = 300,
        random_state: int | np.random.RandomState | None = 0,
        n_jobs: int | None = None,
    ) -> None:
        self.folds = folds
        self.l2 = l2
        self.depth = depth
        self.rsm = rsm
        self.hidden_units = hidden_units
        self.dropout = dropout
        self.iterations = iterations
        self.max_epochs = max_epochs
        self.random_state = random_state
        self.n_jobs = n_jobs

    version: ClassVar[int] = 1
    start: ClassVar[dict[str, Any]] = {"l2": 1e-3, "depth": 5, "rsm": 0.5, "hidden_units": 256, "dropout": 0.05}

    @classmethod
    def versions(cls) -> tuple[int, ...]:
        """Return its own version and those of its members."""
        return (cls.version, *(member.version for member in MEMBERS.values()))

    @classmethod
    def suggest(cls, trial: BaseTrial) -> dict[str, Any]:
        """Draw the settings that matter most to each member."""
        return {
            "l2": trial.suggest_float("l2", 1e-6, 1.0, log=True),
            "depth": trial.suggest_int("depth", 3, 7),
            "rsm": trial.suggest_float("rsm", 0.03, 1.0, log=True),
            "hidden_units": trial.suggest_int("hidden_units", 64, 512, log=True),
            "dropout": trial.suggest_float("dropout", 0.0, 0.2),
        }

    def _learn(self, table: Table, fractions: Floats) -> None:
        if self.folds < 2:
            raise ValueError(f"`folds` is {self.folds}, it must be at least 2")
        seed = int(check_random_state(self.random_state).randint(2**31 - 1))
        members = {name: self._build(kind, seed) for name, kind in MEMBERS.items()}
        self.weights_, self.constant_ = np.full(len(members), 1 / len(members)), 0.0
        if len(fractions) >= SMALLEST_TO_FOLD:
            folds = np.array_split(np.random.default_rng(seed).permutation(len(fractions)), self.folds)
            unseen = np.column_stack([_predict_unseen(member, table, fractions, folds) for member in members.values()])
            self.weights_, self.constant_ = _combine(_logits(unseen), fractions)
        self.members_ = {name: _fit(member, table, fractions) for name, member in members.items()}

    def _build(self, kind: type[Predictor], seed: int) -> Predictor:
        """Return a member with its usual settings, and those of this stack that it knows."""
        member = kind()
        known = member.get_params()
        given = {"l2": self.l2} if kind is LogitLinear else {name: getattr(self, name) for name in _SHARED}
        given["random_state"] = seed
        return member.set_params(**{name: value for name, value in given.items() if name in known})  # type: ignore[no-any-return]

    def _predict_fractions(self, table: Table) -> Floats:
        logits = np.column_stack([_logits(member._predict_fractions(table)) for member in self.members_.values()])
        return np.asarray(expit(logits @ self.weights_ + self.constant_), dtype=np.float64)

    def _state(self, folder: Path) -> tuple[dict[str, Any], Arrays]:
        for name, member in self.members_.items():
            if "n_jobs" in member.get_params():
                member.set_params(n_jobs=None)  # how many cores this machine has is no part of the result
            save_predictor(name, member, folder / name)
        return {"weights": self.weights_.tolist(), "constant": self.constant_}, {}

    def _restore(self, folder: Path, values: dict[str, Any], arrays: Arrays) -> None:
        self.members_ = {name: load_predictor(MEMBERS, folder / name) for name in MEMBERS}
        self.weights_, self.constant_ = np.array(values["weights"]), float(values["constant"])


_SHARED = ("depth", "rsm", "hidden_units", "dropout", "iterations", "max_epochs", "n_jobs")


def _predict_unseen(member: Predictor, table: Table, fractions: Floats, folds: Sequence[NDArray[np.int64]]) -> Floats:
    """Return predictions (n,), each by a member that did not see its row."""
    predicted = np.empty(len(fractions))
    for held in folds:
        learned = np.setdiff1d(np.arange(len(fractions)), held)
        fitted = _fit(clone(member), table.rows(learned), fractions[learned])
        predicted[held] = fitted._predict_fractions(table.rows(held))
    return predicted


def _fit(member: Predictor, table: Table, fractions: Floats) -> Predictor:
    """Fit a member to a table that has been read already."""
    member.categories_, member.n_features_in_, member.target_range_ = (
        table.categories,
        table.values.shape[1],
        (0.0, 1.0),
    )
    member._learn(table, fractions)
    return member


def _logits(fractions: Floats) -> Floats:
    return np.asarray(logit(np.clip(fractions, MARGIN, 1 - MARGIN)), dtype=np.float64)


def _combine(logits: Floats, fractions: Floats) -> tuple[Floats, float]:
    """Return non-negative weights (M,) and a constant for logits (n, M), which begin as the members' mean.

    They minimise the squared error of fractions, with a small ridge that draws the weights to equal ones.
    """
    count, members = logits.shape
    equal = np.full(members, 1 / members)

    def value_and_gradient(point: Floats) -> tuple[float, Floats]:
        weights = point[:-1]
        predicted = expit(logits @ weights + point[-1])
        slope = 2 * (predicted - fractions) * predicted * (1 - predicted) / count
        gradient = np.append(logits.T @ slope + 2 * RIDGE * (weights - equal), slope.sum())
        error = np.mean((predicted - fractions) ** 2) + RIDGE * np.sum((weights - equal) ** 2)
        return float(error), gradient

    bounds = [(0, None)] * members + [(None, None)]
    found = minimize(value_and_gradient, np.append(equal, 0.0), jac=True, method="L-BFGS-B", bounds=bounds)
    return np.asarray(found.x[:-1], dtype=np.float64), float(found.x[-1])
