"""The store through MLflow's own tables, in SQLite and PostgreSQL: thousands of runs a second instead of tens.

MLflow has no bulk interface; its migration from files (`mlflow.store.fs2db`) fills the same tables and shows which rows
a run needs. The schema is private, so it is used only in the versions it was checked with, by the database's alembic
revision; with any other, `open_bulk` says so and returns None: the client takes over.
"""

import logging
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from importlib.metadata import version
from typing import Any

from mlflow.entities import Experiment
from sqlalchemy import Connection, Engine, and_, select, update

from cnnzoo.core.artifacts import Artifacts
from cnnzoo.tracking.contents import (
    Written,
    add_metrics,
    add_params,
    add_tags,
    finish_tags,
    log_metrics,
    put_metrics,
    put_params,
    put_tags,
)
from cnnzoo.tracking.location import dvc_experiment, tracking_uri, without_password
from cnnzoo.tracking.runs import EXPERIMENT, KILLED, RESUMABLE, RUNNING, RunRecord, now_ms
from cnnzoo.tracking.store import ActiveRun
from cnnzoo.tracking.tables import RUNS, TABLES, TAGS, Row, analyze, insert, open_engine, read, remove, schema

log = logging.getLogger(__name__)

KNOWN_REVISIONS = frozenset({"dc11669786a5"})
"""Of MLflow 3.17."""
DATABASES = ("sqlite:///", "postgresql")
"""What the addresses of databases begin with whose dialect of SQL is known."""
CHUNK = 500
"""Runs of one transaction: small enough that a reader or another writer never waits long."""
RUN = (
    *("run_uuid", "name", "source_type", "source_name", "entry_point_name", "user_id", "status", "start_time"),
    *("end_time", "deleted_time", "source_version", "lifecycle_stage", "artifact_uri", "experiment_id"),
)

Values = dict[str, Any]


def open_bulk(artifacts: Artifacts, experiment: Experiment) -> "BulkStore | None":
    """Return the bulk store of an experiment, or None if the address or the schema is not one that it knows."""
    uri = tracking_uri(artifacts)
    if not uri.startswith(DATABASES):
        return None
    engine = open_engine(uri)
    revision = schema(engine)
    if revision not in KNOWN_REVISIONS:
        engine.dispose()
        _say_slow(uri, revision)
        return None
    return BulkStore(engine, experiment)


_SAID: set[str] = set()
"""The addresses of which this process has said that their schema is not known."""


def _say_slow(uri: str, revision: str | None) -> None:
    if uri not in _SAID:
        _SAID.add(uri)
        log.warning(
            "%s has the schema %s of MLflow %s, but networks are written in bulk into the schema %s only. MLflow's "
            "client records them instead, some 30 times slower. The MLflow of constraints.txt has a known schema.",
            without_password(uri),
            revision,
            version("mlflow"),
            " or ".join(sorted(KNOWN_REVISIONS)) or "of no version",
        )


