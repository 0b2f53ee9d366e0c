"""Stores that cannot be written or reached: training goes on, or is told before it starts."""

import os
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest
from mlflow.tracking import MlflowClient
from mlflow_record import client_of, locked, record_of, runs_of, train_all, with_database, write_shards
from sqlalchemy import Engine, event

from builders import COLLECTION, make_recipes
from cnnzoo.core.artifacts import Artifacts
from cnnzoo.core.errors import CnnzooError
from cnnzoo.tracking import ZooTracker, check_writable, sync_zoo
from cnnzoo.tracking.location import OVERRIDE, spool_folder

RECIPES = make_recipes(4)


@pytest.mark.slow
def test_a_store_that_can_be_written_passes(artifacts: Artifacts, tmp_path: Path) -> None:
    check_writable(artifacts)
    check_writable(Artifacts(tmp_path / "new"))
    assert list((tmp_path / "new" / "mlruns").iterdir()) == []


@pytest.mark.parametrize("fault", ["a file", "read-only", "not a database", "read-only database"])
def test_a_store_that_cannot_be_written_stops_the_training_before_it_starts(
    fault: str, artifacts: Artifacts, monkeypatch: pytest.MonkeyPatch
) -> None:
    named = artifacts.mlruns
    if fault == "a file":
        artifacts.mlruns.rename(artifacts.root / "elsewhere")
        artifacts.mlruns.write_text("")
    elif fault == "read-only":  # the tests may run as root, whom permissions do not bind

        def refuse(dir: Path) -> None:
            raise OSError(30, "Read-only file system")

        monkeypatch.setattr("tempfile.TemporaryFile", refuse)
    elif fault == "not a database":
        named = artifacts.mlruns / "mlflow.db"
        named.write_bytes(b"x" * 10_000)
    else:
        named = artifacts.mlruns / "mlflow.db"
        connect = sqlite3.connect
        read_only = f"file:{named}?mode=ro"
        monkeypatch.setattr("sqlite3.connect", lambda file, timeout: connect(read_only, uri=True))
    with pytest.raises(CnnzooError, match=r"move it away") as raised:
        check_writable(artifacts)
    assert str(named) in str(raised.value)


def test_a_database_in_use_passes(artifacts: Artifacts) -> None:
    with locked(artifacts):
        check_writable(artifacts)


