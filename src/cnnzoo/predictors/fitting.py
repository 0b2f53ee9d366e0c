"""How networks are fitted: Lightning on tensors in memory, the best epoch kept, global random state untouched.

One thread computes: the sums of a minibatch then have one order whatever the machine, and are too small for more.

Shape letters: n rows, B rows of a minibatch.
"""

import logging
import warnings
from abc import abstractmethod
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any

import pytorch_lightning as lightning
import torch
from threadpoolctl import threadpool_limits
from torch import Tensor
from torch.utils.data import BatchSampler, DataLoader, RandomSampler, SequentialSampler, TensorDataset

from cnnzoo.core.signals import held_back
from cnnzoo.core.trainer import EndBetweenBatches, make_trainer

VALIDATION_LOSS = "validation_loss"
VALIDATION_BATCH = 4096
Batch = tuple[Tensor, ...]
"""Rows of inputs, and as the last element the fractions (B,) to predict."""


@dataclass(frozen=True)
class Schedule:
    """How long and in which portions a network is trained."""

    minibatch: int
    max_epochs: int
    patience: int = 0
    """Training stops after so many epochs without a better validation error, if something is set aside."""


class Regressor(lightning.LightningModule):
    """A network in training for the squared error of fractions."""

    @abstractmethod
    def error(self, batch: Batch) -> Tensor:
        """Return the mean squared error of a minibatch."""

    def penalty(self) -> Tensor:
        """Return what is added to the error of each minibatch."""
        return torch.zeros(())

    def training_step(self, batch: Batch, index: int) -> Tensor:
        """Return the loss."""
        return self.error(batch) + self.penalty()

    def validation_step(self, batch: Batch, index: int) -> None:
        """Log the validation error, weighted by the rows of each batch."""
        self.log(VALIDATION_LOSS, self.error(batch), on_epoch=True, batch_size=len(batch[-1]))


def fit_module(module: Regressor, learning: Batch, schedule: Schedule, seed: int, stopping: Batch | None = None) -> int:
    """Train a network and give it the weights of its best epoch; returns that epoch, 0 if none beat the start.

    `learning` and `stopping` are inputs and fractions, (n, ...) each. If nothing was set aside (`stopping` is missing
    or has no rows), training runs to its limit and the last weights stay. Call it inside `seeded`.
    """
    rows = TensorDataset(*learning)
    order = RandomSampler(rows, generator=torch.Generator().manual_seed(seed))
    validation = None
    if stopping is not None and len(stopping[-1]):
        held = TensorDataset(*stopping)
        validation = _loader(held, SequentialSampler(held), VALIDATION_BATCH)
    keeper = _KeepBest(schedule.patience, validation)
    with _quiet(), one_thread(), held_back() as stop:
        trainer = make_trainer([keeper, EndBetweenBatches(stop)], accelerator="cpu", max_epochs=schedule.max_epochs)
        trainer.fit(module, _loader(rows, order, schedule.minibatch), validation)
    keeper.restore(module)
    return trainer.current_epoch if keeper.best is None else keeper.best_epoch


class _KeepBest(lightning.Callback):
    """Early stopping that keeps the best weights in memory (Lightning's own pair needs checkpoints on disk).

    The untrained network takes part: a training that diverges falls back to the mean.
    """

    def __init__(self, patience: int, held: DataLoader[Any] | None) -> None:
        self.patience = patience
        self.held = held
        self.best_loss = float("inf")
        self.best_epoch = 0
        self.best: dict[str, Tensor] | None = None

    def on_fit_start(self, trainer: lightning.Trainer, module: lightning.LightningModule) -> None:
        """Note the untrained network, if anything was set aside to compare it on."""
        assert isinstance(module, Regressor)
        if self.held is not None:
            module.eval()
            with torch.no_grad():
                errors = [(float(module.error(batch)), len(batch[-1])) for batch in self.held]
            self._note(sum(error * rows for error, rows in errors) / sum(rows for _, rows in errors), 0, module)
            module.train()

    def on_validation_end(self, trainer: lightning.Trainer, module: lightning.LightningModule) -> None:
        """Note the epoch if it is the best so far; stop after `patience` epochs without a better one."""
        loss, epoch = float(trainer.callback_metrics[VALIDATION_LOSS]), trainer.current_epoch + 1
        if loss < self.best_loss:
            self._note(loss, epoch, module)
        elif epoch - self.best_epoch >= self.patience:
            trainer.should_stop = True

    def _note(self, loss: float, epoch: int, module: lightning.LightningModule) -> None:
        self.best_loss, self.best_epoch = loss, epoch
        self.best = {name: value.clone() for name, value in module.state_dict().items()}

    def restore(self, module: lightning.LightningModule) -> None:
        """Give the module its best weights back, if there was a validation."""
        if self.best is not None:
            module.load_state_dict(self.best)


def _loader(dataset: TensorDataset, order: Any, size: int) -> DataLoader[Any]:
    """Return minibatches that are cut out of the tensors by one indexing each, not row by row."""
    return DataLoader(dataset, sampler=BatchSampler(order, size, drop_last=False), batch_size=None)


def one_thread() -> AbstractContextManager[object]:
    """Return a context in which torch and NumPy compute on one thread."""
    limits: AbstractContextManager[object] = threadpool_limits(1)
    return limits


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed torch's global generator (initialisers and dropout have no other) and put its state back afterwards."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        yield


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence Lightning's notes on devices and its advice on data-loading workers: the data lie in memory."""
    loggers = [logging.getLogger(name) for name in ("pytorch_lightning", "lightning.pytorch")]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="pytorch_lightning")
        try:
            for logger in loggers:
                logger.setLevel(logging.ERROR)
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)
