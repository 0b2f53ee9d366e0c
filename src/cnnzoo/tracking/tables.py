"""MLflow's own tables in SQLite and PostgreSQL: connecting to them, and many rows in one statement.

The rows go to the driver as they are: SQLAlchemy's own insert handles each of them in Python, which takes as long as
the database does (docs/performance.md). PostgreSQL gets a column as one array, a statement as one message.
"""

import sqlite3
from collections.abc import Collection, Sequence
from contextlib import suppress
from itertools import chain
from typing import Any

from mlflow.store.tracking.dbmodels.models import SqlLatestMetric, SqlMetric, SqlParam, SqlRun, SqlTag
from sqlalchemy import Column, Connection, Engine, String, Table, create_engine, delete, event, select, text

from cnnzoo.tracking.location import database

BUSY_TIMEOUT_S = 20
"""What MLflow itself uses for SQLite; as long is waited for PostgreSQL to answer."""
CACHE_KB = 64_000
"""SQLite's own 2 MB hold a small part of the indexes of 30,000 runs, so each statement would read them again."""
AT_ONCE = 500
"""Rows of one statement in SQLite: a third faster than as many statements, and within its limit of 32,766 values."""

RUNS: Table = SqlRun.__table__
PARAMS: Table = SqlParam.__table__
TAGS: Table = SqlTag.__table__
METRICS: Table = SqlMetric.__table__
LATEST: Table = SqlLatestMetric.__table__
TABLES = (LATEST, METRICS, TAGS, PARAMS, RUNS)
"""In an order in which rows can be deleted: those that refer to a run before the run."""

Row = tuple[Any, ...]


def open_engine(uri: str) -> Engine:
    """Return an engine for the database at an address; connects when it is used."""
    if database(uri) is None:
        return create_engine(uri, connect_args={"connect_timeout": BUSY_TIMEOUT_S})
    engine = create_engine(uri, connect_args={"timeout": BUSY_TIMEOUT_S})
    event.listen(engine, "connect", _on_connect)
    return engine


def check_answers(uri: str) -> None:
    """Connect to a database once; raises SQLAlchemy's errors at once (MLflow retries for 100 s)."""
    engine = create_engine(uri)
    try:
        engine.connect().close()
    finally:
        engine.dispose()


def schema(engine: Engine) -> str | None:
    """Return the revision of MLflow's schema that the database has; raises SQLAlchemy's errors if it has none."""
    with engine.connect() as connection:
        found: str | None = connection.scalar(text("SELECT version_num FROM alembic_version"))
    return found


def _on_connect(connection: Any, _record: object) -> None:
    with suppress(sqlite3.OperationalError):  # a raw connection raises the driver's own
        connection.execute("PRAGMA journal_mode = WAL")  # kept in the file: readers do not wait for the writer
    connection.execute("PRAGMA synchronous = NORMAL")  # safe with WAL against a kill; per connection
    connection.execute("PRAGMA foreign_keys = ON")
    connection.execute(f"PRAGMA cache_size = -{CACHE_KB}")


def insert(
    connection: Connection, table: Table, columns: Sequence[str], rows: Sequence[Row], conflict: str = ""
) -> None:
    """Insert rows, their values in the order of `columns`; `conflict` is what follows ON CONFLICT, of one row each."""
    if not rows:
        return
    statement = f"INSERT INTO {table.name} ({', '.join(columns)})"
    ending = f" ON CONFLICT {conflict}" if conflict else ""
    if connection.dialect.name == "sqlite":
        for start in range(0, len(rows), AT_ONCE):
            part = rows[start : start + AT_ONCE]
            marks = f"({', '.join('?' * len(columns))})"
            values = tuple(chain.from_iterable(part))
            connection.exec_driver_sql(f"{statement} VALUES {', '.join([marks] * len(part))}{ending}", values)
    else:
        arrays = ", ".join(f"%s::{_type(connection, table.c[name])}[]" for name in columns)
        values = tuple(list(column) for column in zip(*rows, strict=True))
        connection.exec_driver_sql(f"{statement} SELECT * FROM unnest({arrays}){ending}", values)


def read(connection: Connection, table: Table, columns: Sequence[str], ids: Collection[str], *where: Any) -> list[Row]:
    """Return the rows of runs, their values in the order of `columns`."""
    query = select(*(table.c[name] for name in columns)).where(table.c.run_uuid.in_(ids), *where)
    return [tuple(row) for row in connection.execute(query)]


def remove(connection: Connection, table: Table, ids: Collection[str], *where: Any) -> None:
    """Delete the rows of runs."""
    if ids:
        connection.execute(delete(table).where(table.c.run_uuid.in_(ids), *where))


def analyze(connection: Connection) -> None:
    """Have the database count its rows: it chooses indexes by them."""
    for table in TABLES:
        connection.execute(text(f"ANALYZE {table.name}"))


def _type(connection: Connection, column: Column[Any]) -> str:
    if isinstance(column.type, String):
        return "text"  # a cast to varchar(n) would cut what is too long instead of refusing it
    return column.type.compile(dialect=connection.dialect)