@pytest.mark.parametrize("code", [sqlite3.SQLITE_BUSY, sqlite3.SQLITE_BUSY_RECOVERY, sqlite3.SQLITE_BUSY_SNAPSHOT])
def test_a_database_that_another_process_opens_or_recovers_passes(
    code: int, artifacts: Artifacts, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SQLite says in the upper bits of the code why it is busy: the first opening after a kill recovers the log."""

    class Busy(sqlite3.Connection):
        def execute(self, *args: Any) -> sqlite3.Cursor:
            error = sqlite3.OperationalError("database is locked")
            error.sqlite_errorcode = code
            raise error

    connect = sqlite3.connect
    monkeypatch.setattr("sqlite3.connect", lambda file, timeout: connect(file, timeout=timeout, factory=Busy))
    check_writable(artifacts)


@pytest.mark.slow
@pytest.mark.parametrize("statements", [250])
def test_a_database_whose_making_was_cut_short_is_made_again(statements: int, tmp_path: Path) -> None:
    """MLflow makes its tables one by one; with some of them no MLflow opens the database."""
    artifacts = Artifacts(tmp_path / "new")
    left = statements

    def end(*_: Any) -> None:
        nonlocal left
        left -= 1
        if left < 0:
            raise KeyboardInterrupt

    event.listen(Engine, "before_cursor_execute", end)
    with pytest.raises(KeyboardInterrupt):
        client_of_new(artifacts)
    event.remove(Engine, "before_cursor_execute", end)
    assert client_of_new(artifacts).search_experiments()
    assert sorted(path.name for path in artifacts.mlruns.iterdir()) == ["mlflow.db", "mlflow.lock"]


@pytest.mark.slow
def test_a_new_database_takes_nothing_from_the_log_of_one_that_was_moved_away(artifacts: Artifacts) -> None:
    """A killed process leaves `mlflow.db-wal`; who is told to move `mlflow.db` away leaves it there."""
    file = artifacts.mlruns / "mlflow.db"
    with closing(sqlite3.connect(file)) as database:
        database.execute("PRAGMA journal_mode = WAL")
        numbers = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 9999) SELECT i FROM n"
        database.execute(f"CREATE TABLE notes AS {numbers}")
        database.commit()
        log = (artifacts.mlruns / "mlflow.db-wal").read_bytes()
    assert log
    file.unlink()
    (artifacts.mlruns / "mlflow.db-wal").write_bytes(log)
    assert client_of_new(artifacts).search_experiments()
    with closing(sqlite3.connect(file)) as database:
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert database.execute("SELECT count(*) FROM sqlite_master WHERE name = 'notes'").fetchone() == (0,)


def client_of_new(artifacts: Artifacts) -> MlflowClient:
    """Return what the tracking uses; it makes the database."""
    from cnnzoo.tracking.client import connect

    return connect(artifacts)


FIRST_OPENING = """
import sys
from pathlib import Path
from cnnzoo.core.artifacts import Artifacts
from cnnzoo.tracking.store import open_zoo
print("ready", flush=True)
input()
open_zoo(Artifacts(Path(sys.argv[1])), sys.argv[2]).close()
"""


@pytest.mark.slow
def test_a_fresh_database_can_be_opened_by_several_processes_at_once(tmp_path: Path) -> None:
    command = [sys.executable, "-c", FIRST_OPENING, str(tmp_path)]
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    processes = [subprocess.Popen([*command, name], **pipes, text=True) for name in ("one", "two", "three")]
    for process in processes:
        process.stdout.readline()
    for process in processes:
        process.stdin.write("go\n")
        process.stdin.flush()
    ends = [process.communicate() for process in processes]
    assert [process.returncode for process in processes] == [0, 0, 0], ends
    names = {experiment.name for experiment in client_of(Artifacts(tmp_path)).search_experiments()}
    assert {"zoo/one", "zoo/two", "zoo/three"} <= names


def test_training_and_sync_survive_a_store_that_is_not_there(
    artifacts: Artifacts, caplog: pytest.LogCaptureFixture
) -> None:
    shards = write_shards(artifacts, RECIPES)
    (artifacts.mlruns / "mlflow.db").unlink()
    artifacts.mlruns.rmdir()
    artifacts.mlruns.write_text("a file where the folder should be")
    train_all(artifacts, shards)
    assert not sync_zoo(artifacts, COLLECTION, shards, RECIPES)
    assert "MLflow cannot be reached" in caplog.text
    assert "could not be brought up to date" in caplog.text


def test_events_wait_while_another_process_locks_the_database(
    artifacts: Artifacts, monkeypatch: pytest.MonkeyPatch
) -> None:
    shards = write_shards(artifacts, RECIPES)
    with ZooTracker(artifacts, COLLECTION):
        pass  # makes the experiment
    monkeypatch.setattr("cnnzoo.tracking.tables.BUSY_TIMEOUT_S", 0.05)
    with locked(artifacts):
        train_all(artifacts, shards)
    assert record_of(artifacts) == {}
    assert len(list(spool_folder(artifacts, COLLECTION).iterdir())) == 2 * 11
    with ZooTracker(artifacts, COLLECTION):
        pass
    replayed = record_of(artifacts)
    assert list(spool_folder(artifacts, COLLECTION).iterdir()) == []
    sync_zoo(artifacts, COLLECTION, shards, RECIPES)
    assert replayed == record_of(artifacts)
    assert len(replayed) == 4


def test_sync_takes_from_the_spool_what_no_shard_knows(artifacts: Artifacts, monkeypatch: pytest.MonkeyPatch) -> None:
    shards = write_shards(artifacts, RECIPES)
    monkeypatch.setattr("cnnzoo.tracking.zoo.git_commit", lambda _: "c" * 40)
    monkeypatch.setattr("cnnzoo.tracking.tables.BUSY_TIMEOUT_S", 0.05)
    with ZooTracker(artifacts, COLLECTION):
        pass
    with locked(artifacts):
        train_all(artifacts, shards)
    assert sync_zoo(artifacts, COLLECTION, shards, RECIPES)
    assert {run.data.tags["git_commit"] for run in runs_of(artifacts)} == {"c" * 40}
    assert list(spool_folder(artifacts, COLLECTION).iterdir()) == []


def test_a_reader_does_not_hold_up_the_writer(artifacts: Artifacts) -> None:
    shards = write_shards(artifacts, RECIPES)
    with ZooTracker(artifacts, COLLECTION):
        pass
    reader = sqlite3.connect(artifacts.mlruns / "mlflow.db", isolation_level=None)
    reader.execute("BEGIN")
    assert reader.execute("SELECT count(*) FROM runs").fetchone() == (0,)
    assert sync_zoo(artifacts, COLLECTION, shards, RECIPES)
    assert reader.execute("SELECT count(*) FROM runs").fetchone() == (0,)  # its snapshot
    reader.execute("ROLLBACK")
    assert reader.execute("SELECT count(*) FROM runs").fetchone() == (4,)
    reader.close()


def test_sync_succeeds_with_a_spool_that_no_store_accepts(artifacts: Artifacts) -> None:
    shards = write_shards(artifacts, RECIPES)
    with ZooTracker(artifacts, COLLECTION) as tracker:
        tracker.checkpoint("unheard-of", 3, {})
    folder = spool_folder(artifacts, COLLECTION)
    folder.mkdir(parents=True, exist_ok=True)
    orphan = (
        '{"action": "log", "records": [{"name": "tiny/000000", "cohort": "x", "time_ms": 1, "params": {}, "tags": {}, '
    )
    (folder / "00000000000000000001.json").write_text(orphan + '"metrics": [["loss", 1, 0.5]], "status": "RUNNING"}]}')
    assert sync_zoo(artifacts, COLLECTION, shards, RECIPES)
    assert list(folder.iterdir()) == []
    assert len(record_of(artifacts)) == 4


@pytest.mark.slow
def test_an_unreachable_server_gets_everything_once_it_is_up(
    artifacts: Artifacts, tmp_path: Path, empty_database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shards = write_shards(artifacts, RECIPES, diverged={2: 20})
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    monkeypatch.setenv(OVERRIDE, f"http://127.0.0.1:{port}")
    train_all(artifacts, shards)
    assert len(list(spool_folder(artifacts, COLLECTION).iterdir())) == 2 * 11
    with server(with_database(tmp_path / "remote", empty_database), port):
        with ZooTracker(artifacts, COLLECTION):
            pass
        assert list(spool_folder(artifacts, COLLECTION).iterdir()) == []
        replayed = record_of(artifacts)
        assert sync_zoo(artifacts, COLLECTION, shards, RECIPES)
        remote = record_of(artifacts)
    monkeypatch.delenv(OVERRIDE)
    assert sync_zoo(artifacts, COLLECTION, shards, RECIPES)
    assert replayed == remote == record_of(artifacts)


def test_a_server_that_does_not_answer_is_left_alone_for_a_while(
    artifacts: Artifacts, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each of the 22 events of a training would wait for MLflow's retries otherwise."""
    shards = write_shards(artifacts, RECIPES)
    tries = 0
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def hang_up() -> None:
            nonlocal tries
            while True:
                try:
                    listener.accept()[0].close()
                except OSError:
                    return  # closed
                tries += 1

        thread = threading.Thread(target=hang_up)
        thread.start()
        monkeypatch.setenv(OVERRIDE, f"http://127.0.0.1:{listener.getsockname()[1]}")
        train_all(artifacts, shards)
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()
    assert len(list(spool_folder(artifacts, COLLECTION).iterdir())) == 2 * 11
    assert 1 <= tries < 11


@contextmanager
def server(artifacts: Artifacts, port: int) -> Iterator[None]:
    """Run a real MLflow server on a database."""
    uri = f"sqlite:///{artifacts.mlruns / 'mlflow.db'}"
    command = [
        sys.executable,
        "-m",
        "mlflow",
        "server",
        "--backend-store-uri",
        uri,
        "--port",
        str(port),
        "--workers",
        "1",
    ]
    environment = os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    environment.pop(OVERRIDE, None)
    process = subprocess.Popen(
        command, env=environment, cwd=artifacts.root, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        while not answers(port):
            assert process.poll() is None, "the server ended"
            time.sleep(0.1)
        yield
    finally:
        process.terminate()
        process.wait(30)


def answers(port: int) -> bool:
    try:
        with urlopen(f"http://127.0.0.1:{port}/health", timeout=5) as response:
            return bool(response.status == 200)
    except OSError:
        return False
