"""What a worker does: carries out one search and tells the driver, event by event."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from cnnzoo.cluster.events import Event, Inside, Recorded, Scored, Tried, Written
from cnnzoo.cluster.identity import Identity, identity
from cnnzoo.cluster.outbox import Outbox, telling
from cnnzoo.search.runs import Halves, carry_out
from cnnzoo.search.task import LIBRARIES, Task


@dataclass(frozen=True)
class SearchOrder:
    """One search to carry out."""

    task: Task
    trials: tuple[Any, ...]
    """Those that are finished, in order: `optuna.trial.FrozenTrial`."""
    driver: Identity
    """What the worker must be."""


def carry_out_search(order: SearchOrder, halves: Halves) -> Iterator[list[Event]]:
    """Carry out a search, from its finished trials on; yields what happens, as it happens.

    The last event is `Scored`, or `Refused`, then the only one. Raises what the search raises.
    """
    yield from telling(partial(_search, order, halves), order.driver, identity(LIBRARIES))


def _search(order: SearchOrder, halves: Halves, outbox: Outbox) -> None:
    with TemporaryDirectory(prefix="cnnzoo-") as temporary:
        folder = Path(temporary) / "predictor"
        record = _Record(outbox, folder)
        outbox.put(Scored(carry_out(order.task, halves, _Trials(order.trials, outbox), folder, record)))


@dataclass(frozen=True)
class _Trials:
    """The finished trials; new ones are sent."""

    finished: Sequence[Any]
    outbox: Outbox

    @property
    def trials(self) -> list[Any]:
        """Those that the driver knew at the start."""
        return list(self.finished)

    def add(self, trial: Any) -> None:
        """Send a trial."""
        self.outbox.put(Tried(trial))


class _Record:
    """Passes on every call to the driver's record. Before the first one that names a file, all files are sent."""

    def __init__(self, outbox: Outbox, folder: Path) -> None:
        self._outbox = outbox
        self._folder = folder
        self._sent = False

    def __getattr__(self, method: str) -> Callable[..., None]:
        return lambda *arguments: self._outbox.put(Recorded(method, tuple(map(self._portable, arguments))))

    def _portable(self, argument: Any) -> Any:
        if not isinstance(argument, Path):
            return argument
        if not self._sent:
            files = (path for path in sorted(self._folder.rglob("*")) if path.is_file())
            self._outbox.put(Written({path.relative_to(self._folder).as_posix(): path.read_bytes() for path in files}))
            self._sent = True
        return Inside(argument.relative_to(self._folder).as_posix())
