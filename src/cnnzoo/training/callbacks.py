"""What happens around the training of a cohort: checkpoints, resume points, progress.

Shape letters: M images, H W pixels, C colour channels.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytorch_lightning as lightning
from numpy.typing import NDArray

from cnnzoo.core.signals import Stop
from cnnzoo.training.history import History, finite_networks
from cnnzoo.training.module import CohortModule
from cnnzoo.training.resume import ResumePoint

OnCheckpoint = Callable[[int, Mapping[str, NDArray[np.float64]]], None]


@dataclass(frozen=True)
class Examples:
    """Images uint8 (M, H, W, C) and their labels uint8 (M,)."""

    images: NDArray[np.uint8]
    labels: NDArray[np.uint8]


class KeepCheckpoints(lightning.Callback):
    """Records weights and scores at the checkpoint epochs, and after every epoch who diverged."""

    def __init__(self, history: History, train: Examples, test: Examples, on_checkpoint: OnCheckpoint) -> None:
        self.history = history
        self.train_examples = train
        self.test_examples = test
        self.on_checkpoint = on_checkpoint

    def on_fit_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Record the initialisation, unless it was recorded before a resume."""
        module = _cohort(pl_module)
        if module.steps_done == 0:
            self._record(module, epoch=0)

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Look for divergence; record a checkpoint epoch."""
        module = _cohort(pl_module)
        self.history.note_divergence(module.epochs_done, finite_networks(module.engine))
        if module.epochs_done in self.history.epochs:
            self._record(module, module.epochs_done)

    def _record(self, module: CohortModule, epoch: int) -> None:
        test = module.engine.evaluate(self.test_examples.images, self.test_examples.labels)
        train = module.engine.evaluate(self.train_examples.images, self.train_examples.labels)
        self.on_checkpoint(epoch, self.history.record(epoch, module.engine.weights(), test, train))


class KeepResumePoint(lightning.Callback):
    """Saves the state every `interval_s` seconds and when the process is to end. Comes after `KeepCheckpoints`."""

    def __init__(self, point: ResumePoint, history: History, interval_s: float, stop: Stop) -> None:
        self.point = point
        self.history = history
        self.interval_s = interval_s
        self.stop = stop
        self.saved_at = time.monotonic()

    def on_train_batch_end(
        self,
        trainer: lightning.Trainer,
        pl_module: lightning.LightningModule,
        outputs: Any,
        batch: NDArray[np.int64],
        batch_idx: int,
    ) -> None:
        """Save if it is time inside an epoch, after some of its steps."""
        module = _cohort(pl_module)
        step = module.steps_done % module.schedule.steps
        if step:
            self._save(module, module.epochs_done - 1, step)

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Save if it is time; the last epoch is kept by the shard itself."""
        module = _cohort(pl_module)
        if module.epochs_done < self.history.epochs[-1]:
            self._save(module, module.epochs_done, step=0)

    def _save(self, module: CohortModule, epoch: int, step: int) -> None:
        if self.stop.requested or time.monotonic() - self.saved_at >= self.interval_s:
            self.point.save(epoch, step, module.engine.state(), self.history.arrays())
            self.saved_at = time.monotonic()
        self.stop.check()


class ReportProgress(lightning.Callback):
    """Reports how many images went through how many networks."""

    def __init__(self, networks: int, advance: Callable[[int], None]) -> None:
        self.networks = networks
        self.advance = advance

    def on_train_batch_end(
        self,
        trainer: lightning.Trainer,
        pl_module: lightning.LightningModule,
        outputs: Any,
        batch: NDArray[np.int64],
        batch_idx: int,
    ) -> None:
        """Count the image passes of one block of minibatches (S, B)."""
        self.advance(self.networks * batch.size)


def _cohort(module: lightning.LightningModule) -> CohortModule:
    assert isinstance(module, CohortModule)
    return module
