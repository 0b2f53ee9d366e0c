"""What former parameters have left is named and removed, and nothing else."""

import shutil
from pathlib import Path

import pytest
from mlflow.tracking import MlflowClient
from ruamel.yaml import YAML
from typer.testing import CliRunner

from cnnzoo.cli import app
from cnnzoo.core.artifacts import Artifacts
from cnnzoo.core.errors import CnnzooError
from cnnzoo.stages.entry import read_params
from cnnzoo.stages.orphans import check_shared_folders, find_orphans, remove_files
from imports import ROOT

LEFT = (
    *(
        "data/images/cifar10.npz",
        "data/recipes/old.csv",
        "data/checkpoints/old/x.safetensors",
        "data/zoo/old/split.csv",
    ),
    *("data/zoo/gone.dvc", "data/features/old/hyper.parquet", "data/unfinished/old/lock"),
    *("models/predictors/old/linear/hyper/params.json", "models/forecast/old/forecast.csv"),
)
KEPT = (
    *("data/images/mnist5k.npz", "data/recipes/mnist5k.csv", "data/checkpoints/mnist5k/x.safetensors"),
    *("data/zoo/mnist5k/split.csv", "data/zoo/abroad/split.csv", "data/zoo/abroad.dvc", "data/zoo/.importing-new/x"),
    *("data/features/mnist5k/hyper.parquet", "data/downloads/mnist/x.gz", "models/forecast/mnist5k/forecast.csv"),
    *("data/README.md", "models/README.md", "models/evaluation/scores.csv", "models/report/index.html"),
    *(
        "data/unfinished/abroad/import.lock",
        "data/features/.writing-7-mnist5k/hyper.parquet",
        "data/features/.gitignore",
    ),
)
NAMED = {"data/checkpoints/old", "data/zoo/old", "data/features/old", "data/unfinished/old"} | {
    *("data/images/cifar10.npz", "data/recipes/old.csv", "data/zoo/gone.dvc"),
    *("models/predictors/old", "models/forecast/old"),
}
LOCKED = ["images@mnist5k", "train@mnist5k", "search@mnist5k", "evaluate", "report"]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Artifacts:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    text = (ROOT / "params.yaml").read_text().replace("imported: {}", "imported: {abroad: {dataset: mnist}}")
    (tmp_path / "params.yaml").write_text(text)
    for name in (*LEFT, *KEPT):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x")
    stages = {name: {"cmd": name} for name in (*LOCKED, "train@old", "features@abroad", "images@cifar10")}
    with (tmp_path / "dvc.lock").open("w") as file:
        YAML().dump({"schema": "2.0", "stages": stages}, file)
    return Artifacts(tmp_path)


def files(root: Path) -> set[str]:
    return {path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()}


def prune(project: Artifacts, *options: str) -> str:
    result = CliRunner().invoke(app, ["prune", "--root", str(project.root), *options])
    assert result.exit_code == 0, result.output
    return result.stdout


def test_everything_of_no_collection_is_found_and_nothing_else(project):
    found = find_orphans(
        project, read_params(project), ["zoo/old", "predictors/old", "zoo/mnist5k", "mine/old", "Default"]
    )
    assert {path.relative_to(project.root).as_posix() for path in found.paths} == NAMED
    assert found.locked == ["train@old", "features@abroad", "images@cifar10"]
    assert found.experiments == ["predictors/old", "zoo/old"]


SHARED = {"data/zoo/old", "data/zoo/gone.dvc", "data/features/old", "models/predictors/old", "models/forecast/old"}


def test_stages_over_all_collections_refuse_what_a_clone_would_not_have(project):
    params = read_params(project)
    with pytest.raises(CnnzooError, match=r"of no collection in .*params\.yaml: .*`cnnzoo prune --remove`") as refused:
        check_shared_folders(project, params)
    named = str(refused.value).split(": ", 1)[1].split(". `evaluate`")[0].split(", ")
    assert {Path(name).relative_to(project.root).as_posix() for name in named} == SHARED
    remove_files(project, find_orphans(project, params))
    check_shared_folders(project, params)


def test_the_command_lists_and_removes_on_request(project):
    before = files(project.root)
    listed = prune(project)
    assert all(name in listed for name in NAMED)
    assert "dvc.lock: train@old" in listed
    assert files(project.root) == before
    prune(project, "--remove")
    assert files(project.root) == {*KEPT, "params.yaml", "dvc.lock"}
    assert list(YAML().load((project.root / "dvc.lock").read_text())["stages"]) == LOCKED
    assert prune(project) == "nothing to remove\n"


def test_experiments_of_no_collection_are_marked_as_deleted(project):
    client = MlflowClient(f"sqlite:///{project.mlruns}/mlflow.db")
    for name in ("zoo/old", "zoo/mnist5k", "mine"):
        client.create_experiment(name)
    assert "MLflow: zoo/old" in prune(project, "--remove")
    assert {experiment.name for experiment in client.search_experiments()} == {"zoo/mnist5k", "mine", "Default"}


def test_a_project_without_files_has_none(tmp_path):
    shutil.copy(ROOT / "params.yaml", tmp_path)
    assert prune(Artifacts(tmp_path)) == "nothing to remove\n"
    assert files(tmp_path) == {"params.yaml"}
