"""The record as MLflow's own client reads it back: the oracle of all tests of tracking."""

import math
import os
import shutil
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mlflow.entities import Run, ViewType
from mlflow.tracking import MlflowClient
from sqlalchemy import create_engine, text

from builders import COLLECTION, make_shard, metrics_of
from cnnzoo.core.artifacts import Artifacts
from cnnzoo.tracking import ZooTracker
from cnnzoo.tracking.location import tracking_uri
from cnnzoo.zoo.recipes import Recipe
from cnnzoo.zoo.shards import METRICS, Shard

MISSING = "NaN"
"""Stands for NaN, which equals nothing."""


def client_of(artifacts: Artifacts) -> MlflowClient:
    return MlflowClient(tracking_uri(artifacts))


def experiment_id(artifacts: Artifacts, name: str = f"zoo/{COLLECTION}") -> str:
    experiment = client_of(artifacts).get_experiment_by_name(name)
    assert experiment is not None
    return str(experiment.experiment_id)


def runs_of(
    artifacts: Artifacts, search: str = "", view: int = ViewType.ACTIVE_ONLY, order: Sequence[str] = ()
) -> list[Run]:
    return list(client_of(artifacts).search_runs([experiment_id(artifacts)], search, view, 1000, list(order)))


def run_of(artifacts: Artifacts, network: int) -> Run:
    (run,) = runs_of(artifacts, f"tags.network = '{COLLECTION}/{network:06d}'")
    return run


def record_of(artifacts: Artifacts) -> dict[str, Any]:
    """Return all active runs by name, without ids and times; fails on a second run of a network."""
    client, runs = client_of(artifacts), runs_of(artifacts)
    record = {run.info.run_name: _content(client, run) for run in runs}
    assert len(record) == len(runs), "a network has two runs"
    return record


def _content(client: MlflowClient, run: Run) -> dict[str, Any]:
    history = {
        name: [(point.step, plain(point.value)) for point in client.get_metric_history(run.info.run_id, name)]
        for name in run.data.metrics
    }
    return {
        "status": run.info.status,
        "params": run.data.params,
        "tags": {key: value for key, value in run.data.tags.items() if key != "git_commit"},
        "latest": {name: plain(value) for name, value in run.data.metrics.items()},
        "history": {name: sorted(points) for name, points in history.items()},
    }


def select(artifacts: Artifacts, query: str) -> list[tuple[Any, ...]]:
    """Return what a database answers, whichever it is."""
    engine = create_engine(tracking_uri(artifacts))
    with engine.connect() as connection:
        rows = [tuple(row) for row in connection.execute(text(query))]
    engine.dispose()
    return rows


def plain(value: float) -> float | str:
    return MISSING if math.isnan(value) else value


def expected_history(recipe: Recipe, epochs: Sequence[int]) -> dict[str, list[tuple[int, float]]]:
    """Return what the history of a network that did not diverge must be, from the builders' formula."""
    return {name: list(zip(epochs, metrics_of(recipe)[name], strict=True)) for name in METRICS}


def write_shards(
    artifacts: Artifacts, recipes: Sequence[Recipe], diverged: dict[int, int] | None = None
) -> list[Shard]:
    """Write two cohorts."""
    folder, half = artifacts.checkpoints(COLLECTION), len(recipes) // 2
    parts = [part for part in (recipes[:half], recipes[half:]) if part]
    return [make_shard(folder, part, diverged=diverged) for part in parts]


def train(tracker: ZooTracker, shard: Shard, epochs: int | None = None, skip: int = 0) -> None:
    """Log a cohort as its training does: all of its checkpoints, or those from `skip` to `epochs` only."""
    tracker.start(shard.name, shard.origin, shard.recipes)
    for index, epoch in list(enumerate(shard.epochs))[skip:epochs]:
        tracker.checkpoint(shard.name, epoch, {name: values[:, index] for name, values in shard.metrics.items()})
    if epochs is None:
        tracker.finish(shard)


def train_all(artifacts: Artifacts, shards: Sequence[Shard]) -> None:
    with ZooTracker(artifacts, COLLECTION) as tracker:
        for shard in shards:
            train(tracker, shard)


def with_database(root: Path, empty_database: Path) -> Artifacts:
    """Return a project that has an empty store."""
    artifacts = Artifacts(root)
    artifacts.mlruns.mkdir(parents=True)
    shutil.copy(empty_database, artifacts.mlruns / "mlflow.db")
    return artifacts


def set_mtime(shard: Shard, time_ms: int) -> None:
    """Let a shard have been written at a time."""
    os.utime(shard.path, ns=(time_ms * 1_000_000, time_ms * 1_000_000))


@contextmanager
def locked(artifacts: Artifacts) -> Iterator[None]:
    """Hold the database's write lock."""
    other = sqlite3.connect(artifacts.mlruns / "mlflow.db", isolation_level=None, timeout=20)
    other.execute("BEGIN IMMEDIATE")
    try:
        yield
    finally:
        other.execute("ROLLBACK")
        other.close()
