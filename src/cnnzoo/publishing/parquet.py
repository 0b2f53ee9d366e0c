"""The rows of a collection as Parquet: one row per checkpoint, weights as a list of fixed length.

Shape letters: P parameters.
"""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from cnnzoo.zoo import Collection, Half

GROUP_ROWS = 1_000
"""Rows of one row group: what a reader takes into memory at once, 20 MB of the published matrix."""
SHARD_ROWS = 25_000
"""Rows of one file, at most: 500 MB."""
HALVES: tuple[Half, Half] = ("train", "test")


def columns(zoo: Collection) -> dict[str, str]:
    """Return the columns before `weights`: the name in the Parquet files, and that in metrics.csv.gz.

    Names are short, `optimizer` for `config.optimizer`: dots would be taken for nesting. The same in both: `row` (empty
    here) is the row in weights.npy, `network` the published `modeldir`.
    """
    short = {name.removeprefix("config."): name for name in zoo.metrics.columns if name != "modeldir"}
    return {"row": "", "network": "modeldir"} | short


def column_kinds(zoo: Collection) -> dict[str, str]:
    """Return the columns before `weights` and the kinds of their dtypes, as NumPy names them."""
    return {name: zoo.metrics[published].dtype.kind if published else "i" for name, published in columns(zoo).items()}


def write_parquet(zoo: Collection, folder: Path) -> None:
    """Write <half>-<number>-of-<count>.parquet for both halves of the split, rows in the order of the matrix.

    Memory is that of one row group.
    """
    folder.mkdir(parents=True)
    for half in HALVES:
        rows = np.sort(np.concatenate([zoo.at(epoch, half) for epoch in zoo.epochs]))
        count = max(1, -(-len(rows) // SHARD_ROWS))
        for number, part in enumerate(np.array_split(rows, count)):
            _write(zoo, part, folder / f"{half}-{number:05d}-of-{count:05d}.parquet")


def _write(zoo: Collection, rows: NDArray[np.int64], path: Path) -> None:
    schema = _table(zoo, rows[:0]).schema
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        for start in range(0, len(rows), GROUP_ROWS):
            writer.write_table(_table(zoo, rows[start : start + GROUP_ROWS]))


def _table(zoo: Collection, rows: NDArray[np.int64]) -> pa.Table:
    metrics = zoo.metrics.iloc[rows]
    values: dict[str, pa.Array] = {}
    for name, published in columns(zoo).items():
        values[name] = pa.array(metrics[published], from_pandas=False) if published else pa.array(rows, pa.int64())
    flat = pa.array(np.ascontiguousarray(zoo.weights[rows]).reshape(-1), pa.float32())
    values["weights"] = pa.FixedSizeListArray.from_arrays(flat, zoo.layout.size)
    return pa.table(values)
