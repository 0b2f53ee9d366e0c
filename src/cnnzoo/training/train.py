"""Train the networks of a collection that are not trained yet: the work of the stage `train`."""

import logging
from collections.abc import Sequence
from contextlib import AbstractContextManager

import torch

from cnnzoo.config import Params
from cnnzoo.core.artifacts import Artifacts
from cnnzoo.core.atomic import remove_leftovers
from cnnzoo.core.cores import usable_cores
from cnnzoo.core.locks import lock_or_fail
from cnnzoo.images import ImageSet
from cnnzoo.training.cohort_run import CohortRun
from cnnzoo.training.cohorts import plan
from cnnzoo.training.engines.choice import choose
from cnnzoo.training.job import Job, Listener
from cnnzoo.training.progress import TrainingProgress
from cnnzoo.zoo.recipes import Recipe
from cnnzoo.zoo.shards import SUFFIX, Shard, read_shards

log = logging.getLogger(__name__)


def train_collection(
    artifacts: Artifacts, params: Params, collection: str, recipes: Sequence[Recipe], listener: Listener
) -> list[Shard]:
    """Train the missing networks, keep valid shards, remove stale ones; returns all shards of the collection.

    Everything that can be wrong with the input is found before the first step. Raises `CnnzooError` for bad input,
    a damaged shard, or another training run that is under way.
    """
    images = ImageSet.load(artifacts.images(params.population(collection).dataset))
    job = Job(artifacts, params, collection, images, choose(params.train.engine, params.runtime), listener)
    job.check(recipes)
    torch.set_num_threads(params.runtime.threads or usable_cores())
    for stray in sorted(artifacts.root.glob("hpc_ckpt_*.ckpt")):
        log.warning("%s: left by an earlier version under SLURM; it is ignored and can be deleted", stray)
    with _only_run(artifacts, collection):
        return _train_missing(job, recipes)


def _train_missing(job: Job, recipes: Sequence[Recipe]) -> list[Shard]:
    folder, unfinished = job.artifacts.checkpoints(job.collection), job.artifacts.unfinished(job.collection)
    folder.mkdir(parents=True, exist_ok=True)
    for writable in (folder, unfinished):
        remove_leftovers(writable)
    settings = job.params.train
    todo = plan(recipes, job.origin, folder, settings.cohort_size, any_engine=settings.engine == "auto")
    passes = sum(job.passes(cohort, cohort[0].epochs) for cohort in todo.missing)
    with TrainingProgress(job.collection, sum(map(len, todo.missing)), passes, _peak(job, todo.missing)) as progress:
        for cohort in todo.missing:
            CohortRun(job, cohort).run(progress)
    # Only now: had a training failed, all that was made before would still be there.
    for path in (*(shard.path for shard in todo.stale), *unfinished.glob(f"*{SUFFIX}")):
        path.unlink()
    return read_shards(folder)


def _peak(job: Job, cohorts: Sequence[Sequence[Recipe]]) -> float | None:
    """Return the images/s at the machine's peak, if there is something to train and the engine knows."""
    return job.engine.peak_rate(cohorts[0][0].architecture, job.images.image_size) if cohorts else None


def _only_run(artifacts: Artifacts, collection: str) -> AbstractContextManager[None]:
    """Hold the collection's lock."""
    return lock_or_fail(
        artifacts.unfinished(collection) / "lock",
        f"another run is training `{collection}` now",
        "Wait for it, or end it: after a killed `dvc repro` its training process may live on "
        "(`pgrep -f cnnzoo.stages.train`).",
    )
