"""Loaders of whole batches: one read of the matrix and one stacked tensor for each."""

from collections.abc import Iterator

import numpy as np
from torch import Tensor
from torch.utils.data import DataLoader, Sampler

from cnnzoo.core.errors import CnnzooError
from cnnzoo.core.seeds import generator
from cnnzoo.data.dataset import Batch, Weights, ZooDataset


class EpochBatches(Sampler[Batch]):
    """The batches of an epoch, in order or shuffled by (seed, epoch).

    Lightning calls `set_epoch` before each epoch; a loop of one's own does, as with torch's `DistributedSampler`.
    Raises `CnnzooError` unless `batch_size` is positive.
    """

    def __init__(self, size: int, batch_size: int, *, shuffle: bool = False, drop_last: bool = False, seed: int = 0):
        if batch_size < 1:
            raise CnnzooError(f"`batch_size` must be at least 1, got {batch_size}")
        self.size = size
        self.batch_size = batch_size
        self.shuffle = shuffle
        self.drop_last = drop_last
        self.seed = seed
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Say which epoch comes: its order and its permutations are its own."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[Batch]:
        order = np.arange(self.size)
        if self.shuffle:
            order = generator(self.seed, "data/order", self.epoch).permutation(self.size)
        for number in range(len(self)):
            yield Batch(order[number * self.batch_size : (number + 1) * self.batch_size], self.epoch)

    def __len__(self) -> int:
        whole, rest = divmod(self.size, self.batch_size)
        return whole + (rest > 0 and not self.drop_last)


def make_loader(
    dataset: ZooDataset,
    batch_size: int,
    *,
    shuffle: bool = False,
    drop_last: bool = False,
    seed: int = 0,
    num_workers: int = 0,
    pin_memory: bool = False,
) -> DataLoader[tuple[Weights, Tensor]]:
    """Return a loader of stacked batches; much faster than a `DataLoader(dataset, batch_size)`, which stacks rows.

    `num_workers` processes read ahead; the batches are the same with any number of them. Raises `CnnzooError` unless
    `batch_size` is positive.
    """
    batches = EpochBatches(len(dataset), batch_size, shuffle=shuffle, drop_last=drop_last, seed=seed)
    return DataLoader(
        dataset,
        sampler=batches,
        batch_size=None,
        num_workers=num_workers,
        pin_memory=pin_memory,
        persistent_workers=num_workers > 0,
    )
