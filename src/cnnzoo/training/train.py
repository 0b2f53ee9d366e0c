"""Train the networks of a collection that are not trained yet: the work of the stage `train`."""

import logging
import shutil
from collections.abc import Sequence
from contextlib import AbstractContextManager

from cnnzoo.config import Params
from cnnzoo.core.artifacts import Artifacts
from cnnzoo.core.atomic import remove_leftovers
from cnnzoo.core.locks import lock_or_fail
from cnnzoo.images import ImageSet
from cnnzoo.training.cohorts import plan
from cnnzoo.training.executor import Executor, LocalExecutor
from cnnzoo.training.job import Job, Listener
from cnnzoo.training.progress import TrainingProgress
from cnnzoo.zoo.recipes import Recipe
from cnnzoo.zoo.shards import SUFFIX, Shard, read_shards

log = logging.getLogger(__name__)


def train_collection(
    artifacts: Artifacts,
    params: Params,
    collection: str,
    recipes: Sequence[Recipe],
    listener: Listener,
    executor: Executor | None = None,
) -> list[Shard]:
    """Train the missing networks, keep valid shards, remove stale ones; returns all shards of the collection.

    `executor` trains them; without one, this process does. Everything that can be wrong with the input is found before
    the first step. Raises `CnnzooError` for bad input,
    a damaged shard, or another training run that is under way.
    """
    images = ImageSet.load(artifacts.images(params.population(collection).dataset))
    executor = executor or LocalExecutor()
    job = Job(artifacts, params, collection, images, executor.choose(params), listener)
    job.check(recipes)
    for stray in sorted(artifacts.root.glob("hpc_ckpt_*.ckpt")):
        log.warning("%s: left by an earlier version under SLURM; it is ignored and can be deleted", stray)
    with _only_run(artifacts, collection):
        return _train_missing(job, recipes, executor)


def _train_missing(job: Job, recipes: Sequence[Recipe], executor: Executor) -> list[Shard]:
    folder, unfinished = job.artifacts.checkpoints(job.collection), job.artifacts.unfinished(job.collection)
    parts = job.artifacts.parts(job.collection)
    folder.mkdir(parents=True, exist_ok=True)
    for writable in (folder, unfinished, parts):
        remove_leftovers(writable)
    settings = job.params.train
    todo = plan(recipes, job.origin, folder, settings.cohort_size, any_engine=settings.engine == "auto")
    passes = sum(job.passes(cohort, cohort[0].epochs) for cohort in todo.missing)
    peak = executor.peak_rate(job, todo.missing) if todo.missing else None
    with TrainingProgress(job.collection, sum(map(len, todo.missing)), passes, peak) as progress:
        if todo.missing:
            executor.run(job, todo.missing, progress)
    # Only now: had a training failed, all that was made before would still be there.
    for path in (*(shard.path for shard in todo.stale), *unfinished.glob(f"*{SUFFIX}")):
        path.unlink()
    shutil.rmtree(parts, ignore_errors=True)
    return read_shards(folder)


def _only_run(artifacts: Artifacts, collection: str) -> AbstractContextManager[None]:
    """Hold the collection's lock."""
    return lock_or_fail(
        artifacts.unfinished(collection) / "lock",
        f"another run is training `{collection}` now",
        "Wait for it, or end it: after a killed `dvc repro` its training process may live on "
        "(`pgrep -f cnnzoo.stages.train`).",
    )
