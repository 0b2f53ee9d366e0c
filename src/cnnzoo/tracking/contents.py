"""What runs hold in MLflow's tables: parameters, tags, metrics. Written so that only what differs is changed.

A point is (run id, metric, epoch, value, whether it is NaN), as MLflow keeps it: NaN as 0, infinity as the largest
number. A run's latest metrics are its points of the highest epoch.
"""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from sqlalchemy import Connection, delete

from cnnzoo.tracking.client import FLOAT64_MAX
from cnnzoo.tracking.runs import RunRecord
from cnnzoo.tracking.tables import LATEST, METRICS, PARAMS, TAGS, Row, insert, read, remove

PAIR = ("run_uuid", "key", "value")
POINT = ("run_uuid", "key", "step", "value", "is_nan")
TIMED_POINT = (*POINT, "timestamp")

Point = tuple[str, str, int, float, bool]


@dataclass
class Written:
    """What a run holds that this process began from nothing: what it has written since."""

    params: dict[str, str]
    tags: dict[str, str | None]
    points: list[Point] = field(default_factory=list)

    @classmethod
    def begun(cls, record: RunRecord) -> "Written":
        """Return what `add_params` and `add_tags` write."""
        return cls(dict(record.params), dict(_named(record)))

    def lacks_tags_alone(self, record: RunRecord) -> bool:
        """Return whether exactly these parameters and metrics are written, each once."""
        wanted = _points(record)
        same = len(self.points) == len(wanted) and set(self.points) == set(wanted)
        return same and self.params == record.params


def add_params(connection: Connection, records: Sequence[RunRecord]) -> None:
    """Write the parameters of runs that have none."""
    insert(connection, PARAMS, PAIR, _params(records))


def put_params(connection: Connection, records: Sequence[RunRecord]) -> None:
    """Have exactly these parameters."""
    wanted = _params(records)
    wrong = _differing(read(connection, PARAMS, PAIR, _ids(records)), wanted)
    remove(connection, PARAMS, wrong)
    insert(connection, PARAMS, PAIR, [row for row in wanted if row[0] in wrong])


def add_tags(connection: Connection, records: Sequence[RunRecord]) -> None:
    """Write the tags of runs that have none."""
    insert(connection, TAGS, PAIR, [row for row in _tags(records) if row[2] is not None])


def put_tags(connection: Connection, records: Sequence[RunRecord]) -> None:
    """Have these tags, except those whose value is None; other tags are left alone."""
    found = {(run_id, key): value for run_id, key, value in read(connection, TAGS, PAIR, _ids(records))}
    _change_tags(connection, records, found)


def finish_tags(connection: Connection, records: Sequence[RunRecord], written: Mapping[str, Written]) -> None:
    """As `put_tags`, for runs of which it is known what they hold."""
    found = {(run_id, key): value for run_id, run in written.items() for key, value in run.tags.items()}
    _change_tags(connection, records, found)


def _change_tags(
    connection: Connection, records: Sequence[RunRecord], found: Mapping[tuple[str, str], str | None]
) -> None:
    changed = [(run_id, key, value) for run_id, key, value in _tags(records) if found.get((run_id, key)) != value]
    for run_id, key, value in changed:
        if value is None:
            connection.execute(delete(TAGS).where(TAGS.c.run_uuid == run_id, TAGS.c.key == key))
    new = [row for row in changed if row[2] is not None]
    insert(connection, TAGS, PAIR, new, "(key, run_uuid) DO UPDATE SET value = excluded.value")


