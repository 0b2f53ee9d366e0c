"""Who trains the cohorts of a collection: this process, one after another, or others (`cnnzoo.cluster`)."""

from collections.abc import Sequence
from typing import Protocol

import torch

from cnnzoo.config import Params
from cnnzoo.core.cores import usable_cores
from cnnzoo.training.cohort_run import CohortRun
from cnnzoo.training.engines.choice import EngineChoice, choose
from cnnzoo.training.job import Job
from cnnzoo.training.progress import TrainingProgress
from cnnzoo.zoo.recipes import Recipe

Cohorts = Sequence[tuple[Recipe, ...]]


class Executor(Protocol):
    """Trains cohorts. The shards are the same whoever does it."""

    def choose(self, params: Params) -> EngineChoice:
        """Return the engine that names the shards' origin; raises `CnnzooError` if it is not there."""

    def peak_rate(self, job: Job, cohorts: Cohorts) -> float | None:
        """Return the images/s at the peak of the arithmetic of all that train, None if unknown; there are cohorts."""

    def run(self, job: Job, cohorts: Cohorts, progress: TrainingProgress) -> None:
        """Train the cohorts, write their shards and tell the job's listener and `progress` of all that happens.

        What is interrupted goes on in the next call from its resume points.
        """


class LocalExecutor:
    """Trains in this process: a cohort at a time, on all threads or one GPU."""

    def choose(self, params: Params) -> EngineChoice:
        """Return the engine of this machine."""
        return choose(params.train.engine, params.runtime)

    def peak_rate(self, job: Job, cohorts: Cohorts) -> float | None:
        """Return the images/s at this machine's peak, if the engine knows it."""
        return job.engine.peak_rate(cohorts[0][0].architecture, job.images.image_size)

    def run(self, job: Job, cohorts: Cohorts, progress: TrainingProgress) -> None:
        """Train one cohort after another."""
        torch.set_num_threads(job.params.runtime.threads or usable_cores())
        for cohort in cohorts:
            CohortRun(job, cohort).run(progress)
