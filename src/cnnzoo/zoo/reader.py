"""Open a collection, ours or a published one: weights memory-mapped, metrics as a table, networks as torch modules.

Shape letters: R rows of the matrix, P parameters, K networks.
"""

import gzip
import shlex
import zlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cnnzoo.core.errors import CnnzooError
from cnnzoo.network.layout import Layout
from cnnzoo.zoo import format as published

if TYPE_CHECKING:
    from cnnzoo.network.module import SmallCNN


@dataclass(frozen=True)
class Collection:
    """One collection, its rows addressed by their index in the matrix, so that numpy and pandas can take selections.

    >>> zoo = Collection.open(Path("data/zoo/mnist5k"))
    >>> rows = zoo.final("train")
    >>> zoo.weights[rows], zoo.metrics["test_accuracy"].to_numpy()[rows]
    """

    path: Path
    weights: NDArray[np.float32]
    """(R, P), memory-mapped, read only."""
    metrics: pd.DataFrame
    """R rows under the published column names; the index holds the checkpoints' names."""
    layout: Layout

    @classmethod
    def open(cls, path: Path) -> "Collection":
        """Open the collection in a folder; reads the metrics, maps the weights.

        Raises `CnnzooError` if a file is missing or damaged, or if the files do not belong together. What is checked is
        what opening needs; `cnnzoo check PATH` looks at everything.
        """
        weights = published.open_weights(path / published.WEIGHTS)
        layout = published.read_layout(path / published.LAYOUT)
        metrics = _read_metrics(path / published.METRICS)
        if weights.shape != (len(metrics), layout.size):
            raise CnnzooError(
                f"{path}: {published.WEIGHTS} is {weights.shape}, but {published.METRICS} has {len(metrics)} rows and "
                f"{published.LAYOUT} {layout.size} parameters. {_remedy(path)}"
            )
        return cls(path, weights, metrics, layout)

    @cached_property
    def networks(self) -> NDArray[np.int64]:
        """(R,): the network of each row, numbered 0 ... K - 1 in order of appearance."""
        codes, _ = pd.factorize(self.metrics["modeldir"])
        return codes.astype(np.int64)

    @cached_property
    def groups(self) -> NDArray[np.int64]:
        """(R,): the replicates or the pair of each row's network, numbered from 0; without groups, its network."""
        if published.GROUP not in self.metrics:
            return self.networks
        return pd.factorize(self.metrics[published.GROUP])[0].astype(np.int64)

    @cached_property
    def epochs(self) -> tuple[int, ...]:
        """The epochs that have checkpoints, ascending."""
        return tuple(sorted(int(step) for step in self.metrics["step"].unique()))

    def at(self, epoch: int, half: published.Half | None = None) -> NDArray[np.int64]:
        """Return the rows of all networks (or of one half of them) at a checkpoint epoch, ascending.

        Raises `CnnzooError` for an epoch without checkpoints, or if a half is wanted and split.csv is missing.
        """
        if epoch not in self.epochs:
            raise CnnzooError(
                f"{self.path}: no checkpoints at epoch {epoch}; there are {', '.join(map(str, self.epochs))}"
            )
        return self._select((self.metrics["step"] == epoch).to_numpy(), half)

    def final(self, half: published.Half | None = None) -> NDArray[np.int64]:
        """Return the rows of all networks (or of one half of them) after their last epoch, ascending."""
        return self._select(self._is_final, half)

    def module(self, row: int) -> "SmallCNN":
        """Return the network of one row as a torch module in evaluation mode; raises `CnnzooError` if there is none."""
        from cnnzoo.network.module import SmallCNN

        if not 0 <= row < len(self.weights):
            raise CnnzooError(f"{self.path}: no row {row}; rows are 0 ... {len(self.weights) - 1}")
        return SmallCNN.from_row(self.weights[row], self.layout, self.metrics["config.activation"].iloc[row])

    @cached_property
    def _is_final(self) -> NDArray[np.bool_]:
        return (self.metrics["step"] == self.metrics["config.epochs"]).to_numpy(dtype=bool)

    @cached_property
    def _in_train(self) -> NDArray[np.bool_]:
        """(R,): whether the row's network trains: it is in the first half of the split's final rows, as in loaders.

        A group that the split divides tests as a whole.
        """
        split = published.read_split(self.path / published.SPLIT, len(self.weights))
        final = split[self._is_final[split]]
        half = len(final) // 2
        tests = np.isin(self.groups, self.groups[final[half:]])
        return np.isin(self.networks, self.networks[final[:half]]) & ~tests

    def _select(self, rows: NDArray[np.bool_], half: published.Half | None) -> NDArray[np.int64]:
        if half is not None:
            rows = rows & (self._in_train if half == "train" else ~self._in_train)
        return np.flatnonzero(rows)


def _read_metrics(path: Path) -> pd.DataFrame:
    """Read metrics.csv.gz; steps become integers whatever they were stored as."""
    try:
        metrics = pd.read_csv(path, index_col=0, compression="gzip")
    except FileNotFoundError as error:
        raise CnnzooError(f"{path}: not there; every collection needs it: make it with `dvc repro assemble`") from error
    except (OSError, EOFError, ValueError, zlib.error, gzip.BadGzipFile) as error:
        raise CnnzooError(f"{path}: not a whole gzip file with a table ({error}). {_remedy(path.parent)}") from error
    missing = [column for column in published.METRICS_COLUMNS if column not in metrics]
    if missing:
        raise CnnzooError(f"{path}: no column {', '.join(missing)}. {_remedy(path.parent)}")
    steps = pd.to_numeric(metrics["step"], errors="coerce").to_numpy(dtype=np.float64)
    if not np.isfinite(steps).all() or (steps % 1 != 0).any():
        raise CnnzooError(f"{path}: `step` must be the epoch, a whole number, in every row. {_remedy(path.parent)}")
    metrics["step"] = steps.astype(np.int64)
    return metrics


def _remedy(folder: Path) -> str:
    return f"`cnnzoo check {shlex.quote(str(folder))}` lists all problems."
