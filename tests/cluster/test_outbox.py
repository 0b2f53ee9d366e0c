"""The box between the work and the driver: nothing is lost, nobody waits for nothing."""

import threading

import pytest

from cnnzoo.cluster.events import Advanced, Began, Checkpoint, Point, Refused
from cnnzoo.cluster.outbox import Outbox, telling

FIRST, SECOND = Checkpoint(1, {}), Checkpoint(2, {})
LONG_S = 60.0


def test_progress_is_added_up_and_comes_first():
    box = Outbox()
    box.advance(skipped=5)
    box.put(FIRST)
    box.advance(trained=7)
    box.advance(trained=8)
    advanced, other = box.take(LONG_S)
    assert (advanced.skipped, advanced.trained, other) == (5, 15, FIRST)
    assert advanced.seconds > 0


def test_what_is_taken_is_not_taken_again():
    box = Outbox()
    box.put(FIRST)
    box.advance(trained=1)
    box.take(LONG_S)
    box.put(SECOND)
    assert box.take(LONG_S) == [SECOND]


def test_the_newest_resume_point_replaces_those_that_nobody_took():
    box = Outbox()
    for event in (Point(b"old"), FIRST, Point(b"new")):
        box.put(event)
    assert box.take(LONG_S) == [FIRST, Point(b"new")]


def test_progress_alone_is_taken_when_the_patience_is_at_its_end():
    box = Outbox()
    box.advance(trained=3)
    (event,) = box.take(0.01)
    assert event.trained == 3


@pytest.mark.parametrize("tell", [lambda box: box.put(FIRST), lambda box: box.advance(trained=1), Outbox.close])
def test_whoever_waits_is_woken(tell):
    box = Outbox()
    taken = []
    thread = threading.Thread(target=lambda: taken.append(box.take(0.01)))
    thread.start()
    tell(box)
    thread.join(LONG_S)
    assert len(taken) == 1


def test_the_end_is_an_empty_list_after_all_the_rest():
    box = Outbox()
    box.put(FIRST)
    box.close()
    assert box.take(LONG_S) == [FIRST]
    assert box.take(LONG_S) == []


def test_work_is_told_from_its_beginning_to_its_end():
    def work(box):
        box.put(FIRST)
        box.advance(trained=4)
        box.put(SECOND)

    events = [event for told in telling(work, {"a": "1"}, {"a": "1"}) for event in told]
    assert isinstance(events[0], Began)
    assert [event for event in events if isinstance(event, Checkpoint)] == [FIRST, SECOND]
    assert sum(event.trained for event in events if isinstance(event, Advanced)) == 4


def test_what_the_work_raises_is_raised_after_what_it_told():
    def work(box):
        box.put(FIRST)
        raise KeyError("broken")

    told = telling(work, {}, {})
    assert len(next(told)) == 1
    assert next(told) == [FIRST]
    with pytest.raises(KeyError, match="broken"):
        next(told)


def test_a_worker_that_differs_does_nothing_and_says_so():
    told = telling(lambda box: pytest.fail("worked"), {"a": "1", "b": "2"}, {"a": "1", "b": "3", "c": "4"})
    ((refused,),) = told
    assert isinstance(refused, Refused)
    assert refused.differences == ("b is 3, the driver has 2", "c is 4, the driver has none")