class BulkStore:
    """See `store.Store`."""

    def __init__(self, engine: Engine, experiment: Experiment) -> None:
        self.engine = engine
        self.experiment_id = int(experiment.experiment_id)
        self.artifacts = experiment.artifact_location
        self._named: dict[str, set[str]] | None = None
        """The active runs of this DVC experiment by name: the table has no index that finds them. None until asked."""
        self._written: dict[str, Written] = {}
        """The runs that began here and are not done, by id: nobody else writes them, so they need not be read."""

    def begin(self, records: Sequence[RunRecord]) -> None:
        """See `store.Store`."""
        for chunk in _chunks(records):
            named, by_id = self._by_name(), {record.run_id: record for record in chunk}
            former = {run_id for record in chunk for run_id in named[record.name]} - by_id.keys()
            with self.engine.begin() as connection:
                _change(connection, former, _deleted())
                new = self._begin(connection, by_id)
            named.update({record.name: {record.run_id} for record in chunk})
            self._written.update({record.run_id: Written.begun(record) for record in new})

    def log(self, records: Sequence[RunRecord]) -> None:
        """See `store.Store`."""
        for chunk in _chunks(sorted(records, key=lambda record: record.run_id)):
            with self.engine.begin() as connection:
                points = log_metrics(connection, chunk)
            for point in points:
                if point[0] in self._written:
                    self._written[point[0]].points.append(point)

    def put(self, records: Sequence[RunRecord]) -> None:
        """See `store.Store`."""
        for chunk in _chunks(sorted(records, key=lambda record: record.run_id)):
            with self.engine.begin() as connection:
                self._put(connection, chunk)
            for record in chunk:
                self._written.pop(record.run_id, None)
        if self._named is not None:
            for record in records:
                self._named.setdefault(record.name, set()).add(record.run_id)

    def active(self) -> list[ActiveRun]:
        """See `store.Store`."""
        cohort, experiment = TAGS.alias(), TAGS.alias()
        is_cohort = and_(cohort.c.run_uuid == RUNS.c.run_uuid, cohort.c.key == "cohort")
        is_experiment = and_(experiment.c.run_uuid == RUNS.c.run_uuid, experiment.c.key == EXPERIMENT)
        query = (
            select(RUNS.c.run_uuid, RUNS.c.name, cohort.c.value, RUNS.c.status, experiment.c.value)
            .select_from(RUNS.outerjoin(cohort, is_cohort).outerjoin(experiment, is_experiment))
            .where(RUNS.c.experiment_id == self.experiment_id, RUNS.c.lifecycle_stage == "active")
        )
        with self.engine.connect() as connection:
            return [
                ActiveRun(run_id, name, cohort_name or "", status, experiment_name)
                for run_id, name, cohort_name, status, experiment_name in connection.execute(query)
            ]

    def delete(self, run_ids: Collection[str]) -> None:
        """See `store.Store`."""
        self._named = None
        self._update(run_ids, _deleted())

    def interrupt(self, run_ids: Collection[str]) -> None:
        """See `store.Store`."""
        self._update(run_ids, {"status": KILLED, "end_time": now_ms()})

    def optimize(self) -> None:
        """See `store.Store`: sorting 30,000 runs takes 68 s without ANALYZE and 0.4 s with it; MLflow never runs it."""
        with self.engine.begin() as connection:
            analyze(connection)

    def close(self) -> None:
        """See `store.Store`."""
        self.engine.dispose()

    def _update(self, run_ids: Collection[str], values: Values) -> None:
        for chunk in _chunks(list(run_ids)):
            with self.engine.begin() as connection:
                _change(connection, chunk, values)

    def _by_name(self) -> dict[str, set[str]]:
        if self._named is None:
            named = defaultdict(set)
            for run in self.active():
                if run.experiment == dvc_experiment():
                    named[run.name].add(run.run_id)
            self._named = named
        return self._named

    def _begin(self, connection: Connection, by_id: Mapping[str, RunRecord]) -> list[RunRecord]:
        """Have these runs; returns those that begin from nothing."""
        found = read(connection, RUNS, ("run_uuid", "status", "lifecycle_stage"), by_id)
        resumed = {run_id for run_id, status, stage in found if stage == "active" and status in RESUMABLE}
        for table in TABLES:
            remove(connection, table, {row[0] for row in found} - resumed)
        new = [record for run_id, record in by_id.items() if run_id not in resumed]
        insert(connection, RUNS, RUN, [self._run(record, RUNNING, None) for record in new])
        add_params(connection, new)
        add_tags(connection, new)
        if resumed:
            _change(connection, resumed, {"status": RUNNING, "end_time": None})
            put_params(connection, [by_id[run_id] for run_id in resumed])
            put_tags(connection, [by_id[run_id] for run_id in resumed])
        return new

    def _put(self, connection: Connection, records: Sequence[RunRecord]) -> None:
        by_id = {record.run_id: record for record in records}
        found = read(connection, RUNS, ("run_uuid", "status", "lifecycle_stage", "start_time"), by_id)
        _mend(connection, found, by_id)
        there = {row[0] for row in found}
        new = [record for record in records if record.run_id not in there]
        insert(connection, RUNS, RUN, [self._run(record, record.status, record.time_ms) for record in new])
        add_params(connection, new)
        add_tags(connection, new)
        add_metrics(connection, new)
        written = {run_id: self._written[run_id] for run_id in there if run_id in self._written}
        written = {run_id: run for run_id, run in written.items() if run.lacks_tags_alone(by_id[run_id])}
        finish_tags(connection, [by_id[run_id] for run_id in written], written)
        old = [by_id[run_id] for run_id in there if run_id not in written]
        if old:
            put_params(connection, old)
            put_tags(connection, old)
            put_metrics(connection, old)

    def _run(self, record: RunRecord, status: str, end_ms: int | None) -> Row:
        """Return the row of a new run, as `SqlAlchemyStore.create_run` fills it, in the order of `RUN`."""
        place = f"{self.artifacts}/{record.run_id}/artifacts"
        return (
            *(record.run_id, record.name, "UNKNOWN", "", "", "unknown", status, record.time_ms),
            *(end_ms, None, "", "active", place, self.experiment_id),
        )


def _mend(connection: Connection, found: Sequence[Row], by_id: Mapping[str, RunRecord]) -> None:
    """Give runs the status and the end of their records; an end is never before the start (clocks may be set back)."""
    changes: dict[tuple[str, int], list[str]] = defaultdict(list)
    for run_id, status, stage, start_ms in found:
        record = by_id[run_id]
        if status != record.status or stage != "active":
            changes[record.status, max(record.time_ms, start_ms)].append(run_id)
    for (status, end_ms), ids in changes.items():
        values = {"lifecycle_stage": "active", "deleted_time": None, "status": status, "end_time": end_ms}
        _change(connection, ids, values)


def _deleted() -> Values:
    return {"lifecycle_stage": "deleted", "deleted_time": now_ms()}


def _change(connection: Connection, ids: Collection[str], values: Values) -> None:
    if ids:
        connection.execute(update(RUNS).where(RUNS.c.run_uuid.in_(ids)).values(values))


def _chunks(items: Sequence[Any]) -> Iterator[Sequence[Any]]:
    for start in range(0, len(items), CHUNK):
        yield items[start : start + CHUNK]
