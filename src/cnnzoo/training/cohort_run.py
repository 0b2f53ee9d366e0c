"""The training of one cohort: from its resume point, or its initialisation, to its shard."""

import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import numpy as np
import pytorch_lightning as lightning
from numpy.typing import NDArray

from cnnzoo.recipes import Recipe, checkpoint_epochs
from cnnzoo.training.callbacks import Examples, KeepCheckpoints, KeepResumePoint, ReportProgress
from cnnzoo.training.cohorts import cohort_of
from cnnzoo.training.history import History
from cnnzoo.training.initializers import initial_weights
from cnnzoo.training.job import Job
from cnnzoo.training.module import CohortData, CohortModule
from cnnzoo.training.progress import TrainingProgress
from cnnzoo.training.resume import ResumePoint
from cnnzoo.training.shards import Shard, shard_name, write_shard


class CohortRun:
    """One `Trainer.fit`: all networks of a cohort, side by side."""

    def __init__(self, job: Job, recipes: Sequence[Recipe]) -> None:
        first = recipes[0]
        self.job = job
        self.recipes = recipes
        self.name = shard_name(job.origin, recipes)
        self.schedule = job.schedule(first)
        self.engine = job.engine.make(
            cohort_of(recipes, job.collection, job.images.image_size), minibatch=self.schedule.minibatch
        )
        epochs = checkpoint_epochs(first.epochs, first.epochs_between_checkpoints)
        self.history = History(len(recipes), epochs, first.layout.size)
        self.point = ResumePoint(job.artifacts.unfinished(job.collection), self.name)

    def run(self, progress: TrainingProgress) -> Shard:
        """Train to the last epoch and write the shard."""
        epoch = self._restore()
        progress.skip(self.job.passes(self.recipes, epoch))
        self.job.listener.start(self.name, self.job.engine.name, self.recipes)
        self._fit(epoch, progress)
        history = self.history
        shard = write_shard(
            self.job.artifacts.checkpoints(self.job.collection),
            self.job.origin,
            self.recipes,
            history.weights,
            history.metrics,
            history.diverged_epoch,
        )
        self.point.delete()
        self.job.listener.finish(shard)
        progress.finish(len(self.recipes))
        return shard

    def _restore(self) -> int:
        """Set engine and history to where training goes on; returns the number of epochs behind it."""
        saved = self.point.load()
        if saved is None:
            rows = [initial_weights(recipe, self.job.collection, recipe.layout) for recipe in self.recipes]
            self.engine.load_state({"weights": np.stack(rows)})
            return 0
        epoch, state, history = saved
        self.engine.load_state(state)
        self.history.restore(history)
        return epoch

    def _fit(self, epoch: int, progress: TrainingProgress) -> None:
        images, subset = self.job.images, self.schedule.subset
        train = Examples(images.train_images[subset], images.train_labels[subset])
        self.engine.load_images(train.images, train.labels)
        with _quiet_lightning():
            trainer = self._trainer(epoch, train, progress)
            data = CohortData(self.schedule, len(self.recipes), epoch)
            trainer.fit(CohortModule(self.engine, self.schedule, epoch), data)

    def _trainer(self, epoch: int, train: Examples, progress: TrainingProgress) -> lightning.Trainer:
        test = Examples(self.job.images.test_images, self.job.images.test_labels)
        return lightning.Trainer(
            max_epochs=self.history.epochs[-1] - epoch,
            accelerator="cpu" if self.job.engine.device == "cpu" else "auto",
            devices=1,
            reload_dataloaders_every_n_epochs=1,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
            callbacks=[
                KeepCheckpoints(self.history, train, test, self._tell),
                KeepResumePoint(self.point, self.history, self.job.params.runtime.resume_interval_s),
                ReportProgress(len(self.recipes), progress.advance),
            ],
        )

    def _tell(self, epoch: int, metrics: Mapping[str, NDArray[np.float64]]) -> None:
        self.job.listener.checkpoint(self.name, epoch, metrics)


@contextmanager
def _quiet_lightning() -> Iterator[None]:
    """Silence what Lightning says at every `fit`: it is meant for one long training, a zoo has hundreds."""
    logger = logging.getLogger("pytorch_lightning")
    level = logger.level
    logger.setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*configure_optimizers. returned .None.*")
        warnings.filterwarnings("ignore", message=".*does not have many workers.*")
        warnings.filterwarnings("ignore", message=".*LeafSpec.*deprecated.*")
        try:
            yield
        finally:
            logger.setLevel(level)
