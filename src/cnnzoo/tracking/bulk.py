"""The store through MLflow's own SQLite tables: thousands of runs a second instead of tens.

MLflow has no bulk interface; its migration from files (`mlflow.store.fs2db`) fills the same tables and shows which rows
a run needs. The schema is private, so it is used only in the versions it was checked with, by the database's alembic
revision; with any other, `open_bulk` returns None and the client takes over.
"""

import math
import sqlite3
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any

from mlflow.entities import Experiment
from mlflow.store.tracking.dbmodels.models import SqlLatestMetric, SqlMetric, SqlParam, SqlRun, SqlTag
from sqlalchemy import Connection, Engine, Row, Table, and_, create_engine, delete, event, select, text, update
from sqlalchemy.dialects.sqlite import insert

from cnnzoo.core.artifacts import Artifacts
from cnnzoo.tracking.client import FLOAT64_MAX
from cnnzoo.tracking.location import database, dvc_experiment, tracking_uri
from cnnzoo.tracking.runs import EXPERIMENT, KILLED, RESUMABLE, RUNNING, RunRecord, now_ms
from cnnzoo.tracking.store import ActiveRun

KNOWN_REVISIONS = frozenset({"dc11669786a5"})  # MLflow 3.17
CHUNK = 500
"""Runs of one transaction: small enough that a reader or another writer never waits long."""
BUSY_TIMEOUT_S = 20
"""What MLflow itself uses."""

RUNS: Table = SqlRun.__table__
PARAMS: Table = SqlParam.__table__
TAGS: Table = SqlTag.__table__
METRICS: Table = SqlMetric.__table__
LATEST: Table = SqlLatestMetric.__table__

Values = dict[str, Any]


def open_bulk(artifacts: Artifacts, experiment: Experiment) -> "BulkStore | None":
    """Return the bulk store of an experiment, or None if the address or the schema is not one that it knows."""
    uri = tracking_uri(artifacts)
    if database(uri) is None:
        return None
    engine = create_engine(uri, connect_args={"timeout": BUSY_TIMEOUT_S})
    event.listen(engine, "connect", _on_connect)
    with engine.connect() as connection:
        revision = connection.scalar(text("SELECT version_num FROM alembic_version"))
    if revision not in KNOWN_REVISIONS:
        engine.dispose()
        return None
    return BulkStore(engine, experiment)


def _on_connect(connection: Any, _record: object) -> None:
    with suppress(sqlite3.OperationalError):  # a raw connection raises the driver's own
        connection.execute("PRAGMA journal_mode = WAL")  # kept in the file: readers do not wait for the writer
    connection.execute("PRAGMA synchronous = NORMAL")  # safe with WAL against a kill; per connection
    connection.execute("PRAGMA foreign_keys = ON")


