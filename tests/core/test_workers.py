"""Jobs in worker processes: what they tell, what happens when one fails, is killed, or loses its parent."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from cnnzoo.core.errors import CnnzooError
from cnnzoo.core.workers import run_jobs


class Listener:
    """Keeps what a job tells it."""

    def __init__(self) -> None:
        self.told: list[object] = []

    def tell(self, *words: object) -> None:
        self.told.append(words)


class Listeners:
    """The listeners of all jobs, and how each ended."""

    def __init__(self) -> None:
        self.opened: dict[object, Listener] = {}
        self.ended: dict[object, type[BaseException] | None] = {}

    @contextmanager
    def __call__(self, job: object) -> Iterator[Listener]:
        self.opened[job] = Listener()
        try:
            yield self.opened[job]
        except BaseException as error:
            self.ended[job] = type(error)
            raise
        self.ended[job] = None


@dataclass(frozen=True)
class Square:
    number: int

    def __call__(self, listener: Listener) -> int:
        listener.tell("begins", self.number)
        listener.tell("ends", self.number)
        return self.number**2


@dataclass(frozen=True)
class Fail:
    error: str

    def __call__(self, listener: Listener) -> None:
        listener.tell("begins")
        raise {"person": CnnzooError("no such set"), "disk": OSError(28, "full", "x"), "code": KeyError("a bug")}[
            self.error
        ]


@dataclass(frozen=True)
class Sleep:
    """Writes its process id, then never ends."""

    file: Path

    def __call__(self, listener: Listener) -> None:
        listener.tell("begins")
        self.file.with_suffix(".new").write_text(str(os.getpid()))
        self.file.with_suffix(".new").rename(self.file)
        time.sleep(600)


@dataclass(frozen=True)
class KillOther:
    """Kills the process of a `Sleep`."""

    file: Path

    def __call__(self, listener: Listener) -> None:
        os.kill(pid_in(self.file), signal.SIGKILL)
        time.sleep(600)


@dataclass(frozen=True)
class FailAfter:
    """Fails once a `Sleep` is under way."""

    file: Path

    def __call__(self, listener: Listener) -> None:
        pid_in(self.file)
        raise CnnzooError("no such set")


@dataclass(frozen=True)
class Exit:
    """Ends its process, or answers what no other process can read."""

    answer: bool

    def __call__(self, listener: Listener) -> object:
        if self.answer:
            return lambda: None
        return sys.exit("enough")


@dataclass(frozen=True)
class DieLater:
    """Has its process killed once the job is done."""

    seconds: float

    def __call__(self, listener: Listener) -> None:
        threading.Timer(self.seconds, os.kill, (os.getpid(), signal.SIGKILL)).start()


@dataclass(frozen=True)
class Slow:
    """Told by the parent to be slow: its listener takes its time."""

    def __call__(self, listener: "SlowListener") -> None:
        listener.wait()


@dataclass(frozen=True)
class Interrupt:
    """Gets what Ctrl-C sends to every process of a terminal; returns the process that did the job."""

    number: int

    def __call__(self, listener: Listener) -> int:
        os.kill(os.getpid(), signal.SIGINT)
        return os.getpid()


class SlowListener(Listener):
    def wait(self) -> None:
        time.sleep(1.5)


def pid_in(file: Path) -> int:
    """Wait for a file that holds a process id."""
    while not file.exists():
        time.sleep(0.01)
    return int(file.read_text())


def is_alive(pid: int) -> bool:
    status = Path(f"/proc/{pid}/stat")
    return status.exists() and status.read_text().rpartition(")")[2].split()[0] != "Z"


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2, 9])
def test_every_job_is_done_and_heard_in_order(workers):
    listeners = Listeners()
    jobs = [Square(number) for number in range(5)]
    assert sorted((job.number, result) for job, result in run_jobs(jobs, listeners, workers)) == [
        (0, 0), (1, 1), (2, 4), (3, 9), (4, 16),
    ]  # fmt: skip
    for job in jobs:
        assert listeners.opened[job].told == [("begins", job.number), ("ends", job.number)]
        assert listeners.ended[job] is None


@pytest.mark.parametrize("workers", [1, 2])
def test_jobs_begin_in_their_order(workers):
    listeners = Listeners()
    jobs = [Square(number) for number in (3, 1, 4, 0, 5, 9)]
    list(run_jobs(jobs, listeners, workers))
    assert list(listeners.opened) == jobs


def test_no_more_processes_work_than_asked_for_and_ctrl_c_does_not_end_them():
    before = signal.getsignal(signal.SIGINT)
    jobs = [Interrupt(number) for number in range(6)]
    processes = {process for _, process in run_jobs(jobs, Listeners(), 2)}
    assert 1 <= len(processes) <= 2
    assert os.getpid() not in processes
    assert not any(map(is_alive, processes))
    assert signal.getsignal(signal.SIGINT) is before


@pytest.mark.parametrize("workers", [1, 2])
def test_no_jobs_are_no_work(workers):
    assert list(run_jobs([], Listeners(), workers)) == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("error", "raised", "message"),
    [("person", CnnzooError, "no such set"), ("disk", OSError, "full"), ("code", RuntimeError, "KeyError: 'a bug'")],
)
def test_an_error_of_a_job_is_raised_here(error, raised, message):
    listeners = Listeners()
    with pytest.raises(raised, match=message):
        list(run_jobs([Fail(error), Square(1)], listeners, 2))
    assert listeners.opened[Fail(error)].told == [("begins",)]
    assert listeners.ended[Fail(error)] is raised


def test_an_error_ends_the_other_jobs_at_once(tmp_path):
    file, listeners = tmp_path / "pid", Listeners()
    with pytest.raises(CnnzooError, match="no such set"):
        list(run_jobs([Sleep(file), FailAfter(file)], listeners, 2))
    assert not is_alive(pid_in(file))
    assert listeners.ended == {FailAfter(file): CnnzooError, Sleep(file): GeneratorExit}


def test_a_killed_worker_is_told_with_the_remedy(tmp_path):
    file, listeners = tmp_path / "pid", Listeners()
    with pytest.raises(CnnzooError, match=r"worker process was killed.*`runtime.threads`"):
        list(run_jobs([Sleep(file), KillOther(file)], listeners, 2))
    assert listeners.ended == {Sleep(file): CnnzooError, KillOther(file): GeneratorExit}


@pytest.mark.parametrize(("answer", "message"), [(False, "SystemExit: enough"), (True, "pickle")])
def test_a_job_that_ends_its_process_or_gives_no_readable_answer_is_told(answer, message):
    with pytest.raises(RuntimeError, match=message):
        list(run_jobs([Exit(answer), Square(1)], Listeners(), 2))


@pytest.mark.slow
def test_a_worker_that_dies_between_two_jobs_is_told_as_any_other():
    @contextmanager
    def listen(_: object) -> Iterator[SlowListener]:
        yield SlowListener()

    with pytest.raises(CnnzooError, match="worker process was killed"):
        list(run_jobs([DieLater(0.2), Slow(), Slow(), Square(1), Square(2)], listen, 2))


KILLED_PARENT = """
import sys; from pathlib import Path
sys.path.insert(0, sys.argv[1])
from test_workers import Listeners, Sleep, run_jobs
list(run_jobs([Sleep(Path(name)) for name in sys.argv[2:]], Listeners(), 2))
"""


@pytest.mark.skipif(not Path("/proc").exists(), reason="looks into /proc")
def test_workers_end_when_their_parent_is_killed(tmp_path):
    files = [tmp_path / "one", tmp_path / "two"]
    command = [sys.executable, "-c", KILLED_PARENT, str(Path(__file__).parent), *map(str, files)]
    with subprocess.Popen(command) as parent:
        pids = [pid_in(file) for file in files]
        parent.kill()
    for _ in range(500):
        if not any(map(is_alive, pids)):
            return
        time.sleep(0.01)
    pytest.fail("workers live on")
