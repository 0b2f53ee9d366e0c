"""Stores that cannot be used: one message that says what is wrong and what to do, from every command."""

import logging
import socket
import sqlite3
from pathlib import Path

import pytest
from click.testing import Result
from mlflow_record import write_shards
from typer.testing import CliRunner

from builders import COLLECTION, make_recipes
from cnnzoo.cli import app
from cnnzoo.core.artifacts import Artifacts
from cnnzoo.tracking import search_run, sync_zoo
from cnnzoo.tracking.location import OVERRIDE
from cnnzoo.zoo import recipes
from zoos import make_params


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def text_file(folder: Path) -> str:
    (folder / "text.db").write_text("this is a text, not a database" * 10)
    return f"sqlite:///{folder}/text.db"


def other_schema(folder: Path) -> str:
    connection = sqlite3.connect(folder / "other schema.db")
    connection.execute("CREATE TABLE alembic_version (version_num VARCHAR)")
    connection.execute("INSERT INTO alembic_version VALUES ('0123456789ab')")
    connection.execute("CREATE TABLE experiments (name VARCHAR, artifact_location VARCHAR)")
    connection.commit()
    connection.close()
    return f"sqlite:///{folder}/other schema.db"


STORES = {
    "a folder": (lambda _: "file:./mlruns", "unset MLFLOW_TRACKING_URI, or set it to sqlite:///<file>"),
    "a plain path": (lambda _: "mlruns", "unset MLFLOW_TRACKING_URI, or set it to sqlite:///<file>"),
    "a server that is down": (lambda _: f"http://127.0.0.1:{free_port()}", "Start the server, then run the same"),
    "no driver": (lambda _: "mssql+nosuch://me:secret@db/x", "The driver of this database is not installed"),
    "a text": (text_file, "database"),
    "another schema": (other_schema, "mlflow db upgrade 'sqlite:///"),
}


@pytest.fixture
def project(tmp_path: Path) -> Artifacts:
    artifacts = Artifacts(tmp_path / "project")
    artifacts.root.mkdir()
    params = make_params({COLLECTION: 2}, ["weights"])
    artifacts.params.write_text(params.model_dump_json(indent=1), encoding="utf-8")
    wanted = make_recipes(2)
    recipes.write(artifacts.recipes(COLLECTION), wanted)
    write_shards(artifacts, wanted)
    return artifacts


@pytest.mark.parametrize("command", [("ui",), ("track", COLLECTION)], ids=["ui", "track"])
@pytest.mark.parametrize("kind", STORES)
def test_one_message_says_what_to_do(
    project: Artifacts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, command: tuple[str, ...]
) -> None:
    address, remedy = STORES[kind]
    monkeypatch.setenv(OVERRIDE, address(tmp_path))
    result = run(*command, "--root", project.root)
    assert result.exit_code == 1
    assert result.stdout == ""
    assert result.exception is None or isinstance(result.exception, SystemExit)
    lines = result.stderr.strip().splitlines()
    assert len(lines) == 1, result.stderr
    assert lines[0].startswith("error: ")
    assert remedy in lines[0]
    assert "secret" not in lines[0]
    assert " . " not in lines[0]


def test_no_message_shows_a_password(
    project: Artifacts, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv(OVERRIDE, f"http://ada:secret@127.0.0.1:{free_port()}")
    shards = write_shards(project, make_recipes(2))
    with caplog.at_level("WARNING", "cnnzoo"):
        assert not sync_zoo(project, COLLECTION, shards, make_recipes(2))
        with search_run(project, COLLECTION, "linear", "hyper", {}):
            pass
    for command in (("ui", "--root", project.root), ("track", COLLECTION, "--root", project.root)):
        caplog.handler.records.append(logging.makeLogRecord({"msg": run(*command).output, "name": "cnnzoo"}))
    said = [record.getMessage() for record in caplog.handler.records if record.name.startswith("cnnzoo")]
    assert len(said) == 4
    assert all("ada:***@127.0.0.1" in message and "secret" not in message for message in said), said
