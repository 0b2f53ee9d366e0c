"""The store through MLflow's own client: any server, any version, 10 to 50 runs a second.

A server gives run ids itself and changes or takes back nothing that was logged. So runs are found by network and
cohort, what is there is read before anything is added, and a run that contradicts the record is deleted and written
again.
"""

import logging
import math
import sys
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory

from mlflow.entities import Experiment, Metric, Param, Run, RunTag, ViewType
from mlflow.exceptions import MlflowException
from mlflow.store.tracking import DEFAULT_LOCAL_FILE_AND_ARTIFACT_PATH
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore
from mlflow.tracking import MlflowClient

from cnnzoo.core.artifacts import Artifacts
from cnnzoo.core.atomic import TEMPORARY, remove_leftovers
from cnnzoo.core.locks import lock_or_wait
from cnnzoo.tracking.location import (
    SQLITE,
    artifact_folder,
    artifact_location,
    check_database,
    database,
    dvc_experiment,
    is_server,
    own_database,
    tracking_uri,
)
from cnnzoo.tracking.moved import follow_project
from cnnzoo.tracking.notes import VIEW_TAG, ExperimentCard
from cnnzoo.tracking.runs import EXPERIMENT, KILLED, RESUMABLE, RUNNING, RunRecord
from cnnzoo.tracking.store import ActiveRun
from cnnzoo.tracking.tables import check_answers

PAGE = 1000
BATCH_METRICS = 1000
"""MLflow's limit for one `log_batch`."""
FIRST_OPENING_S = 120
"""How long to wait for another process that makes the database."""
FLOAT64_MAX = sys.float_info.max
"""What MLflow keeps for infinity."""


def connect(artifacts: Artifacts) -> MlflowClient:
    """Return a client of the project's store; its database is made if it is missing, by one process at a time."""
    uri = tracking_uri(artifacts)
    for noisy in ("alembic", "mlflow.store.db.utils", "mlflow.pyfunc"):  # lines about what goes as it should
        logging.getLogger(noisy).setLevel(logging.WARNING)
    if (file := database(uri)) is None:
        if not is_server(uri):
            check_answers(uri)
        return MlflowClient(tracking_uri=uri)
    check_database(file)
    if file == own_database(artifacts) and file.exists():
        follow_project(file, artifact_folder(artifacts))
    # Two that make the same tables get in each other's way.
    with lock_or_wait(file.with_suffix(".lock"), FIRST_OPENING_S):
        if not file.exists() or not file.stat().st_size:
            _make_database(file)
        return MlflowClient(tracking_uri=uri)


def _make_database(file: Path) -> None:
    """Make a database with MLflow's tables, whole or not at all: with some of the tables no MLflow would open it."""
    remove_leftovers(file.parent)
    for log in ("-wal", "-shm"):  # of a database that was moved away: SQLite would put it into this one
        file.with_name(f"{file.name}{log}").unlink(missing_ok=True)
    with TemporaryDirectory(prefix=TEMPORARY, dir=file.parent) as folder:  # MLflow remembers each name it had
        unfinished = Path(folder) / file.name
        store = SqlAlchemyStore(f"{SQLITE}{unfinished}", DEFAULT_LOCAL_FILE_AND_ARTIFACT_PATH)
        store.engine.dispose()
        unfinished.replace(file)


def ensure_experiment(client: MlflowClient, artifacts: Artifacts, card: ExperimentCard) -> Experiment:
    """Return the experiment of this name, made or brought back if need be.

    A note that a person has edited stays; the saved view is ours alone, so a later version brings its own.
    """
    experiment = client.get_experiment_by_name(card.name)
    if experiment is None:
        with suppress(MlflowException):  # another process was faster: found below
            client.create_experiment(card.name, artifact_location=artifact_location(artifacts, card.name))
        experiment = client.get_experiment_by_name(card.name)
        if experiment is None:
            raise MlflowException(f"experiment {card.name} could not be made")
    if experiment.lifecycle_stage == "deleted":
        client.restore_experiment(experiment.experiment_id)
    for key, value in card.tags.items():
        if key not in experiment.tags or (key == VIEW_TAG and experiment.tags[key] != value):
            client.set_experiment_tag(experiment.experiment_id, key, value)
    return experiment


@dataclass
class _Known:
    """What is known of an active run without asking for it again."""

    run: ActiveRun
    latest: dict[str, float] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    points: set[tuple[str, int]] | None = None
    """(metric, epoch) that are logged; None until it is asked for."""


