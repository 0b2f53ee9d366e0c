"""A project that was copied or moved, and experiments in DVC's temporary copies: where their record lies afterwards."""

import logging
import shutil
from pathlib import Path

import pytest
from mlflow.entities import ViewType
from mlflow_record import client_of, run_of, runs_of, train, with_database, write_shards

from builders import COLLECTION, make_recipes
from cnnzoo.core.artifacts import Artifacts
from cnnzoo.tracking import ZooTracker, experiment_links, search_run, sync_zoo
from cnnzoo.tracking.location import artifact_location, spool_folder, tracking_uri

RECIPES = make_recipes(3)


def make_record(artifacts: Artifacts, **params: object) -> None:
    sync_zoo(artifacts, COLLECTION, write_shards(artifacts, RECIPES), RECIPES)
    with search_run(artifacts, COLLECTION, "linear", "hyper", params) as run:
        figure = artifacts.root / "figure.png"
        figure.write_bytes(b"a figure")
        run.figure(figure)


def search_runs(artifacts: Artifacts) -> list:
    client = client_of(artifacts)
    experiment = client.get_experiment_by_name(f"predictors/{COLLECTION}")
    assert experiment is not None
    return list(client.search_runs([experiment.experiment_id], "tags.kind = 'search'"))


@pytest.mark.parametrize("blank", ["copy", "a copy"])
def test_a_copied_project_has_its_record_and_files_of_its_own(
    artifacts: Artifacts, tmp_path: Path, caplog: pytest.LogCaptureFixture, blank: str
) -> None:
    make_record(artifacts)
    copy = Artifacts(tmp_path / blank)
    shutil.copytree(artifacts.root, copy.root)
    before = sorted(path for path in artifacts.root.rglob("*") if path.is_file())
    with caplog.at_level(logging.WARNING):
        make_record(copy, trials=2)
    told = [record.getMessage() for record in caplog.records if "the project was at" in record.getMessage()]
    assert told == [
        f"{copy.mlruns / 'mlflow.db'}: the project was at {(artifacts.mlruns / 'artifacts').as_uri()} before; "
        "its record now follows it here"
    ]
    for run in (*search_runs(copy), *runs_of(copy)):
        assert run.info.artifact_uri.startswith((copy.mlruns / "artifacts").as_uri() + "/")
    client = client_of(copy)
    assert [[file.path for file in client.list_artifacts(run.info.run_id, "figures")] for run in search_runs(copy)] == [
        ["figures/figure.png"]
    ] * 2
    assert sorted(path for path in artifacts.root.rglob("*") if path.is_file()) == before


def test_a_moved_project_does_not_make_its_former_folder_again(artifacts: Artifacts, tmp_path: Path) -> None:
    make_record(artifacts)
    moved = Artifacts(tmp_path / "moved")
    artifacts.root.rename(moved.root)
    make_record(moved, trials=2)
    assert len(search_runs(moved)) == 2
    assert not artifacts.root.exists()


def test_what_lies_elsewhere_stays_there(artifacts: Artifacts, tmp_path: Path) -> None:
    client = client_of(artifacts)
    elsewhere = (tmp_path / "elsewhere" / "mine").as_uri()
    client.create_experiment("mine", artifact_location=elsewhere)
    make_record(artifacts)
    moved = Artifacts(tmp_path / "moved")
    artifacts.root.rename(moved.root)
    experiment_links(moved)
    assert client_of(moved).get_experiment_by_name("mine").artifact_location == elsewhere


def test_a_project_that_stays_says_nothing(artifacts: Artifacts, caplog: pytest.LogCaptureFixture) -> None:
    make_record(artifacts)
    with caplog.at_level(logging.WARNING):
        make_record(artifacts)
    assert caplog.text == ""


# --- experiments ---


@pytest.fixture
def copy(artifacts: Artifacts) -> Artifacts:
    """The folder in which DVC runs an experiment of the project."""
    root = artifacts.root / ".dvc" / "tmp" / "exps" / "tmp8x2k"
    root.mkdir(parents=True)
    return Artifacts(root)


