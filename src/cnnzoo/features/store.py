"""Feature sets on disk: what is computed is stored once per part; the weights stay in the zoo.

`data/features/<collection>/<part>.parquet` holds one row per row of weights.npy (all checkpoints, so forecasting from
early epochs needs no second pass), one column per feature. `weights*` parts are columns of weights.npy already and are
read from its memory map: a copy would double 5 GB for nothing. A set joined by `+` is its parts side by side.

Shape letters: R rows of the collection, F features.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow
from numpy.typing import NDArray

from cnnzoo.core.artifacts import slug
from cnnzoo.core.atomic import atomic_file, atomic_folder
from cnnzoo.core.errors import CnnzooError
from cnnzoo.features.names import parse
from cnnzoo.features.parts import Hyper, Part, Weights, columns_of
from cnnzoo.features.tables import CATEGORIES, part_tables
from cnnzoo.zoo import Collection


def write_features(collection: Collection, sets: Iterable[str], folder: Path, threads: int = 1) -> None:
    """Compute the named sets for all rows of a collection and write them; `folder` appears whole or not at all.

    Raises `CnnzooError` for an unknown name or a layer that the networks do not have, before any work.
    """
    parts = {part.name: part for name in sets for part in parse(name)}
    for part in parts.values():
        feature_columns(part, collection)
    written = {name: part for name, part in parts.items() if not isinstance(part, Weights)}
    tables = part_tables(written.values(), collection.weights, collection.layout, collection.metrics, threads)
    with atomic_folder(folder) as new:
        for name, table in tables.items():
            _write(new / _file(written[name]), table)


def read_features(collection: Collection, folder: Path, name: str, rows: NDArray[np.int64]) -> pd.DataFrame:
    """Return the features of some rows of a collection, one row each; the index holds the row numbers.

    Columns are float32, float64 or categorical. Raises `CnnzooError` if `name` is not a feature set, if it was not
    written to `folder`, or was written for another state of the collection.
    """
    tables = [_read(collection, folder, part, rows) for part in parse(name)]
    return tables[0] if len(tables) == 1 else pd.concat(tables, axis=1)


def feature_columns(part: Part, collection: Collection) -> list[str]:
    """Return the names of a part's features; raises `CnnzooError` for a layer that the networks do not have."""
    if isinstance(part, Hyper):
        return part.columns(known=collection.metrics.columns)
    return columns_of(part, collection.layout)


def _file(part: Part) -> str:
    return f"{slug(part.name)}.parquet"


def _write(path: Path, table: pd.DataFrame) -> None:
    with atomic_file(path) as file:
        table.to_parquet(file, engine="pyarrow", index=False)


def _read(collection: Collection, folder: Path, part: Part, rows: NDArray[np.int64]) -> pd.DataFrame:
    columns = feature_columns(part, collection)
    if isinstance(part, Weights):
        span = part.span(collection.layout)
        values = collection.weights[rows, span.start : span.end]  # (R, F)
        return pd.DataFrame(values, index=rows, columns=columns, copy=False)
    table = _read_parquet(folder / _file(part), part)
    if len(table) != len(collection.metrics) or list(table.columns) != columns:
        raise CnnzooError(
            f"{folder / _file(part)}: {len(table)} rows of {len(table.columns)} features, the collection has "
            f"{len(collection.metrics)} rows and `{part.name}` has {len(columns)}; run `dvc repro features` again"
        )
    return _restore_categories(table.iloc[rows].set_axis(pd.Index(rows)))


def _read_parquet(path: Path, part: Part) -> pd.DataFrame:
    try:
        return pd.read_parquet(path, engine="pyarrow")
    except FileNotFoundError as error:
        raise CnnzooError(
            f"{path}: not there; add `{part.name}` to `features.sets` in params.yaml and run `dvc repro features`"
        ) from error
    except (OSError, ValueError, pyarrow.ArrowException) as error:
        raise CnnzooError(f"{path}: not a whole Parquet file ({error}); run `dvc repro features` again") from error


def _restore_categories(table: pd.DataFrame) -> pd.DataFrame:
    """Give categorical columns all their categories back: Parquet keeps those that occur."""
    present: Sequence[str] = [column for column in table.columns if column in CATEGORIES]
    return table.assign(**{c: pd.Categorical(table[c].astype(object), categories=CATEGORIES[c]) for c in present})