class BulkStore:
    """See `store.Store`."""

    def __init__(self, engine: Engine, experiment: Experiment) -> None:
        self.engine = engine
        self.experiment_id = int(experiment.experiment_id)
        self.artifacts = experiment.artifact_location

    def begin(self, records: Sequence[RunRecord]) -> None:
        """See `store.Store`."""
        for chunk in _chunks(records):
            with self.engine.begin() as connection:
                self._begin(connection, chunk)

    def log(self, records: Sequence[RunRecord]) -> None:
        """See `store.Store`."""
        for chunk in _chunks(records):
            with self.engine.begin() as connection:
                _add_metrics(connection, chunk)

    def put(self, records: Sequence[RunRecord]) -> None:
        """See `store.Store`."""
        for chunk in _chunks(sorted(records, key=lambda record: record.run_id)):
            with self.engine.begin() as connection:
                self._put_runs(connection, chunk)
                _put_params(connection, chunk)
                _put_tags(connection, chunk)
                _put_metrics(connection, chunk)

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
        self._update(run_ids, {"lifecycle_stage": "deleted", "deleted_time": now_ms()})

    def interrupt(self, run_ids: Collection[str]) -> None:
        """See `store.Store`."""
        self._update(run_ids, {"status": KILLED, "end_time": now_ms()})

    def optimize(self) -> None:
        """See `store.Store`: sorting 30,000 runs takes 68 s without ANALYZE and 0.4 s with it; MLflow never runs it."""
        with self.engine.begin() as connection:
            connection.execute(text("ANALYZE"))

    def close(self) -> None:
        """See `store.Store`."""
        self.engine.dispose()

    def _update(self, run_ids: Collection[str], values: Values) -> None:
        for chunk in _chunks(list(run_ids)):
            with self.engine.begin() as connection:
                connection.execute(update(RUNS).where(RUNS.c.run_uuid.in_(chunk)).values(values))

    def _begin(self, connection: Connection, records: Sequence[RunRecord]) -> None:
        ids = [record.run_id for record in records]
        found = _rows(connection, RUNS, ids)
        resumed = {run_id for run_id, row in found.items() if _is_resumable(row)}
        for table in (LATEST, METRICS, TAGS, PARAMS, RUNS):
            _delete(connection, table, found.keys() - resumed)
        self._supersede(connection, records)
        new = [self._run(record) for record in records if record.run_id not in resumed]
        _insert(connection, RUNS, new)
        _change(connection, resumed, {"status": RUNNING, "end_time": None})
        _put_params(connection, records)
        _put_tags(connection, records)

    def _supersede(self, connection: Connection, records: Sequence[RunRecord]) -> None:
        experiment = select(TAGS.c.value).where(TAGS.c.run_uuid == RUNS.c.run_uuid, TAGS.c.key == EXPERIMENT)
        former = and_(
            RUNS.c.experiment_id == self.experiment_id,
            RUNS.c.lifecycle_stage == "active",
            RUNS.c.name.in_([record.name for record in records]),
            RUNS.c.run_uuid.not_in([record.run_id for record in records]),
            experiment.scalar_subquery().is_not_distinct_from(dvc_experiment()),
        )
        values = {"lifecycle_stage": "deleted", "deleted_time": now_ms()}
        connection.execute(update(RUNS).where(former).values(values))

    def _put_runs(self, connection: Connection, records: Sequence[RunRecord]) -> None:
        found = _rows(connection, RUNS, [record.run_id for record in records])
        missing = [record for record in records if record.run_id not in found]
        _insert(connection, RUNS, [self._run(record) | _ending(record) for record in missing])
        for record in records:
            row = found.get(record.run_id)
            if row is not None and (row.status != record.status or row.lifecycle_stage != "active"):
                values = {"lifecycle_stage": "active", "deleted_time": None} | _ending(record)
                values["end_time"] = max(record.time_ms, row.start_time)  # clocks may be set back
                _change(connection, [record.run_id], values)

    def _run(self, record: RunRecord) -> Values:
        """Return the row of a new run, as `SqlAlchemyStore.create_run` fills it."""
        return {
            "run_uuid": record.run_id,
            "name": record.name,
            "source_type": "UNKNOWN",
            "source_name": "",
            "entry_point_name": "",
            "user_id": "unknown",
            "status": RUNNING,
            "start_time": record.time_ms,
            "end_time": None,
            "deleted_time": None,
            "source_version": "",
            "lifecycle_stage": "active",
            "artifact_uri": f"{self.artifacts}/{record.run_id}/artifacts",
            "experiment_id": self.experiment_id,
        }


def _ending(record: RunRecord) -> Values:
    return {"status": record.status, "end_time": record.time_ms}


def _is_resumable(row: Row[Any]) -> bool:
    return row.lifecycle_stage == "active" and row.status in RESUMABLE


def _put_params(connection: Connection, records: Sequence[RunRecord]) -> None:
    found = _pairs(connection, PARAMS, records)
    wrong = [record for record in records if found[record.run_id] != record.params]
    _delete(connection, PARAMS, [record.run_id for record in wrong])
    rows = [
        {"run_uuid": record.run_id, "key": key, "value": value}
        for record in wrong
        for key, value in record.params.items()
    ]
    _insert(connection, PARAMS, rows)


def _put_tags(connection: Connection, records: Sequence[RunRecord]) -> None:
    found = _pairs(connection, TAGS, records)
    rows = []
    for record in records:
        tags = {**record.tags, "mlflow.runName": record.name}  # the UI shows the tag, the API the run's column
        for key, value in tags.items():
            if value is None and key in found[record.run_id]:
                connection.execute(delete(TAGS).where(TAGS.c.run_uuid == record.run_id, TAGS.c.key == key))
            elif value is not None and found[record.run_id].get(key) != value:
                rows.append({"run_uuid": record.run_id, "key": key, "value": value})
    if rows:
        statement = insert(TAGS)
        changed = statement.on_conflict_do_update(["key", "run_uuid"], set_={"value": statement.excluded.value})
        connection.execute(changed, rows)


