"""Rows of weights and their hyperparameters as tables of named features.

The one way to features, whether they are kept in files or not.

Shape letters: R rows, P parameters of a row, F features.
"""

from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cnnzoo.core.errors import CnnzooError
from cnnzoo.features.names import parse
from cnnzoo.features.parts import Hyper, Part, Probes, Weights, columns_of
from cnnzoo.features.streaming import compute
from cnnzoo.network.hyperparameters import VALUES
from cnnzoo.network.layout import Layout

CATEGORIES: dict[str, tuple[str, ...]] = {f"config.{name}": values for name, values in VALUES.items()}
"""The categorical hyperparameters with all their values: the same codes in every collection."""


def describe(
    name: str, weights: NDArray[np.float32], layout: Layout, metrics: pd.DataFrame, threads: int = 1
) -> pd.DataFrame:
    """Return a feature set of rows `weights` (R, P), computed now: the columns and values that `read_features` gives.

    `metrics` has R rows and those of the published `config.*` columns that the set needs; its index becomes the
    table's. Raises `CnnzooError` for an unknown name, a layer that the networks lack, a missing column, an unknown
    category, or weights that do not fit the layout or the metrics.
    """
    parts = parse(name)
    if weights.dtype != np.float32 or weights.shape != (len(metrics), layout.size):
        raise CnnzooError(
            f"`weights` must be float32 ({len(metrics)}, {layout.size}), a row for each row of `metrics`, "
            f"got {weights.dtype} {weights.shape}"
        )
    tables = part_tables(parts, weights, layout, metrics, threads)
    return pd.concat(tables.values(), axis=1).set_axis(metrics.index)


def part_tables(
    parts: Iterable[Part], weights: NDArray[np.float32], layout: Layout, metrics: pd.DataFrame, threads: int = 1
) -> dict[str, pd.DataFrame]:
    """Return the table of each part by its name, numbered from row 0; raises `CnnzooError` before any work."""
    columns = {part: columns_of(part, layout) for part in parts}
    tables: dict[Part, pd.DataFrame] = {}
    tables |= {part: hyperparameters(metrics, part) for part in columns if isinstance(part, Hyper)}
    computed = [part for part in columns if not isinstance(part, Hyper | Weights)]
    probes = [part for part in computed if isinstance(part, Probes)]
    activations = [str(name) for name in config_column(metrics, "config.activation", probes[0])] if probes else None
    described = compute(weights, layout, computed, threads, activations)
    values: dict[Part, NDArray[np.float32]] = dict(zip(computed, described, strict=True))
    for part in columns:
        if isinstance(part, Weights):
            span = part.span(layout)
            values[part] = weights[:, span.start : span.end]
    tables |= {part: pd.DataFrame(table, columns=columns[part], copy=False) for part, table in values.items()}
    return {part.name: tables[part] for part in columns}


def hyperparameters(metrics: pd.DataFrame, part: Hyper) -> pd.DataFrame:
    """Return hyperparameters (R, F): numbers as float64, the others as categories.

    Raises `CnnzooError` for a missing column or an unknown category.
    """
    table: dict[str, Any] = {}
    for column in part.columns(known=metrics.columns):
        values = config_column(metrics, column, part)
        known = CATEGORIES.get(column)
        table[column] = pd.Categorical(values, categories=known) if known else values.astype(np.float64)
    return pd.DataFrame(table)


def config_column(metrics: pd.DataFrame, column: str, part: Part) -> NDArray[Any]:
    """Return one hyperparameter (R,) that a part needs; raises `CnnzooError` if it is missing or has an unknown one."""
    if column not in metrics:
        raise CnnzooError(f"metrics: no column `{column}`, which `{part.name}` needs")
    values = metrics[column].to_numpy()
    unknown = sorted(set(values) - set(CATEGORIES[column])) if column in CATEGORIES else []
    if unknown:
        raise CnnzooError(f"metrics: `{column}` has {unknown[0]!r}, expected one of {', '.join(CATEGORIES[column])}")
    return np.asarray(values)
