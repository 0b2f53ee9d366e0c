"""Stages that are stopped, or run where Lightning sees a cluster: real processes, real signals, the same bytes."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from cnnzoo.core.signals import STOPPING
from small_project import ALPHA, SmallProject

pytestmark = pytest.mark.slow
LONG = {
    "recipes.epochs": 400,
    "recipes.train_fraction": {"choice": [1.0]},
    "recipes.activation": {"choice": ["tanh"]},
    "runtime.resume_interval_s": 0.3,
}
"""One cohort that trains for some seconds; its first resume point says that it is under way."""
SLURM = {
    "SLURM_JOB_ID": "17",
    "SLURM_JOB_NAME": "zoo",
    "SLURM_NTASKS": "4",
    "SLURM_PROCID": "0",
    "SLURM_LOCALID": "0",
    "SLURM_NODEID": "0",
    "SLURM_NODELIST": "node1",
}
TORCHRUN = {
    "TORCHELASTIC_RUN_ID": "x",
    "RANK": "1",
    "LOCAL_RANK": "1",
    "WORLD_SIZE": "4",
    "MASTER_ADDR": "127.0.0.1",
    "MASTER_PORT": "1",
}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> SmallProject:
    """A project whose collection was trained in one go."""
    project = SmallProject.make(tmp_path_factory.mktemp("undisturbed") / "project", LONG)
    project.run("recipes", ALPHA)
    project.run("train", ALPHA)
    return project


@pytest.fixture
def project(undisturbed, tmp_path) -> SmallProject:
    """The same project before training."""
    return undisturbed.copy(tmp_path / "project", "params.yaml", "data/images", "data/recipes")


def default_handlers() -> None:
    """Undo what a job in the background starts with: it ignores some signals."""
    for number in STOPPING:
        signal.signal(number, signal.SIG_DFL)


def start(project: SmallProject, stage: str, **environment: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", f"cnnzoo.stages.{stage}", ALPHA]
    return subprocess.Popen(
        command,
        cwd=project.root,
        env=os.environ | environment,
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
        preexec_fn=default_handlers,  # noqa: PLW1509 - no threads here
    )


def stop(project: SmallProject, number: int, **environment: str) -> tuple[int, str]:
    """Train until the first cohort is under way, then send a signal; returns the exit code and what was said.

    Checks that the signal had the state saved once more.
    """
    process = start(project, "train", **environment)
    while not points(project):
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.005)
    spent = psutil.Process(process.pid).cpu_times
    begun = spent().user
    while spent().user < begun + 0.1:  # into the steps after it, however busy the machine is
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.005)
    sent = time.time_ns()
    process.send_signal(number)
    said = process.communicate(timeout=60)[1]
    assert [point.stat().st_mtime_ns > sent for point in points(project)] == [True], said
    return process.returncode, said


def shards(project: SmallProject) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in project.artifacts.checkpoints(ALPHA).iterdir()}


def points(project: SmallProject) -> list[Path]:
    return list(project.artifacts.unfinished(ALPHA).glob("*.safetensors"))


def test_a_stopped_training_has_failed_and_goes_on_to_the_same_bytes(project, undisturbed):
    code, said = stop(project, signal.SIGTERM)
    assert code == 128 + signal.SIGTERM, said
    assert "error: interrupted (SIGTERM). Run the same command again" in said
    assert "Traceback" not in said
    assert points(project)
    assert len(shards(project)) < len(shards(undisturbed))
    project.run("train", ALPHA)
    assert shards(project) == shards(undisturbed)
    assert not points(project)


def test_a_training_that_ignores_a_closed_terminal_trains_on(project, undisturbed):
    command = f"trap '' HUP; exec {sys.executable} -m cnnzoo.stages.train {ALPHA}"
    process = subprocess.Popen(["sh", "-c", command], cwd=project.root, stderr=subprocess.DEVNULL)
    while not (project.root / "mlruns" / "mlflow.db").exists():
        time.sleep(0.02)
    process.send_signal(signal.SIGHUP)
    assert process.wait(timeout=120) == 0
    assert shards(project) == shards(undisturbed)


@pytest.fixture
def scontrol(tmp_path, monkeypatch) -> Path:
    """A `scontrol` that leaves a file if somebody calls it."""
    called = tmp_path / "scontrol-was-called"
    program = tmp_path / "bin" / "scontrol"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\ntouch {called}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    return called


@pytest.mark.parametrize("cluster", [SLURM, TORCHRUN], ids=["slurm", "torchrun"])
def test_under_a_cluster_it_is_one_process(project, undisturbed, scontrol, cluster, monkeypatch):
    stray = project.root / "hpc_ckpt_1.ckpt"
    stray.write_bytes(b"left behind by an earlier version")
    code, said = stop(project, signal.SIGUSR1, **cluster)
    assert code == 128 + signal.SIGUSR1, said
    assert "error: interrupted (SIGUSR1). Run the same command again" in said
    assert "Traceback" not in said
    assert "hpc_ckpt_1.ckpt: left by an earlier version under SLURM; it is ignored" in said
    for name, value in cluster.items():
        monkeypatch.setenv(name, value)
    project.run("train", ALPHA)
    assert shards(project) == shards(undisturbed)
    assert not scontrol.exists()
    assert [path.name for path in project.root.glob("*.ckpt")] == [stray.name]


def test_a_stopped_search_has_failed_under_slurm_too(undisturbed, tmp_path, scontrol):
    changes = {"search.predictors": ["dnn"], "search.trials": 50, "search.max_epochs": 300, "runtime.threads": 1}
    project = undisturbed.copy(tmp_path / "project")
    project.configure(LONG | changes)
    project.run("assemble", ALPHA)
    project.run("features", ALPHA)
    process = start(project, "search", **SLURM)
    journals = project.artifacts.studies(ALPHA)
    while not (journals.is_dir() and any(path.stat().st_size for path in journals.iterdir() if path.is_file())):
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    said = process.communicate(timeout=60)[1]
    assert process.returncode == 128 + signal.SIGTERM, said
    assert "error: interrupted (SIGTERM). Run the same command again" in said
    assert "Traceback" not in said
    assert not scontrol.exists()


def test_a_closed_pipe_is_a_failure_without_a_traceback(undisturbed):
    undisturbed.run("assemble", ALPHA)
    command = [sys.executable, "-m", "cnnzoo", "check", str(undisturbed.artifacts.zoo(ALPHA))]
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, text=True, check=False)
    os.close(writing)
    assert done.returncode not in {0, None}
    assert "Traceback" not in done.stderr