def test_the_record_of_a_temporary_copy_is_the_projects(artifacts: Artifacts, copy: Artifacts) -> None:
    for name in (copy.root, copy.root / "sub"):
        assert tracking_uri(Artifacts(name)) == f"sqlite:///{artifacts.mlruns / 'mlflow.db'}"
    assert artifact_location(copy, "zoo/x") == (artifacts.mlruns / "artifacts" / "zoo" / "x").as_uri()


def test_a_relative_address_means_the_project_too(
    artifacts: Artifacts, copy: Artifacts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///runs.db")
    assert tracking_uri(copy) == tracking_uri(artifacts) == f"sqlite:///{artifacts.root / 'runs.db'}"


def test_experiments_spool_apart(artifacts: Artifacts, copy: Artifacts, monkeypatch: pytest.MonkeyPatch) -> None:
    assert spool_folder(copy, "tiny") == artifacts.mlruns / "spool" / "tiny"
    monkeypatch.setenv("DVC_EXP_NAME", "minty-gale")
    assert spool_folder(copy, "tiny") == artifacts.mlruns / "spool" / "minty-gale" / "tiny"


def test_an_experiment_leaves_its_record_beside_that_of_the_project(
    artifacts: Artifacts, copy: Artifacts, each_store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Other networks of the same names, and the same search: neither replaces the project's runs."""
    make_record(artifacts)
    others = make_recipes(2, epochs=3)
    monkeypatch.setenv("DVC_EXP_NAME", "minty-gale")
    shards = write_shards(copy, others)
    with ZooTracker(copy, COLLECTION) as tracker:
        for shard in shards:
            train(tracker, shard)
    sync_zoo(copy, COLLECTION, shards, others)
    with search_run(copy, COLLECTION, "linear", "hyper", {}):
        pass
    assert len(runs_of(artifacts)) == 5  # before the project's own record is brought up to date
    monkeypatch.delenv("DVC_EXP_NAME")
    shutil.rmtree(copy.root)
    sync_zoo(artifacts, COLLECTION, write_shards(artifacts, RECIPES), RECIPES)
    found = sorted((run.info.run_name, str(run.data.tags.get("experiment"))) for run in runs_of(artifacts))
    assert found == sorted(
        (f"{COLLECTION}/{network:06d}", experiment)
        for experiment, count in (("None", 3), ("minty-gale", 2))
        for network in range(count)
    )
    assert sorted(str(run.data.tags.get("experiment")) for run in search_runs(artifacts)) == ["None", "minty-gale"]
    assert runs_of(artifacts, view=ViewType.DELETED_ONLY) == []


def test_networks_that_leave_an_experiment_are_retired_in_it_alone(
    artifacts: Artifacts, copy: Artifacts, each_store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_record(artifacts)
    monkeypatch.setenv("DVC_EXP_NAME", "minty-gale")
    for count in (3, 2):
        others = make_recipes(count, epochs=3)
        sync_zoo(copy, COLLECTION, write_shards(copy, others), others)
    kept = [run.data.tags.get("experiment") for run in runs_of(artifacts)]
    assert sorted(map(str, kept)) == ["None"] * 3 + ["minty-gale"] * 2


def test_a_run_of_an_experiment_that_is_applied_becomes_the_projects(
    artifacts: Artifacts, each_store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DVC_EXP_NAME", "minty-gale")
    make_record(artifacts)
    assert run_of(artifacts, 0).data.tags["experiment"] == "minty-gale"
    monkeypatch.delenv("DVC_EXP_NAME")
    make_record(artifacts)
    assert "experiment" not in run_of(artifacts, 0).data.tags
    assert len(runs_of(artifacts)) == 3


def test_without_a_database_nothing_is_made(tmp_path: Path, empty_database: Path) -> None:
    artifacts = with_database(tmp_path / "other", empty_database)
    (artifacts.mlruns / "mlflow.db").unlink()
    assert experiment_links(artifacts) == {}
    assert not (artifacts.mlruns / "mlflow.db").exists()
