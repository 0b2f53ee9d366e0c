"""Training and searches on real Ray clusters of this machine: workers and drivers die, nodes come and go.

Skipped unless `pip install -e '.[ray]'` has brought Ray. What does not need it stands in the other files here.
"""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import psutil
import pytest
from inline import Sized

from builders import make_images
from cnnzoo.cluster.training import RayExecutor
from cnnzoo.core.errors import CnnzooError
from cnnzoo.training.train import train_collection
from cnnzoo.zoo.recipes import draw
from disturbances.project import differences, record_of
from small_project import ALPHA, SmallProject
from trainings import TINY, Recorder, Zoo, tiny_params

pytest.importorskip("ray", reason="needs the extra `ray`")

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

FINE = Sized(size=1)
PARAMS = tiny_params("reference", networks=4, runtime={"executor": "ray", "resume_interval_s": 0})
RAY = {"executor": "ray", "resume_interval_s": 0}


@pytest.fixture(scope="module")
def head() -> Iterator[object]:
    """A cluster of two cores and two pretended GPUs."""
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 2, "num_gpus": 2, "include_dashboard": False})
    yield cluster
    cluster.shutdown()


@pytest.fixture
def cluster(head, monkeypatch):
    """The cluster, as this process finds it."""
    monkeypatch.setenv("RAY_ADDRESS", head.address)
    return head


@pytest.fixture(scope="module")
def local(tmp_path_factory):
    zoo = Zoo(tmp_path_factory.mktemp("local"), make_images(), TINY)
    listener = Recorder()
    zoo.train(PARAMS, listener)
    return zoo, listener


@pytest.fixture
def zoo(tmp_path):
    return Zoo(tmp_path / "zoo", make_images(), TINY)


def train(zoo, listener):
    train_collection(zoo.artifacts, PARAMS, TINY, draw(PARAMS, TINY), listener, RayExecutor(FINE))


def workers(name: str) -> list[psutil.Process]:
    """Return the processes of workers that carry out a function now."""
    return [
        process for process in psutil.process_iter(["cmdline"]) if f"ray::{name}" in (process.info["cmdline"] or [])
    ]


class Disturber(Recorder):
    """Does something once, when the first network has trained an epoch."""

    def __init__(self, disturb):
        super().__init__()
        self.disturb = disturb

    def checkpoint(self, cohort, epoch, metrics):
        super().checkpoint(cohort, epoch, metrics)
        if epoch == 1 and self.disturb:
            disturb, self.disturb = self.disturb, None
            disturb()


def test_a_cluster_trains_the_shards_of_one_machine(cluster, zoo, local):
    listener = Recorder()
    train(zoo, listener)
    assert zoo.files() == local[0].files()
    assert sorted(listener.heard) == sorted(local[1].heard)
    assert zoo.unfinished() == []


def test_a_worker_that_is_killed_costs_no_network_and_no_bit(cluster, zoo, local, capsys):
    def kill():
        for process in workers("train_part"):
            process.kill()

    listener = Disturber(kill)
    train(zoo, listener)
    assert "was lost (its worker died); it is repeated (1 of 4)" in capsys.readouterr().err
    assert zoo.files() == local[0].files()
    assert sorted(listener.heard) == sorted(local[1].heard)


def test_nodes_come_and_go(zoo, local, monkeypatch):
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    first = cluster.add_node(num_cpus=1)

    def change():
        cluster.add_node(num_cpus=1)
        cluster.remove_node(first, allow_graceful=False)

    monkeypatch.setenv("RAY_ADDRESS", cluster.address)
    listener = Disturber(change)
    try:
        train(zoo, listener)
    finally:
        cluster.shutdown()
    assert zoo.files() == local[0].files()
    assert sorted(listener.heard) == sorted(local[1].heard)


def test_each_task_sees_a_gpu_of_its_own(cluster):
    """Two pretended GPUs: what Ray lets a process see is what `cuda:0` is there."""
    from cnnzoo.cluster.pool import Pool
    from cnnzoo.cluster.ray_backend import Call, RayBackend, connected

    def look(number):
        yield [os.environ["CUDA_VISIBLE_DEVICES"]]
        time.sleep(1)  # both run at the same time

    class Client:
        seen = ()

        def call(self, task):
            return Call((task,))

        def hear(self, task, event):
            self.seen += (event,)

        def lost(self, task):
            pass

        def name(self, task):
            return str(task)

    client = Client()
    with connected(PARAMS.runtime) as joined:
        backend = RayBackend(joined, look, gpu=True)
        assert backend.workers() == 2
        list(Pool(backend, client, print).run(range(2)))
    assert sorted(client.seen) == ["0", "1"]


