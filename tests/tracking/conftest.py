"""Stores for the tests of tracking: an empty MLflow database is made once (2 s) and copied to each test."""

from pathlib import Path

import pytest
from mlflow_record import with_database

from cnnzoo.core.artifacts import Artifacts
from cnnzoo.tracking.location import OVERRIDE


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


@pytest.fixture(params=["bulk", "client"])
def each_store(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Run the test with both implementations of the store; the client is what an unknown schema leads to."""
    if request.param == "client":
        monkeypatch.setattr("cnnzoo.tracking.bulk.KNOWN_REVISIONS", frozenset())
    return str(request.param)
