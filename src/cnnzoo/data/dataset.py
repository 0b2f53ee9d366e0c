"""A collection as a map-style PyTorch dataset.

Shape letters: S rows of the dataset, B rows of a batch, P parameters, T targets.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor
from torch.utils.data import Dataset

from cnnzoo.core.errors import CnnzooError
from cnnzoo.data.forms import Order, form_of
from cnnzoo.data.permuting import draw_orders, permute_hidden_units
from cnnzoo.data.selection import Epochs, column, select_rows
from cnnzoo.data.standardizing import Standardizer
from cnnzoo.zoo import Collection, Half

Weights = Tensor | dict[str, Tensor]


@dataclass(frozen=True)
class Batch:
    """What a loader asks a dataset for: places (B,) in it, and the epoch, which permutations depend on."""

    places: NDArray[np.int64]
    epoch: int = 0


class ZooDataset(Dataset[tuple[Weights, Tensor]]):
    """Pairs (weights, target) of the checkpoints of a collection, read from its memory-mapped matrix.

    >>> data = ZooDataset("data/zoo/mnist5k", half="train", where="activation == 'relu'")
    >>> weights, accuracy = data[0]  # float32 (P,) and ()

    collection: the folder of a collection, or an open one.
    half: "train", "test" or None for all networks; split.csv divides them.
    epochs: "final", "all", or a list of checkpoint epochs.
    where: a condition on hyperparameters and metrics, as `pandas.DataFrame.query` has it.
    rows: the rows themselves, instead of `half`, `epochs` and `where`.
    target: a numeric column, such as "test_accuracy" or "dropout", or a list of T columns.
    layers: weights by tensor, (*shape) by name, instead of flat (P,).
    order: "published" or "torch"; in torch's, names and shapes are those of `SmallCNN`.
    standardizer: applied to the weights; fitted on training rows by `Standardizer.fit`.
    permute: put the hidden units of every network into a random order, another one in each epoch.
    seed: of the permutations.

    An integer gives one pair, a `Batch` gives stacked ones: float32 (B, P), or (B, *shape) by name, and (B,) or (B, T).
    Raises `CnnzooError` if the collection cannot be opened, if nothing is selected, or for an unknown column or order.
    """

    def __init__(
        self,
        collection: Collection | Path | str,
        *,
        half: Half | None = None,
        epochs: Epochs = "final",
        where: str | None = None,
        rows: ArrayLike | None = None,
        target: str | Sequence[str] = "test_accuracy",
        layers: bool = False,
        order: Order = "published",
        standardizer: Standardizer | None = None,
        permute: bool = False,
        seed: int = 0,
    ) -> None:
        self.zoo = collection if isinstance(collection, Collection) else Collection.open(Path(collection))
        if rows is None:
            self.rows = select_rows(self.zoo, half, epochs, where)
        elif half is not None or epochs != "final" or where is not None:
            raise CnnzooError("give either `rows` or `half`, `epochs` and `where`")
        else:
            self.rows = _check_rows(self.zoo, rows)
        self.targets = _targets(self.zoo, target)[self.rows]
        self.layers = layers
        self.form = form_of(self.zoo.layout, order)
        self.standardizer = standardizer
        self.permute = permute
        self.seed = seed

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int | Batch) -> tuple[Weights, Tensor]:
        if isinstance(index, Batch):
            return self._weights(index), torch.from_numpy(self.targets[index.places])
        if not -len(self) <= index < len(self):
            raise IndexError(f"index {index} is out of range: the dataset has {len(self)} rows")
        weights, targets = self[Batch(np.array([index % len(self)]))]
        one = {name: tensor[0] for name, tensor in weights.items()} if isinstance(weights, dict) else weights[0]
        return one, targets[0]

    def _weights(self, batch: Batch) -> Weights:
        rows = self.rows[batch.places]
        weights = np.asarray(self.zoo.weights[rows])  # a copy
        if self.permute:
            hidden, units = len(self.zoo.layout.layers) - 1, self.zoo.layout.variables[0].shape[0]
            orders = draw_orders(rows, hidden, units, self.seed, batch.epoch)
            weights = permute_hidden_units(weights, self.zoo.layout, orders)
        if self.standardizer is not None:
            self.standardizer.apply(weights)
        return self.form.tensors(weights) if self.layers else self.form.flat(weights)

    def __getstate__(self) -> dict[str, Any]:
        """Leave the matrix out: a worker process maps it again instead of getting a copy."""
        return {**self.__dict__, "zoo": self.zoo.path.absolute()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self.zoo = Collection.open(state["zoo"])


def _check_rows(zoo: Collection, rows: ArrayLike) -> NDArray[np.int64]:
    found = np.asarray(rows)
    if found.ndim != 1 or not np.issubdtype(found.dtype, np.integer) or not len(found):
        raise CnnzooError(f"`rows` must be row numbers (S,), got {found.dtype} {found.shape}")
    if found.min() < 0 or found.max() >= len(zoo.weights):
        raise CnnzooError(f"{zoo.path}: rows are 0 ... {len(zoo.weights) - 1}, got {found.min()} ... {found.max()}")
    return found.astype(np.int64)


def _targets(zoo: Collection, target: str | Sequence[str]) -> NDArray[np.float32]:
    """Return float32 (R,) of one column, (R, T) of a list."""
    names = [column(zoo, name) for name in ([target] if isinstance(target, str) else target)]
    text = [name for name in names if zoo.metrics[name].dtype.kind not in "fiub"]
    if text or not names:
        raise CnnzooError(f"a target must be a numeric column: {', '.join(text) or 'none given'}")
    values = zoo.metrics[names].to_numpy(dtype=np.float32)
    return values[:, 0] if isinstance(target, str) else values
