"""What all predictors share: reading tables, fractions as targets, and how they are saved.

A predictor is a scikit-learn regressor for accuracies. It learns fractions in [0, 1] and predicts fractions. Targets
outside [0, 1] are first scaled from their range to [0, 1], so that it also is an ordinary regressor whose predictions
stay within the range of its training targets.

Shape letters: n rows (networks), F features.
"""

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from optuna.trial import BaseTrial
from scipy.special import logit
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.utils.validation import check_consistent_length, check_is_fitted, column_or_1d, validate_data

from cnnzoo.predictors.tables import Categories, Table, encode_categories, find_categories, has_categories

Floats = NDArray[np.float64]
Arrays = dict[str, NDArray[Any]]
SMALLEST_TO_SPLIT = 10
"""With fewer training rows nothing is set aside for early stopping: training runs to its limit."""


class Predictor(RegressorMixin, BaseEstimator, ABC):  # type: ignore[misc] # scikit-learn has no types
    """A regressor for accuracies.

    A subclass learns and predicts fractions (`_learn`, `_predict_fractions`), says what it learned (`_state`,
    `_restore`) and which settings are worth trying (`suggest`).
    """

    categories_: Categories
    """The categorical columns, by position, each with its categories."""
    target_range_: tuple[float, float]
    """What fractions 0 and 1 stand for: (0, 1) for accuracies."""
    start: ClassVar[dict[str, Any]]
    """Settings worth trying first, by the names that `suggest` gives them."""
    version: ClassVar[int]
    """To be raised when the same data and settings give other predictions: a search does not reuse older trials."""

    def fit(self, X: Any, y: ArrayLike) -> Self:
        """Learn from a table (n, F), array or DataFrame, and targets (n,)."""
        table, target = self._read_training(X, y)
        self.target_range_ = _target_range(target)
        low, high = self.target_range_
        self._learn(table, (target - low) / (high - low))
        return self

    def predict(self, X: Any) -> Floats:
        """Return the predictions (n,) for a table (n, F) with the features of the training table."""
        check_is_fitted(self)
        low, high = self.target_range_
        return low + (high - low) * self._predict_fractions(self._read(X))

    @classmethod
    def versions(cls) -> tuple[int, ...]:
        """Return the versions of all that its predictions depend on besides data, settings and libraries."""
        return (cls.version,)

    @classmethod
    @abstractmethod
    def suggest(cls, trial: BaseTrial) -> dict[str, Any]:
        """Draw settings from the search space, which contains the best settings of the published study."""

    @abstractmethod
    def _learn(self, table: Table, fractions: Floats) -> None:
        """Learn fractions in [0, 1] from a table."""

    @abstractmethod
    def _predict_fractions(self, table: Table) -> Floats:
        """Return predictions in [0, 1]."""

    @abstractmethod
    def _state(self, folder: Path) -> tuple[dict[str, Any], Arrays]:
        """Return what was learned as JSON values and arrays; files of a library's own format go to `folder`."""

    @abstractmethod
    def _restore(self, folder: Path, values: dict[str, Any], arrays: Arrays) -> None:
        """Take over what `_state` returned."""

    def _read_training(self, X: Any, y: ArrayLike) -> tuple[Table, Floats]:
        if not has_categories(X):
            self.categories_ = {}
            values, target = validate_data(self, X, y, dtype=[np.float64, np.float32], y_numeric=True)
            return Table(values, {}), np.asarray(target, dtype=np.float64)
        validate_data(self, X, skip_check_array=True)
        self.categories_ = find_categories(X)
        target = column_or_1d(y, dtype=np.float64)
        check_consistent_length(X, target)
        if not np.isfinite(target).all():
            raise ValueError("the targets contain NaN or infinity")
        return encode_categories(X, self.categories_), target

    def _read(self, X: Any) -> Table:
        if not self.categories_:
            return Table(validate_data(self, X, dtype=[np.float64, np.float32], reset=False), {})
        validate_data(self, X, skip_check_array=True, reset=False)
        if not isinstance(X, pd.DataFrame):
            raise ValueError(
                f"fitted on a DataFrame with categorical columns, got {type(X).__name__}: give one with its columns"
            )
        return encode_categories(X, self.categories_)


def _target_range(target: Floats) -> tuple[float, float]:
    low, high = float(target.min()), float(target.max())
    if low >= 0 and high <= 1:
        return 0.0, 1.0
    return (low, high) if low < high else (low - 0.5, high + 0.5)


def mean_logit(fractions: Floats) -> float:
    """Return the logit of the mean: where every predictor starts, so that learning little does no harm."""
    return float(logit(np.clip(fractions.mean(), 1e-6, 1 - 1e-6)))


def set_aside(rows: int, fraction: float, rng: np.random.Generator) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return a random split of training rows into those to learn from and those that decide when to stop.

    The second part is empty for `fraction` 0 or fewer than SMALLEST_TO_SPLIT rows.
    """
    if not 0 <= fraction < 1:
        raise ValueError(f"`validation_fraction` is {fraction}, it must lie in [0, 1)")
    order = rng.permutation(rows)
    held = max(2, round(fraction * rows)) if fraction > 0 and rows >= SMALLEST_TO_SPLIT else 0
    return np.sort(order[held:]), np.sort(order[:held])
