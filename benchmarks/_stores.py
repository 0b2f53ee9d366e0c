"""Stores for measurements of tracking: empty ones, in SQLite or in a PostgreSQL of one's own, and a server on top."""

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch
from urllib.request import urlopen

from sqlalchemy import create_engine, text

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from cnnzoo.core.artifacts import Artifacts
from cnnzoo.tracking.location import OVERRIDE, SQLITE, prepare_environment
from cnnzoo.tracking.store import open_zoo
from postgres import missing, postgres

TEMPLATE = "template"


@dataclass(frozen=True)
class Project:
    """A project and the address of its store."""

    artifacts: Artifacts
    uri: str
    size: Callable[[], int]
    """Bytes of the database."""

    @contextmanager
    def used(self) -> Iterator[Artifacts]:
        """Set MLFLOW_TRACKING_URI to the address of the store, for the duration of the block."""
        with patch.dict(os.environ, {OVERRIDE: self.uri}):
            yield self.artifacts


@contextmanager
def empty_stores(kind: str, root: Path, collection: str) -> Iterator[Callable[[str], Project]]:
    """Yield a function that makes a project by name, with an empty store that holds the collection's experiment."""
    prepare_environment()
    if kind == "sqlite":
        yield _in_sqlite(root, collection)
    elif missing():
        raise SystemExit(missing())
    else:
        with postgres(safe=True) as server:
            yield _in_postgres(server, root, collection)


def _in_sqlite(root: Path, collection: str) -> Callable[[str], Project]:
    def make(name: str) -> Project:
        artifacts = Artifacts(root / name)
        artifacts.mlruns.mkdir(parents=True)
        file = artifacts.mlruns / "mlflow.db"
        if name != TEMPLATE:
            shutil.copy(root / TEMPLATE / "mlruns" / "mlflow.db", file)
        return Project(artifacts, f"{SQLITE}{file}", lambda: file.stat().st_size)

    with make(TEMPLATE).used() as artifacts:
        open_zoo(artifacts, collection).close()
    return make


def _in_postgres(server: str, root: Path, collection: str) -> Callable[[str], Project]:
    engine = create_engine(server, isolation_level="AUTOCOMMIT")

    def ask(command: str) -> int:
        with engine.connect() as connection:
            found = connection.execute(text(command))
            return int(found.scalar_one()) if found.returns_rows else 0

    def make(name: str) -> Project:
        ask(f'CREATE DATABASE "{name}"' + ("" if name == TEMPLATE else f' TEMPLATE "{TEMPLATE}"'))
        uri = f"{server.rpartition('/')[0]}/{name}"
        return Project(Artifacts(root / name), uri, lambda: ask(f"SELECT pg_database_size('{name}')"))

    with make(TEMPLATE).used() as artifacts:
        open_zoo(artifacts, collection).close()
    ask(f"SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE datname = '{TEMPLATE}'")
    return make


@contextmanager
def mlflow_server(project: Project) -> Iterator[str]:
    """Yield the address of an `mlflow server` with one worker on a project's store, as `cnnzoo ui` starts it."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    environment = os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    environment |= {"MLFLOW_BACKEND_STORE_URI": project.uri}
    environment.pop(OVERRIDE, None)
    server = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        while not _answers(port):
            assert server.poll() is None, "the server ended"
            time.sleep(0.2)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait(30)


def _answers(port: int) -> bool:
    try:
        with urlopen(f"http://127.0.0.1:{port}/health", timeout=5) as response:
            return bool(response.status == 200)
    except OSError:
        return False
