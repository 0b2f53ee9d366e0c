"""Signals that ask a process to end: a stopped stage counts as failed, and says so.

DVC regards a stage that ends with exit code 0 as done, so every signal that people, shells and schedulers send raises
`Interrupted` in the main thread. Training holds it back until its state is saved.
"""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

STOPPING = tuple(
    getattr(signal, name)
    for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2", "SIGXCPU")
    if hasattr(signal, name)
)
"""Ctrl-C, `kill`, a closed terminal, and what schedulers send before a time limit (`sbatch --signal=USR1@90`)."""


class Interrupted(BaseException):
    """A signal asked this process to end. Not an `Exception`: code that recovers from errors must not catch it."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number

    @property
    def exit_code(self) -> int:
        """The exit code that a shell gives a process which a signal ended."""
        return 128 + self.number


def interruption_behind(error: BaseException | None) -> Interrupted | None:
    """Return the interruption that led to an error: libraries may fail while they clean up after one."""
    while error is not None and not isinstance(error, Interrupted):
        error = error.__cause__ or error.__context__
    return error


Handler = Callable[[int, FrameType | None], None]


@contextmanager
def raising() -> Iterator[None]:
    """Make the signals of STOPPING raise `Interrupted` in the block. Ignored signals (`nohup`) stay ignored."""
    with _handled_by(_raise):
        yield


class Stop:
    """Whether this process was asked to end."""

    def __init__(self) -> None:
        self.requested: Interrupted | None = None

    def check(self) -> None:
        """Raise `Interrupted` if this process was asked to end."""
        if self.requested is not None:
            raise self.requested

    def _note(self, number: int, frame: FrameType | None) -> None:
        """Remember the first signal; whoever sends a second one does not want to wait."""
        self.check()
        self.requested = Interrupted(number)


@contextmanager
def held_back() -> Iterator[Stop]:
    """Hold back signals of STOPPING in the block, which polls `Stop`; raises `Interrupted` at its end at the latest.

    A second signal is not held back. In threads other than the main one nothing changes: signals do not reach them.
    """
    stop = Stop()
    with _handled_by(stop._note):
        yield stop
    stop.check()


@contextmanager
def _handled_by(handler: Handler) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in STOPPING}
    ours = [number for number, former in before.items() if former not in {signal.SIG_IGN, None}]
    try:
        for number in ours:
            signal.signal(number, handler)
        yield
    finally:
        for number in ours:
            signal.signal(number, before[number])


def _raise(number: int, frame: FrameType | None) -> None:
    raise Interrupted(number)
