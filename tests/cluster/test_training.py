"""Training on a cluster, with workers in this process: the bytes of the local executor, whatever happens on the way."""

from dataclasses import replace

import numpy as np
import pytest
from inline import InlineCluster, Sized

from builders import make_images
from cnnzoo.cluster import identity
from cnnzoo.cluster.events import Point, Trained
from cnnzoo.cluster.placement import WHOLE, Division
from cnnzoo.cluster.pool import Lost
from cnnzoo.cluster.training import RayExecutor
from cnnzoo.core.artifacts import Artifacts
from cnnzoo.core.errors import CnnzooError
from cnnzoo.tracking.runs import finished
from cnnzoo.training.progress import TrainingProgress
from cnnzoo.training.train import train_collection
from cnnzoo.zoo.recipes import draw
from trainings import TINY, Recorder, Zoo, tiny_params

FINE = Sized(size=1)
"""Every network is a part of its own."""
NETWORKS = 4
PARAMS = tiny_params("reference", networks=NETWORKS, runtime={"executor": "ray", "resume_interval_s": 0})


class MetricsRecorder(Recorder):
    """Remembers the metrics too, and where networks were trained."""

    def __init__(self):
        super().__init__()
        self.metrics = {}
        self.nodes = {}

    def checkpoint(self, cohort, epoch, metrics):
        super().checkpoint(cohort, epoch, metrics)
        assert (cohort, epoch) not in self.metrics
        self.metrics[cohort, epoch] = metrics

    def finish(self, shard, nodes=()):
        super().finish(shard, nodes)
        self.nodes[shard.name] = nodes


@pytest.fixture(scope="module")
def local(tmp_path_factory):
    """The zoo that this process trains alone, and what its listener heard."""
    zoo = Zoo(tmp_path_factory.mktemp("local"), make_images(), TINY)
    listener = MetricsRecorder()
    zoo.train(PARAMS, listener)
    return zoo, listener


@pytest.fixture
def zoo(tmp_path):
    return Zoo(tmp_path / "zoo", make_images(), TINY)


@pytest.fixture
def cluster(monkeypatch):
    return InlineCluster().install(monkeypatch)


def train(zoo, division=FINE, params=PARAMS, listener=None):
    listener = listener or MetricsRecorder()
    train_collection(zoo.artifacts, params, TINY, draw(params, TINY), listener, RayExecutor(division))
    return listener


def sizes(cluster):
    """The networks of each task, in the order of their start."""
    return [len(order.recipes) for order, *_ in cluster.started]


@pytest.mark.parametrize(("division", "tasks"), [(WHOLE, [3, 1]), (Sized(size=2), [2, 1, 1]), (FINE, [1] * NETWORKS)])
def test_shards_are_those_of_one_machine_however_cohorts_are_divided(zoo, cluster, local, division, tasks):
    listener = train(zoo, division)
    assert zoo.files() == local[0].files()
    assert zoo.unfinished() == []
    assert sizes(cluster) == tasks
    assert sorted(listener.heard) == sorted(local[1].heard)
    assert sorted(listener.trained) == sorted(local[1].trained)
    for key, metrics in local[1].metrics.items():
        for name, values in metrics.items():
            np.testing.assert_array_equal(listener.metrics[key][name], values)


def test_engine_whose_bits_depend_on_the_cohort_trains_whole_cohorts(zoo, cluster):
    train(zoo, FINE, tiny_params("batched", runtime={"executor": "ray"}))
    assert len(sizes(cluster)) == 2


def test_the_listener_hears_where_each_network_was_trained(zoo, cluster, monkeypatch):
    names = iter(f"node{number}" for number in range(NETWORKS))
    monkeypatch.setattr("socket.gethostname", lambda: next(names))
    listener = train(zoo)
    assert sorted(len(nodes) for nodes in listener.nodes.values()) == [1, 3]
    assert sorted(node for nodes in listener.nodes.values() for node in nodes) == [f"node{n}" for n in range(NETWORKS)]


def test_images_and_resume_points_go_to_the_workers_and_no_paths(zoo, cluster):
    train(zoo)
    for order, images, *point in cluster.started:
        assert images.train_images.shape[0] > 0
        assert point == []
        assert str(zoo.artifacts.root) not in repr(order)


@pytest.mark.parametrize("after", [0, 3, 7])
def test_a_part_that_is_lost_goes_on_from_its_last_resume_point(zoo, cluster, local, after, capsys):
    cluster.losses = [None, after]
    listener = train(zoo)
    assert zoo.files() == local[0].files()
    assert sum(sizes(cluster)) == NETWORKS + 1
    assert len(listener.heard) == len(local[1].heard)
    said = capsys.readouterr().err
    assert said.count("was lost (its worker died); it is repeated (1 of 4)") == 1
    assert "(1 network of 3) was lost" in said


