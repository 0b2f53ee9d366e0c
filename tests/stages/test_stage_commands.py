"""The commands of dvc.yaml, as DVC resolves them: each starts its stage on the argument that the stage takes."""

import re
import runpy
import shutil
import sys
from pathlib import Path

import pytest
from dvc.repo import Repo
from small_data_set import DATASET, publish, put_files

from imports import ROOT
from small_project import ALPHA, BETA, DATASETS, SmallProject, enter_dvc_project

COLLECTION_STAGES = {
    "train": r"data/images/{dataset}\.npz|data/recipes/{collection}\.csv",
    "assemble": r"data/recipes/{collection}\.csv",
    "features": r"data/zoo/{collection}",
    "search": r"data/zoo/{collection}",
    "forecast": r"data/zoo/{collection}",
}
"""What each stage misses in a project without files."""


@pytest.fixture(scope="module")
def commands(tmp_path_factory) -> dict[str, str]:
    """The command of every stage of the small project."""
    root = tmp_path_factory.mktemp("commands")
    SmallProject(root).configure()
    shutil.copy(ROOT / "dvc.yaml", root)
    with pytest.MonkeyPatch.context() as patch:
        enter_dvc_project(root, patch)
        return {stage.addressing: stage.cmd for stage in Repo.init(str(root), no_scm=True).index.stages}


def call(command: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> int:
    """Run a command `python -m module argument` in a folder, in this process; returns its exit code."""
    python, option, module, *arguments = command.split()
    assert (python, option) == ("python", "-m")
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "argv", [module, *arguments])
    monkeypatch.delitem(sys.modules, module, raising=False)
    with pytest.raises(SystemExit) as exited:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    return exited.value.code or 0


@pytest.fixture
def empty(tmp_path) -> SmallProject:
    """A project that has nothing but its parameters."""
    project = SmallProject(tmp_path)
    project.configure({"images.mirrors": [str(tmp_path / "mirror")]})
    return project


@pytest.mark.parametrize("collection", [ALPHA, BETA])
@pytest.mark.parametrize("stage", COLLECTION_STAGES)
def test_stage_of_a_collection_asks_for_the_files_of_that_collection(
    commands, empty, monkeypatch, capsys, stage, collection
):
    assert call(commands[f"{stage}@{collection}"], empty.root, monkeypatch) == 1
    printed, message = capsys.readouterr()
    assert printed == ""
    expected = COLLECTION_STAGES[stage].format(collection=collection, dataset=DATASETS[collection])
    assert re.match(rf"error: ({expected})\b", message), message


@pytest.mark.parametrize(
    ("stage", "missing"), [("evaluate", "data/zoo/alpha"), ("report", "models/evaluation/scores.csv")]
)
def test_stage_over_all_collections_takes_no_argument(commands, empty, monkeypatch, capsys, stage, missing):
    assert call(commands[stage], empty.root, monkeypatch) == 1
    assert capsys.readouterr().err.startswith(f"error: {missing}")


@pytest.mark.parametrize("collection", [ALPHA, BETA])
def test_recipes_of_a_collection_are_drawn(commands, empty, monkeypatch, collection):
    assert call(commands[f"recipes@{collection}"], empty.root, monkeypatch) == 0
    assert set(empty.files("data")) == {f"recipes/{collection}.csv"}


def test_images_of_a_data_set_need_no_collection_of_its_name(commands, empty, monkeypatch):
    publish(monkeypatch)
    put_files(empty.root / "mirror")
    assert call(commands[f"images@{DATASET}"], empty.root, monkeypatch) == 0
    assert set(empty.files("data")) == {f"images/{DATASET}.npz"}


def test_there_is_a_command_for_every_stage(commands):
    tested = {"evaluate", "report"} | {
        f"{stage}@{c}" for stage in (*COLLECTION_STAGES, "recipes") for c in (ALPHA, BETA)
    }
    assert set(commands) == tested | {f"images@{dataset}" for dataset in DATASETS.values()}
