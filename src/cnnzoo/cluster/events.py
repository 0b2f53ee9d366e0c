"""What a worker tells the driver while it trains, and the box in which it collects that until the driver asks.

Training never waits for the driver: progress that has not been taken yet is added up, and a new resume point replaces
an older one.
"""

import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Began:
    """The worker has checked that it is the driver's equal and begins."""

    node: str
    """The name of its machine."""


@dataclass(frozen=True)
class Refused:
    """The worker is not the driver's equal and did nothing."""

    node: str
    differences: tuple[str, ...]


@dataclass(frozen=True)
class Advanced:
    """So many image passes (images x networks) are done."""

    skipped: int = 0
    """Those that the resume point had behind it."""
    trained: int = 0
    seconds: float = 0.0
    """How long it took to train them."""


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint epoch is reached; each metric is float64 (N,)."""

    epoch: int
    metrics: Mapping[str, NDArray[np.float64]]


@dataclass(frozen=True)
class Point:
    """The content of a resume point's file."""

    content: bytes


@dataclass(frozen=True)
class Trained:
    """The content of the shard's file: the last event."""

    content: bytes


Event = Began | Refused | Advanced | Checkpoint | Point | Trained


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
        """Wait for something to tell and return it, the oldest first; an empty list is the end.

        Progress alone is told after `patience_s` at the earliest.
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
