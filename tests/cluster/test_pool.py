"""The pool: bounded work in flight, repetitions and their limits, and an end that leaves nothing running."""

from dataclasses import dataclass, field

import pytest
from inline import InlineBackend, InlineCluster

from cnnzoo.cluster.pool import Limits, Lost, Pool
from cnnzoo.core.errors import CnnzooError

STEPS = 3


@dataclass(frozen=True)
class Call:
    """What a task gets."""

    arguments: tuple[int, int]
    large: None = None


def count(task, start):
    """Tell the steps of a task from `start` on, each as an event of its own."""
    for step in range(start, STEPS):
        yield [step]


@dataclass
class Client:
    """Remembers what it heard; tasks go on from their last `kept` step."""

    kept: dict[int, int] = field(default_factory=dict)
    keeps: bool = True
    heard: list = field(default_factory=list)

    def call(self, task):
        return Call((task, self.kept.get(task, 0)))

    def hear(self, task, event):
        self.heard.append((task, event))
        if self.keeps:
            self.kept[task] = event + 1
        return self.keeps

    def lost(self, task):
        self.heard.append((task, "lost"))

    def name(self, task):
        return f"task {task}"


def run(tasks, cluster, client=None, limits=None):
    """Return the tasks in the order of their ends, the client, and what was said."""
    said = []
    client = client or Client()
    ended = list(Pool(InlineBackend(cluster, count), client, said.append, limits).run(tasks))
    return ended, client, said


def test_all_tasks_run_in_order_with_all_their_events():
    ended, client, said = run(range(5), InlineCluster({"CPU": 1}))
    assert ended == [0, 1, 2, 3, 4]
    assert client.heard == [(task, step) for task in range(5) for step in range(STEPS)]
    assert said == []


def test_no_task_is_no_work():
    assert run([], InlineCluster())[0] == []


@pytest.mark.parametrize(("workers", "in_flight"), [(1, 2), (4, 5), (16, 19)])
def test_few_tasks_wait_at_the_workers_however_many_there_are(workers, in_flight):
    cluster = InlineCluster({"CPU": workers})
    ended, _, _ = run(range(300), cluster)
    assert sorted(ended) == list(range(300))
    assert cluster.most_in_flight == in_flight


def test_workers_that_join_get_work_and_those_that_left_get_none():
    cluster = InlineCluster({"CPU": 1})
    pool = Pool(InlineBackend(cluster, count), Client(), lambda line: None)
    most = {}
    for task in pool.run(range(60)):
        most[task] = cluster.most_in_flight
        cluster.most_in_flight = 0
        cluster.resources["CPU"] = 8 if task < 30 else 1
    assert max(most[task] for task in range(5, 25)) == 8 + 1 + 1
    assert max(most[task] for task in range(50, 60)) <= 2


def test_a_lost_task_goes_on_from_where_it_had_come_and_is_told_once():
    ended, client, said = run([7], InlineCluster(losses=[2]))
    assert ended == [7]
    assert client.heard == [(7, 0), (7, 1), (7, "lost"), (7, 2)]
    assert said == ["task 7 was lost (its worker died); it is repeated (1 of 4)"]


def test_a_lost_task_comes_before_those_that_have_not_begun():
    ended, _, _ = run([1, 2, 3, 4, 5], InlineCluster({"CPU": 1}, losses=[1]))
    assert ended.index(1) <= 1


def test_a_task_that_is_lost_at_the_same_place_again_and_again_ends_the_run():
    cluster = InlineCluster(losses=[1, 1, 1, 1, 1, 1])
    with pytest.raises(CnnzooError, match=r"task 7 was lost 3 times: its worker died. .*what is finished is kept"):
        run([7], cluster, Client(keeps=False), Limits(losses=2))
    assert len(cluster.started) == 3


def test_a_task_that_comes_further_each_time_may_be_lost_more_often():
    ended, _, said = run([7], InlineCluster(losses=[1, 1]), limits=Limits(losses=1))
    assert ended == [7]
    assert len(said) == 2
    assert "(1 of 1)" in said[1]


def test_lack_of_memory_ends_the_run_sooner_though_the_task_comes_further():
    cluster = InlineCluster(losses=[1, 1, 1], loss=Lost("no memory", out_of_memory=True))
    with pytest.raises(CnnzooError, match=r"lost 2 times: no memory. Lower `train.cohort_size`"):
        run([7], cluster, limits=Limits(losses=9, out_of_memory=1))


def test_an_error_of_the_client_leaves_nothing_running():
    class Failing(Client):
        def hear(self, task, event):
            raise RuntimeError("no")

    cluster = InlineCluster({"CPU": 3})
    with pytest.raises(RuntimeError, match="no"):
        run(range(9), cluster, Failing())
    assert cluster.stopped == 4


def test_what_came_before_an_error_is_heard():
    def work(task, start):
        yield [task]
        if task == 1:
            raise ValueError("no")
        yield [task + 10]

    client = Client()
    with pytest.raises(ValueError, match="no"):
        list(Pool(InlineBackend(InlineCluster(), work), client, print).run(range(2)))
    assert client.heard == [(0, 0), (1, 1), (0, 10)]


def test_an_interruption_leaves_nothing_running():
    cluster = InlineCluster({"CPU": 3})
    pool = Pool(InlineBackend(cluster, count), Client(), lambda line: None).run(range(9))
    next(pool)
    pool.close()
    assert cluster.stopped == 3  # of the four in flight


def test_a_cluster_without_workers_is_told_of():
    cluster = InlineCluster({"CPU": 0})
    said = []

    def say(line):
        said.append(line)
        cluster.resources["CPU"] = 1

    assert list(Pool(InlineBackend(cluster, count), Client(), say).run([1])) == [1]
    assert said == ["the cluster has no worker yet that could take this work; waiting for one"]
