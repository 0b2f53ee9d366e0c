"""The real pipeline, small: `dvc repro` in a copy of the project, then the changes that a user makes.

The pipeline runs once; each test changes a copy of what it made. Copies run their own code, not the installed one.
"""

import re
import shutil
import sqlite3
import subprocess
from contextlib import closing
from pathlib import Path

import pandas as pd
import pytest

from cnnzoo.zoo import Collection
from copies import copy_environment, copy_project

SMALL = {
    "networks: 512": "networks: 26",
    "epochs: 86": "epochs: 4",
    "epochs_between_checkpoints: 20": "epochs_between_checkpoints: 2",
    ', probes, "wstats-layers:0,1,2,3-qts:0,25,50,75,100+probes"]': ", probes]",
    'sets: [hyper, "wstats-layers:0,1,2,3-qts:0,25,50,75,100"': "sets: [hyper",
    "threads: 0": "threads: 1",  # searches and forecasts in their own process: workers have tests of their own
    "bootstrap: 1000": "bootstrap: 50",
    "trials: 6": "trials: 2",
    "max_trees: 300": "max_trees: 30",
    "max_epochs: 100": "max_epochs: 10",
}
COPIED = ("src", "dvc.yaml", "params.yaml", ".dvc/config", ".dvcignore", ".gitignore")
STAGES = ["images", "recipes", "train", "assemble", "features", "search", "forecast", "evaluate", "report"]

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


class Project:
    """A copy of the project in a folder of its own, driven by its command lines."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def run(self, *command: str, expect: int = 0) -> str:
        """Run a command in the project; returns what it printed. `HOME` is empty, as on a fresh machine."""
        environment = copy_environment(self.root) | {"HOME": str(self.root / "home")}
        environment.pop("MLFLOW_TRACKING_URI", None)
        done = subprocess.run(
            command,
            cwd=self.root,
            env=environment,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            check=False,
        )
        assert done.returncode == expect, done.stdout
        return done.stdout

    def repro(self, *targets: str) -> list[str]:
        """Run `dvc repro`; returns the stages that ran."""
        return re.findall(r"^Running stage '(\w+)", self.run("dvc", "repro", *targets), flags=re.MULTILINE)

    def set(self, old: str, new: str) -> None:
        """Replace text in params.yaml."""
        params = self.root / "params.yaml"
        text = params.read_text()
        assert text.count(old) == 1, old
        params.write_text(text.replace(old, new))

    def shards(self) -> dict[str, int]:
        """Name and time of writing of each shard."""
        folder = self.root / "data/checkpoints/mnist5k"
        return {path.name: path.stat().st_mtime_ns for path in folder.glob("*.safetensors")}

    def query(self, statement: str) -> list[tuple]:
        """Ask MLflow's database."""
        with closing(sqlite3.connect(self.root / "mlruns/mlflow.db")) as database:
            return database.execute(statement).fetchall()

    @property
    def zoo(self) -> Collection:
        return Collection.open(self.root / "data/zoo/mnist5k")


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """Return the project after one `dvc repro`, and the stages that this ran; no test changes it."""
    root = tmp_path_factory.mktemp("finished") / "project"
    copy_project(root, COPIED)
    (root / "home").mkdir()
    project = Project(root)
    project.run("git", "init", "--quiet")
    for old, new in SMALL.items():
        project.set(old, new)
    return project, project.repro()


@pytest.fixture
def project(finished, tmp_path):
    """Return a copy of the finished project that a test may change."""
    shutil.copytree(finished[0].root, tmp_path / "project")
    return Project(tmp_path / "project")


RUNS = """select e.name, count(*) from runs r join experiments e using (experiment_id)
where r.lifecycle_stage = 'active' and r.run_uuid not in (select run_uuid from tags where key = 'mlflow.parentRunId')
group by e.name"""


def test_the_copy_runs_its_own_code(finished):
    project, _ = finished
    for module in ("cnnzoo", "cnnzoo.stages.train"):
        where = project.run("python", "-c", f"import {module} as module; print(module.__file__)")
        assert Path(where.strip()).is_relative_to(project.root / "src")


