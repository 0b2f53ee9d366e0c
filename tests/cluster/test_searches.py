"""Searches on a cluster, with workers in this process: the files and the record of the local runner."""

from contextlib import contextmanager

import pytest
from inline import InlineCluster

from cnnzoo.cluster import searches
from cnnzoo.cluster.events import Tried, Written
from cnnzoo.cluster.searches import RayRunner, write_folder
from cnnzoo.core.artifacts import Artifacts
from cnnzoo.core.errors import CnnzooError
from cnnzoo.search.runs import search
from zoos import STATISTICS, make_params, make_project

SETS = ["hyper", STATISTICS]
PARAMS = make_params(
    {"tiny": 41}, SETS, predictors=["linear", "catboost"], only={}, trials=2, folds=2, max_trees=10, max_epochs=2
)


class Tracker:
    """Remembers what each search records, how its record ended, and in which order that was."""

    def __init__(self):
        self.records = []

    @contextmanager
    def __call__(self, artifacts, collection, predictor, features, params):
        record = Record(artifacts.root)
        self.records.append(((predictor, features), record))
        try:
            yield record
        except BaseException as error:
            record.end = type(error)
            raise
        record.end = "finished"

    def finished(self):
        return {key: record.calls for key, record in self.records if record.end == "finished"}


class Record:
    """Calls without what differs from run to run: times, and the folder of the project."""

    def __init__(self, root):
        self.root = root
        self.calls = []
        self.end = None

    def __getattr__(self, name):
        def call(*arguments):
            for argument in arguments:
                if name in {"figure", "model"} and hasattr(argument, "exists"):
                    assert argument.exists()
            shown = arguments[:-1] if name == "trial" else arguments
            self.calls.append((name, *(str(part).replace(str(self.root), "") for part in shown)))

        return call


def make(root):
    return make_project(root, {"tiny": 41}, SETS)


def files(artifacts: Artifacts):
    top = artifacts.models("tiny")
    return {path.relative_to(top).as_posix(): path.read_bytes() for path in top.rglob("*") if path.is_file()}


def run(artifacts, tracker=None):
    tracker = tracker or Tracker()
    search(artifacts, PARAMS, "tiny", tracker, RayRunner(PARAMS.runtime))
    return tracker


@pytest.fixture(scope="module")
def local(tmp_path_factory):
    artifacts, tracker = make(tmp_path_factory.mktemp("local")), Tracker()
    search(
        artifacts,
        PARAMS.model_copy(update={"runtime": PARAMS.runtime.model_copy(update={"threads": 1})}),
        "tiny",
        tracker,
    )
    return artifacts, tracker


@pytest.fixture
def artifacts(tmp_path):
    return make(tmp_path)


@pytest.fixture
def cluster(monkeypatch):
    return InlineCluster().install(monkeypatch)


pytestmark = pytest.mark.slow


def test_files_and_records_are_those_of_one_machine(artifacts, cluster, local, capsys):
    tracker = run(artifacts)
    assert files(artifacts) == files(local[0])
    assert tracker.finished() == local[1].finished()
    assert capsys.readouterr().out.count(" held-out networks") == 4


def test_a_search_uses_its_share_of_the_cores_to_the_same_result(artifacts, cluster, local):
    cluster.resources = {"CPU": 12}
    run(artifacts)
    assert {order.task.jobs for order, _ in cluster.started} == {3}
    assert cluster.cores == 3
    assert files(artifacts) == files(local[0])


def test_a_feature_set_is_sent_once_and_dropped_when_its_searches_are_done(artifacts, cluster, monkeypatch):
    sent = []
    monkeypatch.setattr(cluster, "put", lambda halves: sent.append(halves) or halves, raising=False)
    made = []
    true = searches._Client.__init__
    monkeypatch.setattr(searches._Client, "__init__", lambda self, *rest: made.append(self) or true(self, *rest))
    run(artifacts)
    assert len(sent) == len(SETS)
    assert made[0]._halves == {}


@pytest.mark.parametrize("after", [0, 4])
def test_a_search_that_is_lost_goes_on_from_its_finished_trials(artifacts, cluster, local, after, capsys):
    cluster.losses = [after]
    tracker = run(artifacts)
    assert files(artifacts) == files(local[0])
    assert tracker.finished() == local[1].finished()
    ends = [record.end for _, record in tracker.records]
    assert ends.count("finished") == 4
    assert ends.count(CnnzooError) == (after > 0)
    assert "search of linear on hyper was lost (its worker died); it is repeated (1 of 4)" in capsys.readouterr().err


def test_trials_that_are_finished_are_not_repeated_in_a_later_run(artifacts, cluster, local):
    tried = []

    def kill(event):
        if isinstance(event, Tried):
            tried.append(event)
            if len(tried) == 4:
                raise KeyboardInterrupt
        return event

    cluster.change = kill
    tracker = Tracker()
    with pytest.raises(KeyboardInterrupt):
        run(artifacts, tracker)
    assert {record.end for _, record in tracker.records} <= {"finished", GeneratorExit}
    cluster.change, cluster.started = lambda event: event, []
    tracker = run(artifacts)
    assert sum(len(order.trials) for order, _ in cluster.started) == 3
    assert files(artifacts) == files(local[0])
    assert tracker.finished() == local[1].finished()


@pytest.mark.parametrize("name", ["../outside", "/outside", "model/../../outside", "", "a\\..\\b"])
def test_a_file_outside_the_folder_is_refused(tmp_path, name):
    with pytest.raises(CnnzooError, match="lies outside the folder"):
        write_folder(tmp_path / "folder", {"model/inside": b"", name: b""})
    assert list(tmp_path.iterdir()) == []


def test_a_worker_that_sends_a_file_elsewhere_ends_the_run(artifacts, cluster):
    cluster.change = lambda event: Written({"../../x": b""}) if isinstance(event, Written) else event
    with pytest.raises(CnnzooError, match=r"a worker sent a file named `../../x`"):
        run(artifacts)
    assert files(artifacts) == {}


def test_a_worker_that_is_not_the_drivers_equal_is_refused(artifacts, cluster, monkeypatch):
    monkeypatch.setattr("cnnzoo.cluster.searches.identity", lambda libraries: {"Python": "2.7"})
    with pytest.raises(CnnzooError, match=r"is not the driver's equal, .*Python is 3.\d+, the driver has 2.7"):
        run(artifacts)