class ClientStore:
    """See `store.Store`."""

    def __init__(self, client: MlflowClient, experiment_id: str) -> None:
        self.client = client
        self.experiment_id = experiment_id
        self._known: dict[str, _Known] = {known.run.run_id: known for known in self._list()}

    def begin(self, records: Sequence[RunRecord]) -> None:
        """See `store.Store`."""
        by_name = self._by_name()
        for record in records:
            kept = None
            for known in by_name.get(record.name, ()):
                if known.run.identity == record.identity:
                    if known.run.status in RESUMABLE:
                        kept = known
                    else:
                        self.delete([known.run.run_id])
                elif known.run.experiment == dvc_experiment():
                    self.delete([known.run.run_id])
            if kept is None:
                self._create(record)
            else:
                self._resume(kept, record)

    def log(self, records: Sequence[RunRecord]) -> None:
        """See `store.Store`."""
        found = self._by_identity()
        for record in records:
            known = found.get(record.identity) or self._create(record)
            self._add_metrics(known, record)

    def put(self, records: Sequence[RunRecord]) -> None:
        """See `store.Store`."""
        found = self._by_identity()
        for record in records:
            known = found.get(record.identity)
            if known is not None and self._contradicts(known, record):
                self.delete([known.run.run_id])
                known = None
            if known is None:
                known = self._create(record)
            self._set_tags(known, record.tags)
            if known.run.status != record.status:  # the status is written last: a run that has it is whole
                self._complete(known, record)

    def active(self) -> list[ActiveRun]:
        """See `store.Store`."""
        return [known.run for known in self._known.values()]

    def delete(self, run_ids: Collection[str]) -> None:
        """See `store.Store`."""
        for run_id in run_ids:
            self.client.delete_run(run_id)
            self._known.pop(run_id, None)

    def interrupt(self, run_ids: Collection[str]) -> None:
        """See `store.Store`."""
        for run_id in run_ids:
            self.client.set_terminated(run_id, status=KILLED)
            self._set_status(self._known[run_id], KILLED)

    def optimize(self) -> None:
        """See `store.Store`; a server looks after itself."""

    def close(self) -> None:
        """See `store.Store`; nothing is held."""

    def _list(self) -> Iterable[_Known]:
        token = None
        while True:
            page = self.client.search_runs([self.experiment_id], "", ViewType.ACTIVE_ONLY, PAGE, page_token=token)
            yield from (_known(run) for run in page)
            token = page.token
            if not token:
                return

    def _by_identity(self) -> dict[tuple[str, str], _Known]:
        return {known.run.identity: known for known in self._known.values()}

    def _by_name(self) -> dict[str, list[_Known]]:
        names: dict[str, list[_Known]] = {}
        for known in self._known.values():
            names.setdefault(known.run.name, []).append(known)
        return names

    def _create(self, record: RunRecord) -> _Known:
        tags = {key: value for key, value in record.tags.items() if value is not None} | {"cohort": record.cohort}
        run = self.client.create_run(self.experiment_id, record.time_ms, tags, record.name)
        self.client.log_batch(run.info.run_id, params=_params(record))
        known = _known(run)
        known.points = set()
        self._known[run.info.run_id] = known
        return known

    def _resume(self, known: _Known, record: RunRecord) -> None:
        if known.run.status != RUNNING:
            self.client.update_run(known.run.run_id, status=RUNNING)
            self._set_status(known, RUNNING)
        self.client.log_batch(known.run.run_id, params=_params(record))  # a kill may have come before them
        self._set_tags(known, record.tags)

    def _complete(self, known: _Known, record: RunRecord) -> None:
        self.client.log_batch(known.run.run_id, params=_params(record))
        self._add_metrics(known, record)
        self.client.set_terminated(known.run.run_id, record.status, record.time_ms)
        self._set_status(known, record.status)

    def _add_metrics(self, known: _Known, record: RunRecord) -> None:
        points = self._points(known, {name for name, _, _ in record.metrics})
        new = [
            Metric(name, value, record.time_ms, epoch)
            for name, epoch, value in record.metrics
            if (name, epoch) not in points
        ]
        for start in range(0, len(new), BATCH_METRICS):
            self.client.log_batch(known.run.run_id, metrics=new[start : start + BATCH_METRICS])
        points.update((metric.key, metric.step) for metric in new)

    def _points(self, known: _Known, names: Collection[str]) -> set[tuple[str, int]]:
        if known.points is None:
            history = self._history(known, names)
            known.points = {(name, epoch) for name, epoch, _ in history}
        return known.points

    def _history(self, known: _Known, names: Collection[str]) -> list[tuple[str, int, float]]:
        return [
            (name, metric.step, metric.value)
            for name in names
            for metric in self.client.get_metric_history(known.run.run_id, name)
        ]

    def _contradicts(self, known: _Known, record: RunRecord) -> bool:
        """Whether the run holds what `put` cannot correct: a client can add but not take back."""
        expected = {(name, epoch): value for name, epoch, value in record.metrics}
        if known.run.status in RESUMABLE:
            history = self._history(known, {name for name, _, _ in record.metrics})
            points = [(name, epoch) for name, epoch, _ in history]
            wrong = any(not _same(value, expected.get((name, epoch))) for name, epoch, value in history)
            return wrong or len(points) != len(set(points))
        last = {name: value for (name, _), value in sorted(expected.items(), key=lambda item: item[0][1])}
        complete = all(_same(known.latest.get(name), value) for name, value in last.items())
        return known.run.status != record.status or not complete

    def _set_tags(self, known: _Known, tags: Mapping[str, str | None]) -> None:
        changed = {key: value for key, value in tags.items() if value is not None and known.tags.get(key) != value}
        if changed:
            self.client.log_batch(known.run.run_id, tags=[RunTag(key, value) for key, value in changed.items()])
        for key, value in tags.items():
            if value is None and key in known.tags:
                self.client.delete_tag(known.run.run_id, key)
                del known.tags[key]
        known.tags.update(changed)

    def _set_status(self, known: _Known, status: str) -> None:
        known.run = replace(known.run, status=status)


def _known(run: Run) -> _Known:
    tags = run.data.tags
    active = ActiveRun(
        run.info.run_id, run.info.run_name, tags.get("cohort", ""), run.info.status, tags.get(EXPERIMENT)
    )
    return _Known(active, dict(run.data.metrics), dict(tags))


def _params(record: RunRecord) -> list[Param]:
    return [Param(key, value) for key, value in record.params.items()]


def _same(stored: float | None, value: float | None) -> bool:
    """Whether a value is the one that came back; a database keeps infinity as the largest number."""
    if stored is None or value is None:
        return False
    if math.isinf(value):
        value = math.copysign(FLOAT64_MAX, value)
    return stored == value or (math.isnan(stored) and math.isnan(value))
