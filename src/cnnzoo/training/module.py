"""One cohort as Lightning sees it: a module in manual optimisation and a data module of minibatch indices.

Shape letters: S steps, B images of a minibatch.
"""

from typing import Any

import numpy as np
import pytorch_lightning as lightning
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset

from cnnzoo.training.engines import Engine
from cnnzoo.training.minibatches import Schedule

CALL_IMAGES = 1 << 18
"""Image passes of one `training_step`: enough to hide Lightning's overhead, few enough for live progress."""

Minibatches = NDArray[np.int64]


class CohortModule(lightning.LightningModule):
    """Trains all networks of a cohort. The engine owns weights and optimizers, so optimisation is manual."""

    def __init__(self, engine: Engine, schedule: Schedule, epoch: int, step: int = 0) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.engine = engine
        self.schedule = schedule
        self.first_epoch = epoch
        """Epochs already done when this fit starts: 0, or that of the resume point."""
        self.steps_done = epoch * schedule.steps + step

    @property
    def epochs_done(self) -> int:
        """Epochs behind the networks at the end of the current one."""
        return self.first_epoch + self.current_epoch + 1

    def training_step(self, minibatches: Minibatches, _index: int) -> None:
        """Run the engine over minibatches (S, B) of image indices."""
        self.engine.train(minibatches, self.steps_done)
        self.steps_done += len(minibatches)

    def configure_optimizers(self) -> None:
        """Return nothing: every engine has its own optimizers, one per network."""


class CohortData(lightning.LightningDataModule):
    """Yields the minibatches of each epoch in blocks; Lightning asks for a new loader every epoch."""

    def __init__(self, schedule: Schedule, networks: int, first_epoch: int, first_step: int = 0) -> None:
        super().__init__()
        self.schedule = schedule
        self.first_epoch = first_epoch
        self.first_step = first_step
        """Steps of the first epoch that are already done."""
        self.block = max(1, CALL_IMAGES // (networks * schedule.minibatch))

    def train_dataloader(self) -> DataLoader[Minibatches]:
        """Return a loader of blocks (S, B) for the epoch that begins now."""
        assert self.trainer is not None  # Lightning attaches it before it asks
        epoch = self.first_epoch + self.trainer.current_epoch + 1
        minibatches = self.schedule.epoch(epoch)[0 if self.trainer.current_epoch else self.first_step :]
        return DataLoader(_Blocks(minibatches, self.block), batch_size=None, collate_fn=_as_is)


def _as_is(minibatches: Any) -> Any:
    # Indices stay in NumPy: as tensors Lightning would copy them to the device and the engine back.
    return minibatches


class _Blocks(Dataset[Minibatches]):
    """The minibatches of one epoch, (S, B), in blocks of consecutive ones."""

    def __init__(self, minibatches: Minibatches, block: int) -> None:
        self.blocks = [minibatches[start : start + block] for start in range(0, len(minibatches), block)]

    def __len__(self) -> int:
        return len(self.blocks)

    def __getitem__(self, index: int) -> Minibatches:
        return self.blocks[index]
