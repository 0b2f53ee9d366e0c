"""Stores for the tests of tracking: an empty MLflow database is made once (2 s) and copied to each test."""

from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import pytest
from mlflow_record import with_database

from cnnzoo.core.artifacts import Artifacts
from cnnzoo.tracking.location import OVERRIDE
from postgres import missing, postgres


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from cnnzoo.tracking.client import connect

    artifacts = Artifacts(tmp_path_factory.mktemp("template"))
    artifacts.mlruns.mkdir()
    connect(artifacts).search_experiments()
    return artifacts.mlruns / "mlflow.db"


@pytest.fixture(autouse=True)
def _own_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep every test away from the store of whoever runs it."""
    monkeypatch.delenv(OVERRIDE, raising=False)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def artifacts(tmp_path: Path, empty_database: Path) -> Artifacts:
    return with_database(tmp_path / "project", empty_database)


@pytest.fixture(scope="session")
def postgres_databases(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[], str]]:
    """Make empty MLflow databases in a PostgreSQL server of the tests' own; returns their addresses."""
    if missing():
        pytest.skip(missing())
    from sqlalchemy import create_engine, text

    from cnnzoo.tracking.client import connect

    numbers = count()
    with postgres() as server:
        place = server.rpartition("/")[0]
        engine = create_engine(server, isolation_level="AUTOCOMMIT")

        def run(command: str) -> None:
            with engine.connect() as connection:
                connection.execute(text(command))

        def make() -> str:
            name = f"store{next(numbers)}"
            run(f"CREATE DATABASE {name} TEMPLATE empty")
            return f"{place}/{name}"

        run("CREATE DATABASE empty")
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv(OVERRIDE, f"{place}/empty")
            connect(Artifacts(tmp_path_factory.mktemp("postgres"))).search_experiments()
        run(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 'empty'"
        )  # no template has sessions
        yield make
        engine.dispose()


@pytest.fixture(params=["bulk", "client", "postgresql"])
def each_store(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Run the test with both implementations of the store; the client is what an unknown schema leads to."""
    if request.param == "client":
        monkeypatch.setattr("cnnzoo.tracking.bulk.KNOWN_REVISIONS", frozenset())
    elif request.param == "postgresql":
        monkeypatch.setenv(OVERRIDE, request.getfixturevalue("postgres_databases")())
    return str(request.param)
