"""Keeps the workers of a cluster busy: a bounded number of tasks in flight, lost ones repeated, within limits."""

from collections import Counter, deque
from collections.abc import Callable, Hashable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from cnnzoo.core.errors import CnnzooError, counted

POLL_S = 1.0
"""How long the pool waits for news before it looks for new workers."""


@dataclass(frozen=True)
class Lost:
    """A task ended without a result: its worker, or that one's node, is gone."""

    reason: str
    out_of_memory: bool = False


class Ended:
    """A task has come to its end."""


ENDED = Ended()
Message = list[Any] | Lost | Ended
"""The events of a task, in order, or its end."""


class Backend(Protocol):
    """Workers that carry out calls."""

    def workers(self) -> int:
        """Return how many tasks run at a time now; nodes come and go."""

    def start(self, call: Any) -> Hashable:
        """Hand out a call as soon as a worker is free; returns its handle."""

    def wait(self, timeout_s: float) -> Iterator[tuple[Hashable, Message]]:
        """Yield what has come from the tasks, after `timeout_s` at the latest; raises what a task raised."""

    def cancel(self, handles: Iterable[Hashable]) -> None:
        """End tasks at once."""


Task = TypeVar("Task", bound=Hashable)
Task_contra = TypeVar("Task_contra", bound=Hashable, contravariant=True)


class Client(Protocol[Task_contra]):
    """What is done with tasks and their events."""

    def call(self, task: Task_contra) -> Any:
        """Return what a worker has to do, from where the task stands now."""

    def hear(self, task: Task_contra, event: Any) -> bool:
        """Take an event; returns whether the task has come further for good: a repetition would go on from there."""

    def lost(self, task: Task_contra) -> None:
        """Take back what a lost task had come beyond that."""

    def name(self, task: Task_contra) -> str:
        """Return what people call the task."""


@dataclass(frozen=True)
class Limits:
    """How often a task is repeated; then the run ends, with what is finished kept."""

    losses: int = 4
    """After it was lost, since it last came further: nodes may die all day, but not each time at the same place."""
    out_of_memory: int = 2
    """After its worker was killed for lack of memory, in all."""


class Pool(Generic[Task]):
    """Runs tasks on the workers of a backend, in order, and tells people (`say`) what goes wrong, in one line each."""

    def __init__(
        self, backend: Backend, client: Client[Task], say: Callable[[str], None], limits: Limits | None = None
    ) -> None:
        self._backend = backend
        self._client = client
        self._say = say
        self._limits = limits or Limits()
        self._running: dict[Hashable, Task] = {}
        self._losses: Counter[Task] = Counter()
        self._out_of_memory: Counter[Task] = Counter()

    def run(self, tasks: Iterable[Task]) -> Iterator[Task]:
        """Run all tasks, and yield each when it has ended. If anything raises, what still runs is ended first.

        Raises what a task or the client raises, and `CnnzooError` for a task that was lost too often.
        """
        waiting = deque(tasks)
        if waiting and not self._backend.workers():
            self._say("the cluster has no worker yet that could take this work; waiting for one")
        try:
            while waiting or self._running:
                while waiting and len(self._running) < _most_in_flight(self._backend.workers()):
                    task = waiting.popleft()
                    self._running[self._backend.start(self._client.call(task))] = task
                for handle, message in self._backend.wait(POLL_S):
                    if isinstance(message, Lost):
                        waiting.appendleft(self._repeat(self._running.pop(handle), message))
                    elif isinstance(message, Ended):
                        yield self._running.pop(handle)
                    else:
                        self._hear(self._running[handle], message)
        finally:
            self._backend.cancel(self._running)
            self._running.clear()

    def _hear(self, task: Task, events: Iterable[Any]) -> None:
        for event in events:
            if self._client.hear(task, event):
                self._losses[task] = 0

    def _repeat(self, task: Task, loss: Lost) -> Task:
        """Count a loss and return the task, to be run again."""
        self._client.lost(task)
        counter = self._out_of_memory if loss.out_of_memory else self._losses
        most = self._limits.out_of_memory if loss.out_of_memory else self._limits.losses
        counter[task] += 1
        name = self._client.name(task)
        if counter[task] > most:
            remedy = (
                "Lower `train.cohort_size` in params.yaml, or give the workers more memory"
                if loss.out_of_memory
                else "Look at the logs of that machine"
            )
            raise CnnzooError(
                f"{name} was lost {counted(counter[task], 'time')}: {loss.reason}. {remedy}, and run again: what is "
                "finished is kept."
            )
        self._say(f"{name} was lost ({loss.reason}); it is repeated ({counter[task]} of {most})")
        return task


def _most_in_flight(workers: int) -> int:
    """Return how many tasks are handed out: a few wait at the workers, so that none idles until the driver answers."""
    return workers + 1 + workers // 8
