"""How a worker tells the driver what it does while it does it.

The work never waits for the driver: progress that has not been taken yet is added up, and a new resume point replaces
an older one.
"""

import socket
import threading
import time
from collections.abc import Callable, Iterator

from cnnzoo.cluster.events import Advanced, Began, Event, Point, Refused
from cnnzoo.cluster.identity import Identity, differences

PROGRESS_S = 1.0
"""How often progress is sent."""


def telling(work: "Callable[[Outbox], None]", driver: Identity, worker: Identity) -> Iterator[list[Event]]:
    """Do the work in a thread of its own and yield what it tells, `Began` first; raises what the work raises.

    A worker that differs from the driver only says so.
    """
    node = socket.gethostname()
    found = differences(driver, worker)
    if found:
        yield [Refused(node, found)]
        return
    yield [Began(node)]
    thread = _Thread(work)
    thread.start()
    while told := thread.outbox.take(PROGRESS_S):
        yield told
    thread.join()
    if thread.error is not None:
        raise thread.error


class _Thread(threading.Thread):
    """Does the work."""

    def __init__(self, work: "Callable[[Outbox], None]") -> None:
        super().__init__(name="cnnzoo-work", daemon=True)
        self._work = work
        self.outbox = Outbox()
        self.error: BaseException | None = None

    def run(self) -> None:
        """Do it, and say when it is done."""
        try:
            self._work(self.outbox)
        except BaseException as error:  # raised again where Ray sees it
            self.error = error
        finally:
            self.outbox.close()


class Outbox:
    """Collects the events of one training; another thread takes them."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._skipped = self._trained = 0
        self._urgent: list[Event] = []
        self._closed = False
        self._taken_at = time.monotonic()

    def advance(self, skipped: int = 0, trained: int = 0) -> None:
        """Add image passes: those behind the resume point, and those done now."""
        with self._changed:
            self._skipped += skipped
            self._trained += trained
            self._changed.notify_all()

    def put(self, event: Event) -> None:
        """Add an event; a resume point takes the place of one that nobody has taken."""
        with self._changed:
            if isinstance(event, Point):
                self._urgent = [other for other in self._urgent if not isinstance(other, Point)]
            self._urgent.append(event)
            self._changed.notify_all()

    def close(self) -> None:
        """Say that nothing more will come."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def take(self, patience_s: float) -> list[Event]:
        """Wait for events and return them, the oldest first; an empty list means that there are no more.

        If there is nothing but progress, it is returned after `patience_s` seconds, not before.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._urgent or self._closed, patience_s)
            self._changed.wait_for(lambda: self._urgent or self._closed or self._skipped or self._trained)
            taken, self._urgent = self._urgent, []
            if self._skipped or self._trained:
                now = time.monotonic()
                taken.insert(0, Advanced(self._skipped, self._trained, now - self._taken_at))
                self._skipped, self._trained, self._taken_at = 0, 0, now
            return taken
