"""A record in PostgreSQL: written in bulk like one in SQLite, told when it does not answer, shown by `cnnzoo ui`.

What it holds is tested with both, by the fixture `each_store` in the other files.
"""

import socket
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result
from mlflow_record import record_of, select, train, train_all, write_shards
from typer.testing import CliRunner

from builders import COLLECTION, make_recipes
from cnnzoo.cli import app
from cnnzoo.core.artifacts import Artifacts
from cnnzoo.tracking import ZooTracker, search_run, sync_zoo
from cnnzoo.tracking.bulk import BulkStore
from cnnzoo.tracking.location import OVERRIDE
from cnnzoo.tracking.store import open_zoo
from postgres import missing

pytestmark = [pytest.mark.slow, pytest.mark.skipif(bool(missing()), reason=missing())]

RECIPES = make_recipes(4)


@pytest.fixture
def address(postgres_databases: Callable[[], str], monkeypatch: pytest.MonkeyPatch) -> str:
    """The address of an empty store, which is the project's."""
    found = postgres_databases()
    monkeypatch.setenv(OVERRIDE, found)
    return found


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.mark.usefixtures("address")
def test_networks_are_written_in_bulk_and_the_database_knows_how_many_there_are(artifacts: Artifacts) -> None:
    shards = write_shards(artifacts, RECIPES)
    train_all(artifacts, shards)
    assert isinstance(open_zoo(artifacts, COLLECTION), BulkStore)
    assert sync_zoo(artifacts, COLLECTION, shards, RECIPES)
    counts = "SELECT relname, reltuples FROM pg_class WHERE relname IN ('runs', 'latest_metrics')"
    assert dict(select(artifacts, counts)) == {"runs": 4, "latest_metrics": 16}


@pytest.mark.usefixtures("address")
def test_a_record_is_mended_and_training_goes_on_in_it_as_in_sqlite(
    artifacts: Artifacts, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = write_shards(artifacts, RECIPES, diverged={1: 20})
    with ZooTracker(artifacts, COLLECTION) as tracker:
        train(tracker, first)
        train(tracker, second, epochs=5)
    with ZooTracker(artifacts, COLLECTION) as tracker:  # from an earlier checkpoint than was logged
        train(tracker, second, skip=3)
    in_postgres = record_of(artifacts)
    sync_zoo(artifacts, COLLECTION, [first, second], RECIPES)
    assert record_of(artifacts) == in_postgres
    monkeypatch.delenv(OVERRIDE)
    sync_zoo(artifacts, COLLECTION, [first, second], RECIPES)
    assert record_of(artifacts) == in_postgres


def test_the_ui_is_a_server_on_the_database_whose_command_line_does_not_name_it(
    artifacts: Artifacts, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = address.replace("cnnzoo@", "cnnzoo:secret@")  # this server asks for none
    monkeypatch.setenv(OVERRIDE, secret)
    started: list[tuple[list[str], dict[str, str]]] = []
    monkeypatch.setattr("os.execve", lambda _program, *how: started.append(how))
    with search_run(artifacts, COLLECTION, "linear", "hyper", {}):
        pass
    result = run("ui", "--port", 5077, "--root", artifacts.root)
    assert result.stdout.startswith(f"predictors/{COLLECTION}: http://127.0.0.1:5077/#/experiments/")
    ((command, environment),) = started
    assert environment["MLFLOW_BACKEND_STORE_URI"] == secret
    assert "secret" not in " ".join(command) + result.output


def test_a_database_that_does_not_answer_is_named_without_its_password(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]  # bound, so that nobody listens there
        monkeypatch.setenv(OVERRIDE, f"postgresql+psycopg://ada:secret@127.0.0.1:{port}/zoo")
        monkeypatch.setattr("mlflow.store.db.utils.create_sqlalchemy_engine_with_retry", None)  # waits for 100 s
        result = run("ui", "--root", tmp_path)
    assert result.exit_code == 1
    assert len(result.stderr.strip().splitlines()) == 1
    assert f"ada:***@127.0.0.1:{port}" in result.stderr
    assert f"Correct {OVERRIDE}" in result.stderr
