"""A project that was moved or copied: MLflow keeps absolute addresses, which still name the former place.

Light: does not import mlflow.
"""

import logging
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from cnnzoo.tracking.notes import PREDICTORS, ZOO

log = logging.getLogger(__name__)

ADDRESSES = (
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "source"),
    ("model_versions", "storage_location"),
)
"""The columns of MLflow's tables that hold addresses of files."""
PATIENCE_S = 20


def follow_project(file: Path, folder: Path) -> None:
    """Make the addresses in the database `file` name `folder`, where the project keeps its artifacts now.

    Whatever lies elsewhere stays as it is. Says so in one line if anything changed.
    """
    with closing(sqlite3.connect(file, timeout=PATIENCE_S)) as connection, connection:
        tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        if "experiments" not in tables:
            return
        for former in _former_places(connection, folder.as_uri()):
            for table, column in ADDRESSES:
                if table in tables:
                    connection.execute(
                        f"UPDATE {table} SET {column} = ? || substr({column}, ?) WHERE substr({column}, 1, ?) = ?",
                        (folder.as_uri(), len(former) + 1, len(former) + 1, f"{former}/"),
                    )
            log.warning("%s: the project was at %s before; its record now follows it here", file, former)


def _former_places(connection: sqlite3.Connection, folder: str) -> Iterator[str]:
    """Yield the folders of artifacts, other than `folder`, that experiments of this project name."""
    found = connection.execute("SELECT name, artifact_location FROM experiments").fetchall()
    places = {
        location.removesuffix(f"/{name}")
        for name, location in found
        if name.startswith((ZOO, PREDICTORS)) and location and location.endswith(f"/artifacts/{name}")
    }
    yield from sorted(places - {folder})