def test_one_command_makes_a_zoo_its_record_its_predictors_and_the_report(finished):
    project, ran = finished
    assert sorted(ran) == sorted(STAGES)
    assert "valid" in project.run("python", "-m", "cnnzoo", "check", "data/zoo/mnist5k")
    zoo = project.zoo
    assert zoo.epochs == (0, 1, 2, 3, 4)
    assert zoo.weights.shape[1] == 4970
    assert zoo.metrics["test_accuracy"].to_numpy()[zoo.final()].max() > 0.6  # 10% by chance, after 4 epochs
    diverged = len(pd.read_csv(project.root / "data/zoo/mnist5k/diverged.csv"))
    assert len(zoo.metrics) == (26 - diverged) * 5
    assert dict(project.query(RUNS)) == {"zoo/mnist5k": 26, "predictors/mnist5k": 6}
    assert (project.root / "models/report/index.html").stat().st_size > 50_000


def test_every_tracked_metric_is_that_of_the_matrix(finished):
    project, _ = finished
    rows = project.query(
        """select t.value, m.step, m.value from metrics m join tags t using (run_uuid)
        join runs r using (run_uuid) where t.key = 'network' and m.key = 'test_accuracy' and m.is_nan = 0
        and r.lifecycle_stage = 'active'"""
    )
    tracked = {(network, step): value for network, step, value in rows}
    metrics = project.zoo.metrics
    assert len(metrics) > 100
    for network, step, accuracy in zip(metrics["modeldir"], metrics["step"], metrics["test_accuracy"], strict=True):
        assert tracked[network, step] == accuracy


def test_a_second_run_does_nothing(project):
    before = project.shards()
    assert project.repro() == []
    assert project.shards() == before


def test_another_search_budget_reruns_the_search_and_what_follows_alone(project):
    project.set("trials: 2", "trials: 3")
    project.set("predictors: [linear, catboost, dnn]", "predictors: [linear]")
    assert project.repro() == ["search", "evaluate", "report"]


def test_more_networks_train_the_new_ones_alone(project):
    before, former = project.shards(), project.zoo.metrics
    project.set("networks: 26", "networks: 30")
    assert project.repro("assemble") == ["recipes", "train", "assemble"]
    after = project.shards()
    assert {name: time for name, time in after.items() if name in before} == before
    assert len(after) > len(before)
    kept = project.zoo.metrics.iloc[: len(former)]
    pd.testing.assert_frame_equal(kept, former)


def test_a_wrong_parameter_is_named_and_nothing_is_lost(project):
    before = project.shards()
    project.set("cohort_size:", "cohort_sise:")
    message = project.run("python", "-m", "cnnzoo.stages.train", "mnist5k", expect=1)
    assert "`train.cohort_sise`: unknown key; did you mean `cohort_size`?" in message
    assert "Traceback" not in message
    project.set("cohort_sise:", "cohort_size:")
    assert project.shards() == before


def test_a_truncated_shard_is_named_and_only_its_networks_are_trained_again(project):
    shard = sorted((project.root / "data/checkpoints/mnist5k").glob("*.safetensors"))[0]
    whole = shard.read_bytes()
    shard.unlink()  # the cache may be linked: write a new file, not into the old one
    shard.write_bytes(whole[: len(whole) // 2])
    message = project.run("python", "-m", "cnnzoo.stages.assemble", "mnist5k", expect=1)
    assert shard.name in message
    assert "Delete this file and run `dvc repro` again" in message
    shard.unlink()
    before = project.shards()
    project.run("python", "-m", "cnnzoo.stages.train", "mnist5k")
    after = project.shards()
    assert {name: time for name, time in after.items() if name in before} == before
    assert len(project.zoo.metrics) > 0


def test_a_pushed_zoo_can_be_pulled_into_a_fresh_clone(project, tmp_path):
    project.run("dvc", "remote", "add", "-d", "store", str(tmp_path / "remote"))
    project.run("dvc", "push", "-q")
    fresh = Project(tmp_path / "clone")
    (fresh.root / ".dvc").mkdir(parents=True)
    (fresh.root / "home").mkdir()
    for name in ("dvc.yaml", "dvc.lock", "params.yaml", ".dvc/config", ".dvcignore", ".gitignore"):
        shutil.copy(project.root / name, fresh.root / name)
    fresh.run("git", "init", "--quiet")
    fresh.run("dvc", "pull", "-q", "assemble@mnist5k")
    pulled = fresh.root / "data/zoo/mnist5k"
    assert "valid" in fresh.run("python", "-m", "cnnzoo", "check", str(pulled))
    assert (pulled / "weights.npy").read_bytes() == (project.root / "data/zoo/mnist5k/weights.npy").read_bytes()