def log_metrics(connection: Connection, records: Sequence[RunRecord]) -> list[Point]:
    """Write these metrics in place of any of the same epoch; the latest value is that of the highest epoch.

    A run may have several records. One whose latest epoch is an earlier one has nothing that could be in the way, so it
    is not searched. Returns the points.
    """
    points = [(point, record.time_ms) for record in records for point in _points(record)]
    rows = list({point[:3]: (*point, time_ms) for point, time_ms in points}.values())
    if not rows:
        return []
    epochs = {row[2] for row in rows}
    reached = LATEST.c.step >= min(epochs)
    resumed = {run_id for (run_id,) in read(connection, LATEST, ("run_uuid",), {row[0] for row in rows}, reached)}
    for epoch in epochs if resumed else ():
        replaced = {row[0] for row in rows if row[2] == epoch} & resumed
        remove(connection, METRICS, replaced, METRICS.c.step == epoch)
    insert(connection, METRICS, TIMED_POINT, rows)
    changes = ", ".join(f"{name} = excluded.{name}" for name in TIMED_POINT[2:])
    newer = f"(key, run_uuid) DO UPDATE SET {changes} WHERE excluded.step >= {LATEST.name}.step"
    insert(connection, LATEST, TIMED_POINT, _latest(rows), newer)
    return [point for point, _ in points]


def add_metrics(connection: Connection, records: Sequence[RunRecord]) -> None:
    """Write the metrics of runs that have none."""
    rows = [(*point, record.time_ms) for record in records for point in _points(record)]
    insert(connection, METRICS, TIMED_POINT, rows)
    insert(connection, LATEST, TIMED_POINT, _latest(rows))


def put_metrics(connection: Connection, records: Sequence[RunRecord]) -> None:
    """Have exactly these metrics; those that are right already keep the time at which they were logged."""
    ids, wanted = _ids(records), [point for record in records for point in _points(record)]
    history = read(connection, METRICS, TIMED_POINT, ids)
    wrong = _differing([row[:5] for row in history], wanted)
    wrong |= _differing(read(connection, LATEST, POINT, ids), _latest(wanted))
    if not wrong:
        return
    logged = {row[:3]: row[5] for row in history}
    times = {record.run_id: record.time_ms for record in records}
    rows = [(*point, logged.get(point[:3], times[point[0]])) for point in wanted if point[0] in wrong]
    for table, new in ((METRICS, rows), (LATEST, _latest(rows))):
        remove(connection, table, wrong)
        insert(connection, table, TIMED_POINT, new)


def _ids(records: Sequence[RunRecord]) -> list[str]:
    return [record.run_id for record in records]


def _params(records: Sequence[RunRecord]) -> list[tuple[str, str, str]]:
    ids = ((record.run_id, record.params.items()) for record in records)
    return [(run_id, key, value) for run_id, params in ids for key, value in params]


def _tags(records: Sequence[RunRecord]) -> list[tuple[str, str, str | None]]:
    ids = ((record.run_id, _named(record).items()) for record in records)
    return [(run_id, key, value) for run_id, tags in ids for key, value in tags]


def _named(record: RunRecord) -> dict[str, str | None]:
    """Return the tags with the one from which the UI shows a run's name; the API reads the name's column."""
    return {**record.tags, "mlflow.runName": record.name}


def _points(record: RunRecord) -> list[Point]:
    run_id = record.run_id
    return [(run_id, key, epoch, *_stored(value)) for key, epoch, value in record.metrics]


def _stored(value: float) -> tuple[float, bool]:
    if math.isfinite(value):
        return value, False
    return (0.0, True) if math.isnan(value) else (math.copysign(FLOAT64_MAX, value), False)


def _latest(rows: Iterable[Row]) -> list[Row]:
    """Return, of each run and metric, the row of the highest epoch."""
    return list({row[:2]: row for row in sorted(rows, key=_epoch)}.values())


def _epoch(row: Row) -> int:
    return int(row[2])


def _differing(found: Sequence[Row], wanted: Sequence[Row]) -> set[str]:
    """Return the runs that hold other rows than wanted, or one of them twice."""
    differing = {row[0] for row in set(found) ^ set(wanted)}
    if len(found) > len(wanted):
        differing |= {row[0] for row, times in Counter(found).items() if times > 1}
    return differing