@pytest.mark.parametrize("after", range(2, 12))
def test_the_listener_hears_once_of_a_checkpoint_that_a_repeated_cohort_reaches_again(zoo, cluster, local, after):
    """`MetricsRecorder` refuses the second time; some of these losses lie between a checkpoint and its resume point."""
    cluster.losses = [after]
    listener = train(zoo, WHOLE)
    assert sorted(listener.heard) == sorted(local[1].heard)


def test_a_part_that_is_repeated_gets_its_resume_point(zoo, cluster):
    cluster.losses = [7]
    train(zoo)
    repeated = next(order for order, _, *point in cluster.started if point)
    assert sum(order.recipes == repeated.recipes for order, *_ in cluster.started) == 2


def test_progress_counts_each_pass_once_though_parts_are_lost(zoo, cluster, monkeypatch):
    made = []
    monkeypatch.setattr(TrainingProgress, "__exit__", lambda self, *_: made.append(self))
    cluster.losses = [3, 2, 7]
    train(zoo)
    (progress,) = made
    assert progress.passes_done == progress.passes > 0
    assert progress.networks_done == NETWORKS


def test_work_that_no_worker_survives_ends_and_keeps_what_is_finished(zoo, cluster, local):
    cluster.losses = [None, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]
    cluster.resources = {"CPU": 1}
    with pytest.raises(CnnzooError, match=r"cohort \w+ \(1 network of \d\) was lost 5 times"):
        train(zoo)
    cluster.losses, cluster.started = [], []
    train(zoo)
    assert sum(sizes(cluster)) == NETWORKS - 1
    assert zoo.files() == local[0].files()


def test_workers_without_memory_end_the_run(zoo, cluster):
    cluster.losses, cluster.loss = [0] * 9, Lost("its worker was killed for lack of memory", out_of_memory=True)
    with pytest.raises(CnnzooError, match=r"was lost 3 times: .*Lower `train.cohort_size`"):
        train(zoo)


class Killed(BaseException):
    """Stands for the end of the driver."""


@pytest.mark.parametrize("events", [3, 12, 30])
def test_a_driver_that_was_killed_goes_on_with_finished_parts_and_resume_points(zoo, cluster, local, events):
    seen = []

    def kill(event):
        seen.append(event)
        if len(seen) == events:
            raise Killed
        return event

    cluster.change = kill
    with pytest.raises(Killed):
        train(zoo)
    done = sum(isinstance(event, Trained) for event in seen[:-1])
    cluster.change, cluster.started = lambda event: event, []
    cluster.resources = {"CPU": 5}  # other workers than before
    train(zoo, Division())
    assert sum(sizes(cluster)) <= NETWORKS - done
    assert any(point for _, _, *point in cluster.started) or events < 10
    assert zoo.files() == local[0].files()
    assert zoo.unfinished() == []


def test_a_zoo_that_a_cluster_has_begun_is_finished_without_one(zoo, cluster, local):
    cluster.losses = [None] * 2 + [0] * 9
    with pytest.raises(CnnzooError):
        train(zoo)
    zoo.train(PARAMS)
    assert zoo.files() == local[0].files()
    assert zoo.unfinished() == []


def test_a_finished_zoo_needs_no_cluster(zoo, cluster):
    train(zoo)
    cluster.started = []
    cluster.connected = None
    before = zoo.stamps()
    train(zoo)
    assert zoo.stamps() == before


