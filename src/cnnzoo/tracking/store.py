"""The store of one experiment: what the rest of the package needs of MLflow, in two implementations.

`bulk.BulkStore` writes whole cohorts into MLflow's own SQLite tables; `client.ClientStore` goes through MLflow's
client, many times slower (benchmarks/tracking.py), but with any server and any version. Light: mlflow is imported when
a store is opened.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Protocol

from cnnzoo.core.artifacts import Artifacts
from cnnzoo.tracking.location import prepare_environment, without_password
from cnnzoo.tracking.runs import Operation, RunRecord


@dataclass(frozen=True)
class ActiveRun:
    """A run that is in the store and not marked as deleted."""

    run_id: str
    name: str
    cohort: str
    status: str
    experiment: str | None = None
    """The DVC experiment that it belongs to; None for the project itself."""

    @property
    def identity(self) -> tuple[str, str]:
        """What distinguishes two runs, as `RunRecord.identity`."""
        return self.name, self.cohort


class Store(Protocol):
    """The runs of one experiment. Each method may be called again with the same records: that changes nothing."""

    def begin(self, records: Sequence[RunRecord]) -> None:
        """Have these runs, running. One that is running or was killed goes on; any other starts from nothing.

        Other active runs of the same networks and the same DVC experiment are marked as deleted.
        """

    def log(self, records: Sequence[RunRecord]) -> None:
        """Add metrics to runs that have begun; a (metric, epoch) that is there already is not doubled."""

    def put(self, records: Sequence[RunRecord]) -> None:
        """Have exactly these runs: parameters, metrics, status and the given tags. Other tags are left alone."""

    def active(self) -> list[ActiveRun]:
        """Return all runs that are not marked as deleted."""

    def delete(self, run_ids: Collection[str]) -> None:
        """Mark runs as deleted (MLflow keeps them, hidden, until `mlflow gc`)."""

    def interrupt(self, run_ids: Collection[str]) -> None:
        """Mark runs as killed: they may be resumed."""

    def optimize(self) -> None:
        """Make queries fast after much was written."""

    def close(self) -> None:
        """Let go of connections."""


def reason(error: Exception) -> str:
    """Return the first line of an error's text, without passwords: MLflow and SQLAlchemy append pages."""
    return without_password(str(error).strip().split("\n")[0] or repr(error))


def apply(store: Store, operation: Operation) -> None:
    """Do an operation."""
    actions = {"begin": store.begin, "log": store.log, "put": store.put}
    actions[operation.action](operation.records)


def open_zoo(artifacts: Artifacts, collection: str) -> Store:
    """Open the store of a collection's experiment; the experiment is made if it is missing.

    Raises whatever MLflow, the database or the network raise when the store cannot be reached.
    """
    prepare_environment()
    from cnnzoo.tracking.bulk import open_bulk
    from cnnzoo.tracking.client import ClientStore, connect, ensure_experiment
    from cnnzoo.tracking.notes import zoo_experiment

    client = connect(artifacts)
    experiment = ensure_experiment(client, artifacts, zoo_experiment(collection))
    return open_bulk(artifacts, experiment) or ClientStore(client, experiment.experiment_id)
