"""What predictors read: a table of numbers, in which categories stand as codes.

A table is an array, or a DataFrame whose columns are numbers or categorical (dtype category, object or string).
Which columns are categorical, and their categories, is fixed when a predictor is fitted.

Shape letters: n rows (networks), F features, E encoded features.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import ndtri
from sklearn.utils import check_array

Scaling = Literal["standard", "normal"]
SCALINGS: tuple[Scaling, ...] = ("standard", "normal")
LANDMARKS = 128
"""Quantiles that describe a feature's distribution for `normal` scaling; its outputs stay within about 2.7."""
MISSING = -1
"""Code of a missing category."""

Categories = Mapping[int, tuple[str, ...]]
"""The categorical columns, by position, and the categories of each, by code."""


@dataclass(frozen=True)
class Table:
    """Numbers (n, F), float32 or float64; the columns in `categories` hold codes."""

    values: NDArray[Any]
    categories: Categories

    @cached_property
    def numbers(self) -> list[int]:
        """The positions of the columns that are numbers."""
        return [column for column in range(self.values.shape[1]) if column not in self.categories]

    def rows(self, index: NDArray[np.int64]) -> "Table":
        """Return some of the rows."""
        return Table(self.values[index], self.categories)


def has_categories(table: Any) -> bool:
    """Return whether an input is a DataFrame with a categorical column."""
    return isinstance(table, pd.DataFrame) and any(_is_categorical(table.dtypes.iloc[i]) for i in range(table.shape[1]))


def find_categories(table: pd.DataFrame) -> dict[int, tuple[str, ...]]:
    """Return the categorical columns and their categories: those of the dtype, else those that occur."""
    categories = {}
    for column in range(table.shape[1]):
        series = table.iloc[:, column]
        if isinstance(series.dtype, pd.CategoricalDtype):
            categories[column] = tuple(str(category) for category in series.cat.categories)
        elif _is_categorical(series.dtype):
            categories[column] = tuple(sorted({str(category) for category in series.dropna()}))
    return categories


def encode_categories(table: pd.DataFrame, categories: Categories) -> Table:
    """Return the table with codes for categories; raises ValueError for a category that was not known when fitting."""
    codes = {column: _codes(table.iloc[:, column], known) for column, known in categories.items()}
    numbers = [column for column in range(table.shape[1]) if column not in categories]
    dtype = np.result_type(np.float32, *(table.dtypes.iloc[column] for column in numbers))
    values = np.empty(table.shape, dtype=dtype)
    if numbers:
        values[:, numbers] = check_array(table.iloc[:, numbers], dtype=[np.float64, np.float32])
    for column, code in codes.items():
        values[:, column] = code
    return Table(values, categories)


def _is_categorical(dtype: Any) -> bool:
    return isinstance(dtype, pd.CategoricalDtype) or not pd.api.types.is_numeric_dtype(dtype)


def _codes(series: "pd.Series[Any]", known: tuple[str, ...]) -> NDArray[np.int64]:
    categories = series.astype(object).map(str, na_action="ignore")
    codes = pd.Categorical(categories, categories=known).codes.astype(np.int64)
    unknown = categories[(codes == MISSING) & categories.notna().to_numpy()]
    if len(unknown):
        raise ValueError(f"column `{series.name}` has the category {unknown.iloc[0]!r}, known are {', '.join(known)}")
    return codes


@dataclass(frozen=True)
class Encoder:
    """Numbers scaled, then one-hot columns: what linear and neural predictors take. Fit on training rows only.

    `standard` subtracts the mean and divides by the standard deviation. `normal` maps each feature's distribution to
    the normal one (through LANDMARKS quantiles), so neither outliers nor a logarithmic range matter.
    """

    scaling: Scaling
    categories: Categories
    arrays: Mapping[str, NDArray[np.float64]]
    """`standard`: mean and scale, (F,) each. `normal`: landmarks (L, F). F counts the numbers only."""

    @classmethod
    def fit(cls, table: Table, scaling: Scaling) -> "Encoder":
        """Learn the scaling from a table; raises ValueError for an unknown `scaling`."""
        numbers = table.values[:, table.numbers]
        if scaling == "standard":
            mean, std = numbers.mean(axis=0, dtype=np.float64), numbers.std(axis=0, dtype=np.float64)
            # A constant column must not divide by the rounding error of its mean.
            varies = std > 1e-12 * np.maximum(1, np.abs(mean))
            return cls(scaling, table.categories, {"mean": mean, "scale": np.where(varies, std, 1.0)})
        if scaling == "normal":
            at = np.linspace(0, 1, min(LANDMARKS, len(numbers)))
            landmarks = np.quantile(numbers, at, axis=0) if numbers.size else np.empty((len(at), numbers.shape[1]))
            return cls(scaling, table.categories, {"landmarks": np.asarray(landmarks, dtype=np.float64)})
        raise ValueError(f"`scaling` is {scaling!r}, allowed are {', '.join(map(repr, SCALINGS))}")

    def transform(self, table: Table) -> NDArray[np.float64]:
        """Return the encoded table (n, E)."""
        numbers = table.values[:, table.numbers].astype(np.float64)
        if self.scaling == "standard":
            scaled = (numbers - self.arrays["mean"]) / self.arrays["scale"]
        else:
            scaled = _to_normal(numbers, self.arrays["landmarks"])
        hot = [
            table.values[:, [c]] == np.arange(len(known)) for c, known in self.categories.items()
        ]  # (n, categories) each
        return np.concatenate([scaled, *hot], axis=1)


def _to_normal(values: NDArray[np.float64], landmarks: NDArray[np.float64]) -> NDArray[np.float64]:
    """Map each column through its distribution function, given by quantiles (L, F), to normal scores."""
    count = len(landmarks)
    ranks = (np.arange(count) + 0.5) / count
    scaled = np.empty_like(values)
    for column in range(values.shape[1]):
        known, given = landmarks[:, column], values[:, column]
        # The mean of both directions gives a value that occurs often the middle of its ranks, as scikit-learn does.
        upper = np.interp(given, known, ranks)
        lower = -np.interp(-given, -known[::-1], -ranks[::-1])
        scaled[:, column] = (upper + lower) / 2
    return np.asarray(ndtri(scaled), dtype=np.float64)
