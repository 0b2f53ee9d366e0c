"""Collections as PyTorch data: a map-style dataset of weights and targets, loaders, a Lightning data module.

Weights are read from the memory-mapped matrix when a batch asks for them, so a collection of any size takes the memory
of a few batches. Every draw (shuffling, validation networks, permutations of hidden units) is keyed by seed and epoch:
worker processes give the same batches as none.
"""

from cnnzoo.data.dataset import Batch, ZooDataset
from cnnzoo.data.forms import Order
from cnnzoo.data.loading import EpochBatches, make_loader
from cnnzoo.data.module import ZooDataModule
from cnnzoo.data.selection import Epochs
from cnnzoo.data.standardizing import Per, Standardizer

__all__ = [
    "Batch",
    "EpochBatches",
    "Epochs",
    "Order",
    "Per",
    "Standardizer",
    "ZooDataModule",
    "ZooDataset",
    "make_loader",
]
