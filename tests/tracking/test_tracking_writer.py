"""Delivery in the background, against stores that fail, hang or come back."""

import threading
import time
from collections.abc import Callable, Collection, Sequence
from pathlib import Path

import pytest

from cnnzoo.tracking.runs import Operation, RunRecord
from cnnzoo.tracking.spool import Spool
from cnnzoo.tracking.store import ActiveRun
from cnnzoo.tracking.writer import Writer


class FakeStore:
    """Keeps what it was told, in order; raises while `broken`, waits while `hanging`."""

    def __init__(self) -> None:
        self.done: list[int] = []
        self.broken = False
        self.opened = 0
        self.waits = threading.Event()
        self.may_go_on = threading.Event()
        self.may_go_on.set()

    def open(self) -> "FakeStore":
        self.opened += 1
        if self.broken:
            raise ConnectionError("nobody there\nand pages of details")
        return self

    def put(self, records: Sequence[RunRecord]) -> None:
        self.waits.set()
        assert self.may_go_on.wait(60)
        self.waits.clear()
        if self.broken:
            raise ConnectionError("nobody there")
        self.done.append(records[0].time_ms)

    begin = log = put

    def active(self) -> list[ActiveRun]:
        return []

    def delete(self, run_ids: Collection[str]) -> None: ...

    def interrupt(self, run_ids: Collection[str]) -> None: ...

    def optimize(self) -> None: ...

    def close(self) -> None: ...


RECORDS_BY_COHORT: dict[str, RunRecord] = {}


def operation(number: int) -> Callable[[], Operation]:
    return lambda: Operation("put", [RunRecord("tiny/000001", "cohort", number, metrics=(("loss", 3, float("nan")),))])


def addition(number: int) -> Callable[[], Operation]:
    return lambda: Operation("log", operation(number)().records)


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


@pytest.fixture
def store() -> FakeStore:
    return FakeStore()


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    return Spool(tmp_path / "spool")


def test_operations_are_delivered_in_order(store: FakeStore, spool: Spool) -> None:
    writer = Writer(store.open, spool)
    for number in range(100):
        writer.submit(operation(number))
    writer.close(20)
    assert store.done == list(range(100))
    assert store.opened == 1


def test_additions_that_wait_are_delivered_as_one_but_not_beyond_another_event(store: FakeStore, spool: Spool) -> None:
    counts: list[int] = []
    put, store.log = store.put, lambda records: (counts.append(len(records)), put(records))[0]  # type: ignore[assignment, method-assign]
    store.may_go_on.clear()
    writer = Writer(store.open, spool)
    writer.submit(operation(0))
    assert store.waits.wait(20)
    for number in (1, 2, 3):
        writer.submit(addition(number), adds=True)
    writer.submit(operation(4))
    writer.submit(addition(5), adds=True)
    store.may_go_on.set()
    writer.close(20)
    assert counts == [3, 1]
    assert store.done == [0, 1, 4, 5]  # the first of those that are one


def test_a_store_that_hangs_blocks_nobody_and_loses_nothing(store: FakeStore, spool: Spool) -> None:
    store.may_go_on.clear()
    writer = Writer(store.open, spool)
    for number in range(5):
        writer.submit(operation(number))
    assert store.waits.wait(20)
    writer.close(0.2)
    assert store.waits.is_set(), "all calls returned while the store still hangs in the first operation"
    assert store.done == []
    other = FakeStore()
    Writer(other.open, spool).close(20)
    wait_until(lambda: other.done == [0, 1, 2, 3, 4])  # the one under way is done twice at most
    assert spool.files() == []


def test_an_unreachable_store_is_one_warning_and_all_is_replayed_when_it_answers(
    store: FakeStore, spool: Spool, caplog: pytest.LogCaptureFixture
) -> None:
    store.broken = True
    writer = Writer(store.open, spool, retry_s=0.05)
    for number in range(5):
        writer.submit(operation(number))
        time.sleep(0.02)
    wait_until(lambda: len(spool.files()) == 5 and store.opened > 2)
    assert [record.message.split(".")[0] for record in caplog.records] == ["MLflow cannot be reached (nobody there)"]
    store.broken = False
    wait_until(lambda: store.done == [0, 1, 2, 3, 4])  # without any further event
    writer.submit(operation(5))
    writer.close(20)
    assert store.done == [0, 1, 2, 3, 4, 5]
    assert spool.files() == []