def _add_metrics(connection: Connection, records: Sequence[RunRecord]) -> None:
    """Write these metrics in place of any of the same epoch; the latest value is that of the highest epoch."""
    rows = [row for record in records for row in _metric_rows(record, {})]
    for epoch in {row["step"] for row in rows}:
        ids = {row["run_uuid"] for row in rows if row["step"] == epoch}
        _delete(connection, METRICS, ids, METRICS.c.step == epoch)
    _insert(connection, METRICS, rows)
    statement = insert(LATEST)
    columns = ("value", "timestamp", "step", "is_nan")
    newer = statement.on_conflict_do_update(
        ["key", "run_uuid"],
        set_={column: statement.excluded[column] for column in columns},
        where=statement.excluded.step >= LATEST.c.step,
    )
    if rows:
        connection.execute(newer, sorted(rows, key=lambda row: row["step"]))


def _put_metrics(connection: Connection, records: Sequence[RunRecord]) -> None:
    """Have exactly these metrics; those that are right already keep the time at which they were logged."""
    ids = [record.run_id for record in records]
    history, latest = _metrics(connection, METRICS, ids), _metrics(connection, LATEST, ids)
    rows, latest_rows = [], []
    for record in records:
        times = {(row.key, row.step): row.timestamp for row in history[record.run_id]}
        expected = _metric_rows(record, times)
        last = list({row["key"]: row for row in sorted(expected, key=lambda row: row["step"])}.values())
        if _content(history[record.run_id]) != _wanted(expected) or _content(latest[record.run_id]) != _wanted(last):
            rows += expected
            latest_rows += last
    wrong = {row["run_uuid"] for row in rows}
    for table, new in ((METRICS, rows), (LATEST, latest_rows)):
        _delete(connection, table, wrong)
        _insert(connection, table, new)


def _metric_rows(record: RunRecord, times: Mapping[tuple[str, int], int]) -> list[Values]:
    rows = []
    for key, epoch, value in record.metrics:
        stored, is_nan = _stored(value)
        timestamp = times.get((key, epoch), record.time_ms)
        row = {"run_uuid": record.run_id, "key": key, "step": epoch, "timestamp": timestamp}
        rows.append(row | {"value": stored, "is_nan": is_nan})
    return rows


def _stored(value: float) -> tuple[float, bool]:
    """Return the value and the NaN flag as MLflow keeps them: NaN as 0, infinity as the largest number."""
    if math.isnan(value):
        return 0.0, True
    return (math.copysign(FLOAT64_MAX, value) if math.isinf(value) else value), False


def _content(rows: Sequence[Row[Any]]) -> list[tuple[Any, ...]]:
    return sorted((row.key, row.step, row.value, row.is_nan) for row in rows)


def _wanted(rows: Sequence[Values]) -> list[tuple[Any, ...]]:
    return sorted((row["key"], row["step"], row["value"], row["is_nan"]) for row in rows)


def _metrics(connection: Connection, table: Table, ids: Sequence[str]) -> dict[str, list[Row[Any]]]:
    columns = table.c
    query = select(columns.run_uuid, columns.key, columns.step, columns.value, columns.is_nan, columns.timestamp)
    found: dict[str, list[Row[Any]]] = defaultdict(list)
    for row in connection.execute(query.where(columns.run_uuid.in_(ids))):
        found[row.run_uuid].append(row)
    return found


def _pairs(connection: Connection, table: Table, records: Sequence[RunRecord]) -> dict[str, dict[str, str]]:
    """Return key -> value of each run, of params or tags."""
    query = select(table.c.run_uuid, table.c.key, table.c.value)
    found: dict[str, dict[str, str]] = defaultdict(dict)
    for run_id, key, value in connection.execute(query.where(table.c.run_uuid.in_([r.run_id for r in records]))):
        found[run_id][key] = value
    return found


def _rows(connection: Connection, table: Table, ids: Sequence[str]) -> dict[str, Row[Any]]:
    return {row.run_uuid: row for row in connection.execute(select(table).where(table.c.run_uuid.in_(ids)))}


def _change(connection: Connection, ids: Collection[str], values: Values) -> None:
    if ids:
        connection.execute(update(RUNS).where(RUNS.c.run_uuid.in_(ids)).values(values))


def _delete(connection: Connection, table: Table, ids: Collection[str], *conditions: Any) -> None:
    if ids:
        connection.execute(delete(table).where(table.c.run_uuid.in_(ids), *conditions))


def _insert(connection: Connection, table: Table, rows: Sequence[Values]) -> None:
    if rows:
        connection.execute(table.insert(), rows)


def _chunks(items: Sequence[Any]) -> Iterator[Sequence[Any]]:
    for start in range(0, len(items), CHUNK):
        yield items[start : start + CHUNK]
