"""The record of a zoo: every network a run, logged while it trains and made exact from the shards.

Light: importing this module does not import mlflow.
"""

import logging
import subprocess
from collections.abc import Mapping, Sequence, Set
from dataclasses import replace
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

from cnnzoo.core.artifacts import Artifacts
from cnnzoo.tracking.location import dvc_experiment, spool_folder, tracking_uri, without_password
from cnnzoo.tracking.runs import RESUMABLE, RUNNING, CohortStart, Operation, finished, now_ms
from cnnzoo.tracking.spool import Spool
from cnnzoo.tracking.store import Store, apply, open_zoo, reason
from cnnzoo.tracking.writer import Writer
from cnnzoo.zoo.format import modeldir
from cnnzoo.zoo.recipes import Recipe
from cnnzoo.zoo.shards import METRICS, Origin, Shard, serving

log = logging.getLogger(__name__)

CLOSE_TIMEOUT_S = 30.0
"""How long the end of training waits for a slow server; the rest is spooled."""


class ZooTracker:
    """Logs the networks of a collection as they train. No method waits for the store or raises because of it."""

    def __init__(self, artifacts: Artifacts, collection: str) -> None:
        self.artifacts = artifacts
        self.collection = collection
        self._git_commit: str | None = None
        self._cohorts: dict[str, CohortStart] = {}

    def __enter__(self) -> "ZooTracker":
        """Start the thread that writes; it first replays what a former process could not deliver."""
        self._git_commit = git_commit(self.artifacts)
        spool = Spool(spool_folder(self.artifacts, self.collection))
        self._writer = Writer(lambda: open_zoo(self.artifacts, self.collection), spool)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Wait a little for what is still to be written; what is left is spooled."""
        self._writer.close(CLOSE_TIMEOUT_S)

    def start(self, cohort: str, origin: Origin, recipes: Sequence[Recipe]) -> None:
        """Record that the networks of a cohort begin, or resume, their training."""
        begun = CohortStart(cohort, origin, tuple(recipes), self._git_commit, now_ms())
        self._cohorts[cohort] = begun
        self._writer.submit(lambda: Operation("begin", begun.begun()))

    def checkpoint(self, cohort: str, epoch: int, metrics: Mapping[str, NDArray[np.float64]]) -> None:
        """Record a checkpoint: `metrics` holds each of METRICS, float64 (N,), in the order of the cohort's recipes."""
        begun, time_ms = self._cohorts.get(cohort), now_ms()
        values = {name: np.array(metrics[name], dtype=np.float64) for name in METRICS if name in metrics}

        def make() -> Operation:
            if begun is None:
                raise KeyError(f"cohort {cohort} has a checkpoint but no start")
            return Operation("log", begun.reached(epoch, values, time_ms))

        self._writer.submit(make, adds=True)

    def finish(self, shard: Shard, nodes: Sequence[str] = ()) -> None:
        """Record that a cohort is done and its shard is written; `nodes` names where each network was trained, (N,)."""
        commit = {"git_commit": self._git_commit} if shard.name in self._cohorts else {}
        self._cohorts.pop(shard.name, None)

        def make() -> Operation:
            records = finished(self.artifacts, shard, tags=commit)
            placed = zip(records, nodes, strict=True) if nodes else ()
            named = [replace(record, tags={**record.tags, "node": node}) for record, node in placed]
            return Operation("put", named or records)

        self._writer.submit(make)


def sync_zoo(
    artifacts: Artifacts,
    collection: str,
    shards: Sequence[Shard],
    recipes: Sequence[Recipe],
    first_rows: Mapping[int, int] | None = None,
) -> bool:
    """Make the record of a collection complete and exact: one run per network, with what its shard holds.

    Missing runs are inserted, unfinished and altered ones completed, runs of networks that left the collection or were
    trained again marked as deleted, even where a shard still holds them. `first_rows` gives the first row in the matrix
    of each network that is in it. Nothing may train in this collection meanwhile. Returns whether it was done: a store
    that cannot be reached is no more than a warning, call it again later.
    """
    spool = Spool(spool_folder(artifacts, collection))
    served = serving(shards, recipes)
    trained = {(modeldir(collection, recipe.network), shard.name) for recipe, (shard, _) in served.items()}
    awaited = {modeldir(collection, recipe.network) for recipe in recipes if recipe not in served}
    try:
        store = open_zoo(artifacts, collection)
        try:
            _replay(store, spool)
            for shard in shards:
                records = finished(artifacts, shard, first_rows)
                store.put([record for record in records if record.identity in trained])
            _retire(store, trained, awaited)
            store.optimize()
        finally:
            store.close()
        spool.clear()
    except Exception as error:  # whatever MLflow, a driver or the network raise: the record is never worth a failure
        log.warning(
            "the MLflow record of %s at %s could not be brought up to date (%s); the next run does it",
            collection,
            without_password(tracking_uri(artifacts)),
            reason(error),
        )
        return False
    return True


def _replay(store: Store, spool: Spool) -> None:
    """Deliver what is spooled, for the times and tags that only it knows; what fails is in the shards too."""
    try:
        spool.replay(lambda operation: apply(store, operation))
    except Exception as error:
        log.warning("%s: could not be replayed (%s); the record is made from the shards", spool.folder, error)


def _retire(store: Store, trained: Set[tuple[str, str]], awaited: Set[str]) -> None:
    """Mark the runs that no shard stands behind: killed if the network is yet to be trained, else deleted.

    Runs of other DVC experiments than this one are left alone.

    `trained` are the identities of the runs that stay, `awaited` the names of the networks yet to be trained.
    """
    own = [run for run in store.active() if run.experiment == dvc_experiment()]
    others = [run for run in own if run.identity not in trained]
    resumable = [run for run in others if run.name in awaited and run.status in RESUMABLE]
    store.interrupt([run.run_id for run in resumable if run.status == RUNNING])
    store.delete([run.run_id for run in others if run not in resumable])


def git_commit(artifacts: Artifacts) -> str | None:
    """Return the commit that is checked out, None outside a repository or without git."""
    command = ["git", "-C", str(artifacts.root.absolute()), "rev-parse", "--verify", "HEAD"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None