def test_a_store_that_fails_half_way_through_gets_the_rest_later(store: FakeStore, spool: Spool) -> None:
    for number in range(4):
        spool.append(operation(number)())
    put, store.put = store.put, lambda records: (put(records), setattr(store, "broken", len(store.done) == 2))[0]  # type: ignore[method-assign]
    Writer(store.open, spool, retry_s=60).close(20)
    assert store.done == [0, 1]
    assert len(spool.files()) == 2
    store.broken = False
    Writer(store.open, spool, retry_s=60).close(20)
    assert store.done == [0, 1, 2, 3]


def test_what_one_process_spooled_the_next_one_replays_first(store: FakeStore, spool: Spool) -> None:
    store.broken = True
    writer = Writer(store.open, spool, retry_s=60)
    writer.submit(operation(1))
    writer.submit(operation(2))
    writer.close(20)
    store.broken = False
    writer = Writer(store.open, Spool(spool.folder))
    writer.submit(operation(3))
    writer.close(20)
    assert store.done == [1, 2, 3]


def test_an_event_that_cannot_be_made_is_reported_and_the_others_go_on(
    store: FakeStore, spool: Spool, caplog: pytest.LogCaptureFixture
) -> None:
    writer = Writer(store.open, spool)
    writer.submit(lambda: Operation("put", [RECORDS_BY_COHORT["unknown"]]))
    writer.submit(operation(1))
    writer.close(20)
    assert store.done == [1]
    assert "could not be recorded" in caplog.text


def test_a_full_disk_does_not_stop_the_training(
    store: FakeStore, spool: Spool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(path: Path, text: str) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("cnnzoo.tracking.spool.write_text", full)
    store.broken = True
    writer = Writer(store.open, spool)
    writer.submit(operation(1))
    writer.close(20)
    assert "No space left on device" in caplog.text


def test_a_spooled_file_that_is_damaged_is_dropped_with_a_warning(
    store: FakeStore, spool: Spool, caplog: pytest.LogCaptureFixture
) -> None:
    spool.append(operation(1)())
    spool.append(operation(2)())
    spool.files()[0].write_text("{")
    Writer(store.open, spool).close(20)
    assert store.done == [2]
    assert "dropped" in caplog.text


def test_spooled_operations_come_back_as_they_were(spool: Spool) -> None:
    record = RunRecord(
        "tiny/000001",
        "c",
        5,
        {"lr": "0.1"},
        {"engine": "native", "rows": None},
        (("loss", 3, 0.1), ("loss", 20, 1e308)),
    )
    spool.append(Operation("begin", [record]))
    found: list[Operation] = []
    spool.replay(found.append)
    assert found == [Operation("begin", [record])]
    assert spool.files() == []


def test_what_waits_in_the_spool_is_done_before_what_comes(store: FakeStore, spool: Spool) -> None:
    writer = Writer(store.open, spool)
    wait_until(lambda: store.opened == 1)
    spool.append(operation(1)())
    spool.append(operation(2)())
    writer.submit(operation(3))
    writer.close(20)
    assert store.done == [1, 2, 3]


def test_spooled_operations_keep_their_order_within_a_tick_of_the_clock_and_when_it_is_set_back(
    spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    times = iter([5_000_000, 5_000_000, 5_000_000, 1_000, 2_000, 7_000_000])
    monkeypatch.setattr("time.time_ns", lambda: next(times))
    for number in range(6):
        spool.append(operation(number)())
    found: list[int] = []
    spool.replay(lambda one: found.append(one.records[0].time_ms))
    assert found == [0, 1, 2, 3, 4, 5]


def test_spooled_operations_are_replayed_in_order_however_the_folder_lists_them(
    spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(5):
        spool.append(operation(number)())
    glob = Path.glob
    monkeypatch.setattr(Path, "glob", lambda folder, pattern: iter(sorted(glob(folder, pattern), reverse=True)))
    found: list[int] = []
    Spool(spool.folder).replay(lambda one: found.append(one.records[0].time_ms))
    assert found == [0, 1, 2, 3, 4]
