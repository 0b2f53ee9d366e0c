"""The driver's side of training: puts shards together from parts, keeps resume points, tells listener and progress.

Shape letters: N networks, E checkpoint epochs.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnnzoo.cluster.events import Advanced, Began, Checkpoint, Event, Point, Refused, Trained
from cnnzoo.cluster.identity import refusal
from cnnzoo.cluster.placement import Part
from cnnzoo.core.atomic import atomic_file
from cnnzoo.core.errors import CnnzooError, counted
from cnnzoo.training.job import Job
from cnnzoo.training.progress import TrainingProgress
from cnnzoo.training.resume import ResumePoint
from cnnzoo.zoo.recipes import Recipe
from cnnzoo.zoo.shards import METRICS, SUFFIX, Shard, read_shard, shard_name, write_shard

log = logging.getLogger(__name__)


@dataclass
class _Cohort:
    """A cohort in training."""

    recipes: tuple[Recipe, ...]
    name: str
    parts: list[Part] = field(default_factory=list)
    trained: dict[Part, Shard] = field(default_factory=dict)
    nodes: dict[Part, str] = field(default_factory=dict)
    reached: dict[int, dict[Part, Mapping[str, NDArray[np.float64]]]] = field(default_factory=dict)
    """The metrics of each part at the checkpoint epochs that not all parts have reached."""
    told: set[int] = field(default_factory=set)
    """The checkpoint epochs that the listener has heard of."""
    begun: bool = False

    def joined(self, values: Mapping[Part, Mapping[str, NDArray[Any]]], name: str) -> NDArray[Any]:
        """Return an array (N, ...) from those of all parts, in the order of the recipes."""
        return np.concatenate([values[part][name] for part in self.parts])


class Collector:
    """Hears what the workers tell of the parts of one collection's cohorts, and writes the shards."""

    def __init__(self, job: Job, cohorts: Sequence[tuple[Recipe, ...]], progress: TrainingProgress) -> None:
        self._job = job
        self._progress = progress
        self._cohorts = [_Cohort(recipes, shard_name(job.origin, recipes)) for recipes in cohorts]
        self._folder = job.artifacts.parts(job.collection)
        self._done: dict[Part, int] = {}
        """Image passes behind each part that is trained now."""
        self._rates: dict[Part, float] = {}

    def left(self, parts: Sequence[Part]) -> list[Part]:
        """Return the parts that are to be trained, in the given order; those of an earlier run are taken over."""
        for part in sorted(parts, key=lambda part: (part.cohort, part.first)):
            self._cohorts[part.cohort].parts.append(part)
        left = []
        for part in parts:
            shard = self._found(part)
            if shard is None:
                left.append(part)
            else:
                self._cohorts[part.cohort].trained[part] = shard
                self._progress.skip(part.passes)
        for cohort in self._cohorts:
            self._finish(cohort)
        return left

    def point(self, part: Part) -> bytes | None:
        """Return the content of a part's resume point, None if it starts from nothing."""
        path = self._point(part).path
        return path.read_bytes() if path.exists() else None

    def name(self, part: Part) -> str:
        """Return what people call a part."""
        whole = len(self._cohorts[part.cohort].recipes)
        size = counted(len(part.recipes), "network")
        of = f" of {whole}" if len(part.recipes) < whole else ""
        return f"cohort {self._cohorts[part.cohort].name} ({size}{of})"

    def hear(self, part: Part, event: Event) -> bool:
        """Take an event; returns whether a repetition would go on from there."""
        cohort = self._cohorts[part.cohort]
        match event:
            case Began(node):
                self._begin(cohort, part, node)
            case Refused():
                raise refusal(event)
            case Advanced(skipped, trained, seconds):
                self._advance(part, skipped, trained, seconds)
            case Checkpoint(epoch, metrics):
                self._checkpoint(cohort, part, epoch, metrics)
            case Point(content):
                self._point(part).keep(content)
                return True
            case Trained(content):
                self._take(cohort, part, content)
                return True
        return False

    def lost(self, part: Part) -> None:
        """Take back what was counted of a part: it is counted again from its resume point on."""
        self._progress.skip(-self._done.pop(part, 0))
        self._forget_rate(part)

    def _begin(self, cohort: _Cohort, part: Part, node: str) -> None:
        cohort.nodes[part] = node
        if not cohort.begun:
            cohort.begun = True
            self._job.listener.start(cohort.name, self._job.origin, cohort.recipes)

    def _advance(self, part: Part, skipped: int, trained: int, seconds: float) -> None:
        self._done[part] = self._done.get(part, 0) + skipped + trained
        if trained:
            self._rates[part] = trained / max(seconds, 1e-9)
        self._progress.workers(self._rates.values())
        self._progress.skip(skipped)
        self._progress.advance(trained)

    def _forget_rate(self, part: Part) -> None:
        self._rates.pop(part, None)
        self._progress.workers(self._rates.values())

    def _checkpoint(self, cohort: _Cohort, part: Part, epoch: int, metrics: Mapping[str, NDArray[np.float64]]) -> None:
        """Tell the listener once all parts have reached an epoch: it hears of whole cohorts, and of none twice."""
        if epoch in cohort.told:
            return
        reached = cohort.reached.setdefault(epoch, {})
        reached[part] = metrics
        if len(reached) == len(cohort.parts):
            whole = {name: cohort.joined(reached, name) for name in METRICS}
            self._job.listener.checkpoint(cohort.name, epoch, whole)
            del cohort.reached[epoch]
            cohort.told.add(epoch)

    def _take(self, cohort: _Cohort, part: Part, content: bytes) -> None:
        """Keep the shard of a part, and write the cohort's if it was the last one."""
        with atomic_file(self._path(part)) as file:
            file.write(content)
        shard = self._found(part)
        if shard is None:
            raise CnnzooError(f"{self.name(part)}: what {cohort.nodes[part]} sent is not what it was asked for")
        cohort.trained[part] = shard
        self._done.pop(part, None)
        self._forget_rate(part)
        self._point(part).delete()
        self._finish(cohort)

    def _finish(self, cohort: _Cohort) -> None:
        """Write a cohort's shard if all its parts are there."""
        if len(cohort.trained) < len(cohort.parts):
            return
        weights = np.concatenate([cohort.trained[part].weights() for part in cohort.parts])
        metrics = {part: shard.metrics for part, shard in cohort.trained.items()}
        diverged = np.concatenate([cohort.trained[part].diverged_epoch for part in cohort.parts])
        shard = write_shard(
            self._job.artifacts.checkpoints(self._job.collection),
            self._job.origin,
            cohort.recipes,
            weights,
            {name: cohort.joined(metrics, name) for name in METRICS},
            diverged,
        )
        nodes = [cohort.nodes.get(part, "unknown") for part in cohort.parts for _ in part.recipes]
        self._job.listener.finish(shard, nodes)
        self._progress.finish(len(cohort.recipes))
        for part in cohort.trained:
            self._path(part).unlink()
        cohort.trained.clear()
        cohort.reached.clear()

    def _found(self, part: Part) -> Shard | None:
        """Return the shard of a part that is trained, None if it is not there; a damaged one is deleted."""
        path = self._path(part)
        if not path.exists():
            return None
        try:
            shard = read_shard(path)  # its name is the hash of the networks that it must hold
            shard.weights()
        except CnnzooError as error:
            log.warning("%s; its networks are trained again", error)
            path.unlink()
            return None
        return shard

    def _point(self, part: Part) -> ResumePoint:
        return ResumePoint(self._job.artifacts.unfinished(self._job.collection), self._shard(part))

    def _path(self, part: Part) -> Any:
        return self._folder / f"{self._shard(part)}{SUFFIX}"

    def _shard(self, part: Part) -> str:
        return shard_name(self._job.origin, part.recipes)