def test_a_worker_with_other_code_is_refused(cluster, zoo, monkeypatch):
    from cnnzoo.cluster import training

    true = training.identity
    monkeypatch.setattr(training, "identity", lambda *arguments: {**true(*arguments), "code of cnnzoo": "another"})
    with pytest.raises(CnnzooError, match=rf"the worker on {socket.gethostname()} is not .*code of cnnzoo is"):
        train(zoo, Recorder())
    assert workers("train_part") == []


@pytest.fixture(scope="module")
def tuned(tmp_path_factory) -> SmallProject:
    """A project whose searches this machine has done alone."""
    project = SmallProject.make(tmp_path_factory.mktemp("tuned") / "project")
    for stage in ("recipes", "train", "assemble", "features", "search"):
        project.run(stage, ALPHA)
    return project


def test_a_cluster_finds_the_predictors_of_one_machine_though_workers_die(cluster, tuned, tmp_path, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    project = tuned.copy(tmp_path / "project", "data/zoo", "data/features", "data/images")
    project.configure({"runtime.executor": "ray"})
    killing = threading.Event()

    def kill():
        while not (found := workers("carry_out_search")) and not killing.is_set():
            time.sleep(0.05)
        for process in found:
            process.kill()

    killer = threading.Thread(target=kill)
    killer.start()
    project.run("search", ALPHA)
    killing.set()
    killer.join()
    assert project.files("models") == tuned.files("models")
    assert project.files("models") != {}


LONG = {
    "recipes.epochs": 100,
    "recipes.train_fraction": {"choice": [1.0]},
    "recipes.activation": {"choice": ["tanh"]},
    "runtime.resume_interval_s": 0.5,
    "runtime.executor": "ray",
    "runtime.threads": 2,
}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> SmallProject:
    """A project whose collection was trained in one go, on this machine."""
    project = SmallProject.make(
        tmp_path_factory.mktemp("undisturbed") / "project", LONG | {"runtime.executor": "local"}
    )
    project.run("recipes", ALPHA)
    project.run("train", ALPHA)
    project.configure(LONG)
    return project


@pytest.fixture
def project(undisturbed, tmp_path) -> SmallProject:
    """The same project before training."""
    return undisturbed.copy(tmp_path / "project", "params.yaml", "data/images", "data/recipes")


def shards(project: SmallProject) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in project.artifacts.checkpoints(ALPHA).glob("*.safetensors")}


def wrong_in_mlflow(project: SmallProject, expected: SmallProject) -> list[str]:
    """Return each network whose run is missing, too much, twice or with other metrics than expected."""
    found, wanted = (record_of(each.root / "mlruns" / "mlflow.db") for each in (project, expected))
    assert wanted
    return differences(found, wanted)


def start(project: SmallProject) -> subprocess.Popen[str]:
    """Train in a process of its own; returns it when its first resume point is there."""
    process = subprocess.Popen(
        [sys.executable, "-m", "cnnzoo.stages.train", ALPHA], cwd=project.root, stderr=subprocess.PIPE, text=True
    )
    while not list(project.artifacts.unfinished(ALPHA).glob("*.safetensors")):
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.02)
    return process


def gone(processes: list[psutil.Process]) -> bool:
    """Wait for processes to end by themselves: those of Ray look for their parent now and then."""
    return psutil.wait_procs(processes, timeout=240)[1] == []


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_driver_that_ends_leaves_nothing_running_and_goes_on(project, undisturbed, number):
    process = start(project)
    children = psutil.Process(process.pid).children(recursive=True)
    assert any("raylet" in child.name() for child in children)
    process.send_signal(number)
    said = process.communicate(timeout=120)[1]
    assert process.returncode == (-number if number == signal.SIGKILL else 128 + number), said
    assert gone(children)
    if number != signal.SIGKILL:
        assert f"error: interrupted ({signal.Signals(number).name}). Run the same command again" in said
        assert "Traceback" not in said
    project.run("train", ALPHA)
    assert shards(project) == shards(undisturbed)
    assert list(project.artifacts.unfinished(ALPHA).glob("*.safetensors")) == []
    assert wrong_in_mlflow(project, undisturbed) == []


def test_mlflow_has_every_network_once_though_workers_die(project, undisturbed):
    process = start(project)
    for worker in workers("train_part"):
        worker.kill()
    said = process.communicate(timeout=240)[1]
    assert process.returncode == 0, said
    assert "its worker died" in said
    assert shards(project) == shards(undisturbed)
    assert wrong_in_mlflow(project, undisturbed) == []
