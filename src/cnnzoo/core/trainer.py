"""Lightning's Trainer as this project uses it: one process on one device, whatever environment it runs in.

Lightning looks for clusters by itself: under SLURM or torchrun it would take this process for one of several, install
handlers that end it with exit code 0 or requeue its job, and write checkpoints of its own into the working directory
and load them again. Resume points, signals and exit codes are this project's own business (`cnnzoo.core.signals`).
"""

import os
import signal
import threading
from pathlib import Path
from typing import Any

import pytorch_lightning as lightning
from lightning_fabric.plugins.environments.lightning import LightningEnvironment

from cnnzoo.core.signals import STOPPING, Stop

NOWHERE = str(Path(os.devnull) / "lightning")
"""A folder that cannot exist: Lightning looks there for checkpoints of a job that was requeued."""


def make_trainer(callbacks: list[lightning.Callback], **settings: Any) -> lightning.Trainer:
    """Return a silent Trainer without cluster detection, signal handlers, loggers and checkpoints."""
    return lightning.Trainer(
        devices=1,
        plugins=[LightningEnvironment()],
        default_root_dir=NOWHERE,
        callbacks=[_KeepHandlers(), *callbacks],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        **settings,
    )


class EndBetweenBatches(lightning.Callback):
    """Ends a fit between two minibatches if the process was asked to end: inside one, Lightning's clean-up may fail."""

    def __init__(self, stop: Stop) -> None:
        self._stop = stop

    def on_train_batch_end(self, *_: Any) -> None:
        """Raise `Interrupted` if the process was asked to end."""
        self._stop.check()


class _KeepHandlers(lightning.Callback):
    """Puts back the signal handlers that Lightning replaces when a fit begins."""

    def __init__(self) -> None:
        self._handlers = {number: signal.getsignal(number) for number in STOPPING}

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Restore them, in the only thread that is allowed to."""
        if threading.current_thread() is threading.main_thread():
            for number, handler in self._handlers.items():
                signal.signal(number, handler)
