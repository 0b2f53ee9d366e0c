"""The schema of MLflow's database, which networks are written into in bulk only where it is known."""

import re
from importlib.metadata import version
from pathlib import Path

import pytest
from mlflow.store.db.utils import _get_latest_schema_revision
from mlflow_record import record_of, select, train_all, write_shards

from builders import COLLECTION, make_recipes
from cnnzoo.core.artifacts import Artifacts
from cnnzoo.tracking import sync_zoo
from cnnzoo.tracking.bulk import KNOWN_REVISIONS, BulkStore
from cnnzoo.tracking.store import open_zoo

CONSTRAINTS = Path(__file__).parents[2] / "constraints.txt"
RECIPES = make_recipes(2)


def test_the_pinned_mlflow_is_installed_and_has_a_known_schema() -> None:
    """Else all networks would go through MLflow's client, some 30 times slower, and no other test would say so."""
    (pinned,) = re.findall(r"^mlflow==(\S+)$", CONSTRAINTS.read_text(encoding="utf-8"), re.MULTILINE)
    assert version("mlflow") == pinned
    assert _get_latest_schema_revision() in KNOWN_REVISIONS


def test_a_database_of_the_installed_mlflow_is_written_in_bulk(artifacts: Artifacts) -> None:
    assert isinstance(open_zoo(artifacts, COLLECTION), BulkStore)
    assert select(artifacts, "SELECT version_num FROM alembic_version") == [(_get_latest_schema_revision(),)]


@pytest.mark.slow
def test_another_schema_is_said_once_and_everything_is_recorded_all_the_same(
    artifacts: Artifacts, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("cnnzoo.tracking.bulk.KNOWN_REVISIONS", frozenset({"0123456789ab"}))
    shards = write_shards(artifacts, RECIPES)
    with caplog.at_level("WARNING", "cnnzoo"):
        train_all(artifacts, shards)
        assert sync_zoo(artifacts, COLLECTION, shards, RECIPES)
    (message,) = [record.getMessage() for record in caplog.records if record.name.startswith("cnnzoo")]
    assert _get_latest_schema_revision() in message
    assert "0123456789ab" in message
    assert f"MLflow {version('mlflow')}" in message
    assert len(record_of(artifacts)) == 2
