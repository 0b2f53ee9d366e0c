"""A cluster without Ray: its workers are generators in this process, and die when a test says so.

What they tell does not depend on time: every event is a message of its own.
"""

import socket
from collections.abc import Callable, Hashable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest

from cnnzoo.cluster.events import Advanced, Began, Event, Refused
from cnnzoo.cluster.identity import Identity, differences
from cnnzoo.cluster.placement import Division
from cnnzoo.cluster.pool import ENDED, Lost, Message
from cnnzoo.config import Runtime
from cnnzoo.planning.division import Piece


@dataclass
class InlineCluster:
    """Machines that are one: `losses` has, for each task in the order of their start, after which message it is lost.

    A list of `None` and numbers; tasks beyond it are not lost.
    """

    resources: dict[str, int] = field(default_factory=lambda: {"CPU": 2})
    losses: list[int | None] = field(default_factory=list)
    loss: Lost = field(default_factory=lambda: Lost("its worker died"))
    started: list[tuple[Any, ...]] = field(default_factory=list)
    """What each task was given."""
    cores: int = 0
    """Of a task."""
    stopped: int = 0
    """Tasks that were cancelled while they ran."""
    most_in_flight: int = 0
    change: Callable[[Any], Any] = lambda event: event
    """What becomes of an event on its way."""

    def count(self, resource: str) -> int:
        return self.resources.get(resource, 0)

    def cores_of_smallest_node(self) -> int:
        return self.resources["CPU"]

    def put(self, value: Any) -> Any:
        return value

    @contextmanager
    def connected(self, runtime: Runtime) -> Iterator["InlineCluster"]:
        yield self

    def install(self, monkeypatch: pytest.MonkeyPatch) -> "InlineCluster":
        """Let executors and runners find this cluster."""
        for module in ("training", "searches"):
            monkeypatch.setattr(f"cnnzoo.cluster.{module}.require_ray", lambda: None)
            monkeypatch.setattr(f"cnnzoo.cluster.{module}.connected", self.connected)
            monkeypatch.setattr(f"cnnzoo.cluster.{module}.RayBackend", InlineBackend)
        for module in ("worker", "search_worker"):
            monkeypatch.setattr(f"cnnzoo.cluster.{module}.telling", telling)
        return self


class Box:
    """Keeps all events."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def put(self, event: Event) -> None:
        self.events.append(event)

    def advance(self, skipped: int = 0, trained: int = 0) -> None:
        self.events.append(Advanced(skipped, trained, 1.0))


def telling(work: Callable[[Any], None], driver: Identity, worker: Identity) -> Iterator[list[Event]]:
    """Do the work at once, then tell of it."""
    if found := differences(driver, worker):
        yield [Refused(socket.gethostname(), found)]
        return
    yield [Began(socket.gethostname())]
    box = Box()
    work(box)
    for event in box.events:
        yield [event]


class InlineBackend:
    """Takes a message of each running task in turn."""

    def __init__(
        self, cluster: InlineCluster, function: Callable[..., Iterator[list[Any]]], cores: int = 1, gpu: bool = False
    ) -> None:
        self.cluster = cluster
        self.function = function
        self.gpu = gpu
        cluster.cores = cores
        self.running: dict[Hashable, list[Any]] = {}
        """Generator and the number of messages until it is lost."""

    def workers(self) -> int:
        return self.cluster.count("GPU" if self.gpu else "CPU") // self.cluster.cores

    def start(self, call: Any) -> Hashable:
        arguments = (*call.arguments, *(() if call.large is None else (call.large,)))
        handle = len(self.cluster.started)
        losses = self.cluster.losses
        self.cluster.started.append(arguments)
        self.running[handle] = [self.function(*arguments), losses[handle] if handle < len(losses) else None]
        self.cluster.most_in_flight = max(self.cluster.most_in_flight, len(self.running))
        return handle

    def wait(self, timeout_s: float) -> Iterator[tuple[Hashable, Message]]:
        for handle in list(self.running)[: self.workers()]:
            yield handle, self._next(handle)

    def cancel(self, handles: Iterable[Hashable]) -> None:
        for handle in list(handles):
            self.cluster.stopped += self.running.pop(handle, None) is not None

    def _next(self, handle: Hashable) -> Message:
        task = self.running[handle]
        if task[1] == 0:
            del self.running[handle]
            return self.cluster.loss
        try:
            events = [self.cluster.change(event) for event in next(task[0])]
        except StopIteration:
            del self.running[handle]
            return ENDED
        if task[1] is not None:
            task[1] -= 1
        return events


@dataclass(frozen=True)
class Sized(Division):
    """Parts of so many networks, however many workers there are."""

    size: int = 1

    def place(self, loads, workers):
        return [
            Piece(index, first, min(first + self.size, load.networks), 0, 0.0, 0.0)
            for index, load in enumerate(loads)
            for first in range(0, load.networks, self.size)
        ]
