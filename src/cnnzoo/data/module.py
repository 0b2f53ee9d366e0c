"""A collection as a Lightning data module: training, validation and test networks, none in two of them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as lightning
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader

from cnnzoo.core.errors import CnnzooError
from cnnzoo.core.seeds import generator
from cnnzoo.data.dataset import Weights, ZooDataset
from cnnzoo.data.forms import Order
from cnnzoo.data.loading import make_loader
from cnnzoo.data.selection import Epochs, select_rows
from cnnzoo.data.standardizing import Per, Standardizer
from cnnzoo.zoo import Collection


class ZooDataModule(lightning.LightningDataModule):
    """Loaders over one collection.

    The training half of split.csv is divided by network: a share `validation` of them, drawn by `seed`, validates. The
    other half tests. Weights are standardised by what the training networks show (`standardize` "tensor", "parameter"
    or None); hidden units change places in training alone (`permute`). All other parameters are those of `ZooDataset`
    and `make_loader`.

    >>> data = ZooDataModule("data/zoo/mnist5k", batch_size=64, permute=True)
    >>> lightning.Trainer(max_epochs=20).fit(model, data)

    After `setup`: `train`, `val` and `test` are `ZooDataset`s, `standardizer` what they share. Raises `CnnzooError` as
    those do, and if `validation` does not leave at least one network on each side.
    """

    def __init__(
        self,
        collection: Path | str,
        *,
        batch_size: int = 64,
        epochs: Epochs = "final",
        where: str | None = None,
        target: str | Sequence[str] = "test_accuracy",
        layers: bool = False,
        order: Order = "published",
        standardize: Per | None = "tensor",
        permute: bool = False,
        validation: float = 0.2,
        seed: int = 0,
        num_workers: int = 0,
        pin_memory: bool = False,
    ) -> None:
        super().__init__()
        if not 0 < validation < 1:
            raise CnnzooError(f"`validation` must lie between 0 and 1, got {validation}")
        self.path = Path(collection)
        self.batch_size = batch_size
        self.epochs = epochs
        self.where = where
        self.form: dict[str, Any] = {"target": target, "layers": layers, "order": order}
        self.standardize = standardize
        self.permute = permute
        self.validation = validation
        self.seed = seed
        self.loading: dict[str, Any] = {"num_workers": num_workers, "pin_memory": pin_memory}
        self.standardizer: Standardizer | None = None

    def setup(self, stage: str | None = None) -> None:
        """Open the collection, divide its networks, fit the standardisation; once, though Lightning calls it often."""
        if hasattr(self, "train"):
            return
        zoo = Collection.open(self.path)
        train, val = self._divide(zoo, select_rows(zoo, "train", self.epochs, self.where))
        test = select_rows(zoo, "test", self.epochs, self.where)
        if self.standardize is not None:
            self.standardizer = Standardizer.fit(zoo, train, self.standardize)
        shared = {**self.form, "standardizer": self.standardizer}
        self.val = ZooDataset(zoo, rows=val, **shared)
        self.test = ZooDataset(zoo, rows=test, **shared)
        self.train = ZooDataset(zoo, rows=train, permute=self.permute, seed=self.seed, **shared)

    def train_dataloader(self) -> DataLoader[tuple[Weights, Tensor]]:
        """Return the shuffled loader of the training networks."""
        return make_loader(self.train, self.batch_size, shuffle=True, seed=self.seed, **self.loading)

    def val_dataloader(self) -> DataLoader[tuple[Weights, Tensor]]:
        """Return the loader of the validation networks."""
        return make_loader(self.val, self.batch_size, **self.loading)

    def test_dataloader(self) -> DataLoader[tuple[Weights, Tensor]]:
        """Return the loader of the test half."""
        return make_loader(self.test, self.batch_size, **self.loading)

    def predict_dataloader(self) -> DataLoader[tuple[Weights, Tensor]]:
        """Return the loader of the test half."""
        return self.test_dataloader()

    def _divide(self, zoo: Collection, rows: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the rows that train and those that validate, by network, or by group where networks come in groups."""
        groups = zoo.groups[rows]
        networks = np.unique(groups)
        count = round(self.validation * len(networks))
        if not 0 < count < len(networks):
            raise CnnzooError(
                f"{zoo.path}: {len(networks)} training networks cannot be divided with `validation={self.validation}`: "
                "at least one must be on each side"
            )
        chosen = generator(self.seed, "data/validation").permutation(networks)[:count]
        validates = np.isin(groups, chosen)
        return rows[~validates], rows[validates]
