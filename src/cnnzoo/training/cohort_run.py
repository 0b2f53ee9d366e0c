"""The training of one cohort: from its resume point, or its initialisation, to its shard."""

import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import numpy as np
import pytorch_lightning as lightning
from numpy.typing import NDArray

from cnnzoo.core.signals import Stop, held_back
from cnnzoo.core.trainer import make_trainer
from cnnzoo.training.callbacks import Examples, KeepCheckpoints, KeepResumePoint, ReportProgress
from cnnzoo.training.cohorts import cohort_of
from cnnzoo.training.history import History
from cnnzoo.training.initializers import initial_weights
from cnnzoo.training.job import Job
from cnnzoo.training.label_noise import noisy_labels
from cnnzoo.training.module import CohortData, CohortModule
from cnnzoo.training.progress import Meter
from cnnzoo.training.resume import ResumePoint
from cnnzoo.zoo.recipes import Recipe
from cnnzoo.zoo.shards import Shard, shard_name, write_shard


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
        self.history = History(len(recipes), first.checkpoints, first.layout.size)
        self.point = ResumePoint(job.artifacts.unfinished(job.collection), self.name)

    def run(self, progress: Meter) -> Shard:
        """Train to the last epoch and write the shard.

        A signal to end is held back: until the state is saved, or the shard is written; then it raises `Interrupted`.
        """
        with held_back() as stop:
            epoch, step = self._restore()
            progress.skip(self.job.passes(self.recipes, epoch) + len(self.recipes) * step * self.schedule.minibatch)
            self.job.listener.start(self.name, self.job.origin, self.recipes)
            self._fit(epoch, step, progress, stop)
            return self._finish(progress)

    def _finish(self, progress: Meter) -> Shard:
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

    def _restore(self) -> tuple[int, int]:
        """Set engine and history to where training goes on; returns the epochs behind it, and the steps of the next."""
        saved = self.point.load()
        if saved is None:
            rows = [initial_weights(recipe, self.job.collection, recipe.layout) for recipe in self.recipes]
            self.engine.load_state({"weights": np.stack(rows)})
            return 0, 0
        self.engine.load_state(saved.state)
        self.history.restore(saved.history)
        return saved.epoch, saved.step

    def _fit(self, epoch: int, step: int, progress: Meter, stop: Stop) -> None:
        images, subset = self.job.images, self.schedule.subset
        labels = noisy_labels(images.train_labels[subset], self.recipes[0], self.job.collection)
        train = Examples(images.train_images[subset], labels)
        self.engine.load_images(train.images, train.labels)
        with _quiet_lightning():
            trainer = self._trainer(epoch, train, progress, stop)
            data = CohortData(self.schedule, len(self.recipes), epoch, step)
            trainer.fit(CohortModule(self.engine, self.schedule, epoch, step), data)

    def _trainer(self, epoch: int, train: Examples, progress: Meter, stop: Stop) -> lightning.Trainer:
        test = Examples(self.job.images.test_images, self.job.images.test_labels)
        return make_trainer(
            [
                KeepCheckpoints(self.history, train, test, self._tell),
                KeepResumePoint(self.point, self.history, self.job.params.runtime.resume_interval_s, stop),
                ReportProgress(len(self.recipes), progress.advance),
            ],
            max_epochs=self.history.epochs[-1] - epoch,
            accelerator="cpu" if self.job.engine.device == "cpu" else "auto",
            reload_dataloaders_every_n_epochs=1,
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
