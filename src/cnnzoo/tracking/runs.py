"""The record of a network in MLflow: one flat run, the same whether logged live or rebuilt from its shard.

Light: does not import mlflow. Shape letters: N networks, E checkpoint epochs.
"""

import hashlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnnzoo.core.artifacts import Artifacts
from cnnzoo.tracking.location import dvc_experiment
from cnnzoo.zoo.format import modeldir
from cnnzoo.zoo.recipes import Recipe
from cnnzoo.zoo.shards import METRICS, NEVER, Origin, Shard

RUNNING, FINISHED, FAILED, KILLED = "RUNNING", "FINISHED", "FAILED", "KILLED"
EXPERIMENT = "experiment"
"""The tag with the name of the DVC experiment that made a run."""
RESUMABLE = (RUNNING, KILLED)
"""States of a run whose training may go on; any other state means that a new training starts from nothing."""


@dataclass(frozen=True)
class RunRecord:
    """One network's run, or the part of it that an event adds.

    A run is identified by its network's name and its cohort: the cohort's name is a hash of everything that
    determines the training, so a network that is trained again under other parameters is another run.
    """

    name: str
    """`<collection>/<network id>`, the published `modeldir`."""
    cohort: str
    time_ms: int
    """When it happened: start, checkpoint or end, by the kind of event."""
    params: Mapping[str, str] = field(default_factory=dict)
    tags: Mapping[str, str | None] = field(default_factory=dict)
    """None says that the run must not have this tag."""
    metrics: tuple[tuple[str, int, float], ...] = ()
    """(metric, epoch, value)"""
    status: str = RUNNING

    @property
    def identity(self) -> tuple[str, str]:
        """What distinguishes two runs."""
        return self.name, self.cohort

    @property
    def run_id(self) -> str:
        """32 hexadecimal digits: a hash of the cohort, then the network, so a cohort's rows lie together.

        SQLite inserts at half the rate when ids are random: each row then falls into another page.
        """
        collection, _, network = self.name.rpartition("/")
        return f"{_digest(collection, self.cohort)}{int(network):08x}"


@lru_cache
def _digest(collection: str, cohort: str) -> str:
    return hashlib.sha256(f"{collection}/{cohort}".encode()).hexdigest()[:24]


def now_ms() -> int:
    """Return the time as MLflow keeps it."""
    return time.time_ns() // 1_000_000


@dataclass(frozen=True)
class CohortStart:
    """What is known of a cohort when its training begins."""

    cohort: str
    origin: Origin
    recipes: tuple[Recipe, ...]
    git_commit: str | None
    time_ms: int

    def begun(self) -> list[RunRecord]:
        """Return the runs of its networks, without metrics."""
        return [
            RunRecord(
                name=modeldir(self.origin.collection, recipe.network),
                cohort=self.cohort,
                time_ms=self.time_ms,
                params=_params(self.origin.minibatch, recipe),
                tags=_tags(self.origin, recipe, self.cohort) | {"git_commit": self.git_commit},
            )
            for recipe in self.recipes
        ]

    def reached(self, epoch: int, metrics: Mapping[str, NDArray[np.float64]], time_ms: int) -> list[RunRecord]:
        """Return what a checkpoint adds: `metrics` holds each of METRICS, (N,)."""
        columns = [[float(value) for value in metrics[name]] for name in METRICS]
        return [
            RunRecord(
                name=modeldir(self.origin.collection, recipe.network),
                cohort=self.cohort,
                time_ms=time_ms,
                metrics=tuple((name, epoch, value) for name, value in zip(METRICS, values, strict=True)),
            )
            for recipe, values in zip(self.recipes, zip(*columns, strict=True), strict=True)
        ]


def finished(
    artifacts: Artifacts,
    shard: Shard,
    first_rows: Mapping[int, int] | None = None,
    tags: Mapping[str, str | None] | None = None,
) -> list[RunRecord]:
    """Return the whole runs of a shard's networks, with further `tags`.

    `first_rows` gives the first row in the matrix of each network that is in it; None leaves the tag as it is.
    The end of the training is the time of the shard's file: a shard's content holds no clock.
    """
    time_ms = shard.path.stat().st_mtime_ns // 1_000_000
    values = {name: array.tolist() for name, array in shard.metrics.items()}
    return [
        RunRecord(
            name=modeldir(shard.origin.collection, recipe.network),
            cohort=shard.name,
            time_ms=time_ms,
            params=_params(shard.origin.minibatch, recipe),
            tags=_finished_tags(artifacts, shard, index, first_rows) | dict(tags or {}),
            metrics=tuple(
                (name, epoch, value)
                for name in METRICS
                for epoch, value in zip(shard.epochs, values[name][index], strict=True)
            ),
            status=FINISHED if shard.diverged_epoch[index] == NEVER else FAILED,
        )
        for index, recipe in enumerate(shard.recipes)
    ]


def _finished_tags(
    artifacts: Artifacts, shard: Shard, index: int, first_rows: Mapping[int, int] | None
) -> dict[str, str | None]:
    recipe, diverged = shard.recipes[index], int(shard.diverged_epoch[index])
    tags = _tags(shard.origin, recipe, shard.name)
    tags["shard"] = _relative(artifacts, shard)
    tags["diverged_epoch"] = None if diverged == NEVER else str(diverged)
    if first_rows is not None:
        first = first_rows.get(recipe.network)
        tags["rows"] = None if first is None else f"{first}-{first + len(shard.epochs)}"
    return tags


def _tags(origin: Origin, recipe: Recipe, cohort: str) -> dict[str, str | None]:
    return {
        "network": modeldir(origin.collection, recipe.network),
        "cohort": cohort,
        "engine": origin.engine,
        "numerics": origin.numerics,
        "images": origin.images,
        EXPERIMENT: dvc_experiment(),
    }


@lru_cache(maxsize=4096)
def _params(minibatch: int, recipe: Recipe) -> Mapping[str, str]:
    """Return the parameters of a network, the same object at its start and at its end."""
    values = recipe.config() | {"minibatch": minibatch}
    return {name.removeprefix("config."): str(value) for name, value in values.items()}


def _relative(artifacts: Artifacts, shard: Shard) -> str:
    path, root = shard.path.absolute(), artifacts.root.absolute()
    return (path.relative_to(root) if path.is_relative_to(root) else path).as_posix()


@dataclass(frozen=True)
class Operation:
    """One thing to do to a store. Doing it twice is the same as doing it once."""

    action: str
    """`begin`, `log` or `put`: a method of `store.Store`."""
    records: Sequence[RunRecord]

    def to_json(self) -> dict[str, Any]:
        """Return what `json` can write; NaN stays NaN."""
        return {"action": self.action, "records": [vars(record) for record in self.records]}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> "Operation":
        """Read what `to_json` returned; raises `KeyError` or `TypeError` on anything else."""
        records = [
            RunRecord(**{**record, "metrics": tuple(tuple(metric) for metric in record["metrics"])})
            for record in content["records"]
        ]
        return cls(content["action"], records)


def joined(operations: Sequence[Operation]) -> Operation:
    """Return one operation for several, at least one, with the same action."""
    (action,) = {operation.action for operation in operations}
    return Operation(action, [record for operation in operations for record in operation.records])