DAMAGES = {
    "cut short": lambda content: content[:-7],
    "a bit changed": lambda content: content[:-7] + bytes([content[-7] ^ 1]) + content[-6:],
    "nothing": lambda content: b"",
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_shard_that_is_not_what_was_asked_for_is_refused(zoo, cluster, damage):
    def change(event):
        return replace(event, content=damage(event.content)) if isinstance(event, Trained) else event

    cluster.change = change
    with pytest.raises(CnnzooError, match="is not what it was asked for"):
        train(zoo)
    assert zoo.files() == {}


def test_the_shard_of_other_networks_is_refused(zoo, cluster):
    first = []

    def change(event):
        if isinstance(event, Trained):
            first.append(event)
            return first[0]
        return event

    cluster.change = change
    with pytest.raises(CnnzooError, match="is not what it was asked for"):
        train(zoo)


def test_a_damaged_resume_point_costs_a_new_start_and_no_bit(zoo, cluster, local):
    def change(event):
        return Point(event.content[:-7] + bytes([event.content[-7] ^ 1]) + event.content[-6:])

    cluster.losses = [7]
    cluster.change = lambda event: change(event) if isinstance(event, Point) else event
    train(zoo)
    assert zoo.files() == local[0].files()


DIFFERENCES = {
    "code": ("code_digest", lambda: "another", r"code of cnnzoo is \w+, the driver has another"),
    "version": ("version", lambda library: "0.0", r"numpy is [\d.]+, the driver has 0.0; .*torch is "),
}


@pytest.mark.parametrize("name", DIFFERENCES)
def test_a_worker_that_is_not_the_drivers_equal_is_refused(zoo, cluster, monkeypatch, name):
    attribute, other, message = DIFFERENCES[name]
    true = identity.identity

    def of_driver(*arguments):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(identity, attribute, other)
            return true(*arguments)

    monkeypatch.setattr("cnnzoo.cluster.training.identity", of_driver)
    monkeypatch.setattr("socket.gethostname", lambda: "node7")
    with pytest.raises(CnnzooError, match=f"the worker on node7 is not the driver's equal, .*{message}"):
        train(zoo)
    assert zoo.files() == {}


def test_a_worker_without_the_engine_is_refused(zoo, cluster, monkeypatch):
    def choose(name, runtime):
        raise CnnzooError("no such engine here")

    monkeypatch.setattr("cnnzoo.cluster.worker.choose", choose)
    with pytest.raises(CnnzooError, match=r"is not the driver's equal, .*no such engine here"):
        train(zoo)


def test_an_error_of_the_training_reaches_the_user(zoo, cluster, monkeypatch):
    def fail(*_):
        raise CnnzooError("this cannot be trained")

    monkeypatch.setattr("cnnzoo.cluster.worker.CohortRun", fail)
    with pytest.raises(CnnzooError, match="this cannot be trained"):
        train(zoo)


DEVICES = [
    # engine, device, GPUs: engine and device of the workers, or what is wrong
    ("auto", "auto", 0, ("native", "cpu")),
    ("auto", "auto", 2, ("cuda", "cuda:0")),
    ("auto", "cpu", 2, ("native", "cpu")),
    ("auto", "cuda", 2, ("cuda", "cuda:0")),
    ("cuda", "auto", 2, ("cuda", "cuda:0")),
    ("native", "auto", 2, ("native", "cpu")),
    ("batched", "auto", 2, ("batched", "cuda:0")),
    ("batched", "auto", 0, ("batched", "cpu")),
    ("reference", "auto", 2, ("reference", "cpu")),
    ("auto", "cuda", 0, "the Ray cluster has no GPU"),
    ("cuda", "auto", 0, "the Ray cluster has no GPU"),
    ("cuda", "cpu", 2, "`train.engine=cuda` runs on a GPU"),
    ("auto", "mps", 0, "`runtime.device=mps` is for"),
]


@pytest.fixture
def _no_training(monkeypatch):
    """Let the first task end the run, on a machine with a native kernel."""

    def stop(*_):
        raise CnnzooError("stop here")

    monkeypatch.setattr("cnnzoo.cluster.worker.choose", stop)
    monkeypatch.setattr("cnnzoo.kernel.unavailable_reason", lambda: None)


@pytest.mark.usefixtures("_no_training")
@pytest.mark.parametrize("row", DEVICES, ids=str)
def test_workers_get_the_engine_and_the_device_that_the_cluster_has(zoo, cluster, row):
    engine, device, gpus, expected = row
    cluster.resources |= {"GPU": gpus}
    params = tiny_params(engine, networks=NETWORKS, runtime={"executor": "ray", "device": device})
    with pytest.raises(CnnzooError) as caught:
        train(zoo, params=params)
    if isinstance(expected, str):
        assert expected in str(caught.value)
    else:
        assert "stop here" in str(caught.value)
        order = cluster.started[0][0]
        assert (order.params.train.engine, order.params.runtime.device) == expected


def test_the_record_of_a_network_carries_its_node(zoo, cluster, tmp_path):
    from cnnzoo.tracking.zoo import ZooTracker

    operations = []

    class Writer:
        def submit(self, make):
            operations.append(make())

    tracker = ZooTracker(Artifacts(tmp_path), TINY)
    tracker._writer = Writer()
    (shard, *_) = train_collection(zoo.artifacts, PARAMS, TINY, draw(PARAMS, TINY), Recorder(), RayExecutor(WHOLE))
    nodes = [f"node{index}" for index in range(len(shard.recipes))]
    tracker.finish(shard, nodes)
    tracker.finish(shard)
    named, plain = (operation.records for operation in operations)
    assert [record.tags["node"] for record in named] == nodes
    assert list(plain) == finished(tracker.artifacts, shard)
    assert all("node" not in record.tags for record in plain)
