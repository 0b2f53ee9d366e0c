"""What could not be delivered to the store yet: one file per operation, replayed in order when the store answers.

A file appears whole or not at all and goes when its operation is done, so a kill at any moment loses nothing that was
spooled; what is replayed twice changes nothing. Light: does not import mlflow.
"""

import json
import logging
import time
from collections.abc import Callable
from pathlib import Path

from cnnzoo.core.atomic import write_text
from cnnzoo.tracking.runs import Operation

log = logging.getLogger(__name__)


class Spool:
    """The undelivered operations of one collection."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._last = 0

    def append(self, operation: Operation) -> None:
        """Keep an operation for later; raises `OSError` if the disk refuses."""
        self._last = max(self._last + 1, time.time_ns())  # two within one tick of the clock keep their order
        write_text(self.folder / f"{self._last:020d}.json", json.dumps(operation.to_json()))

    def files(self) -> list[Path]:
        """Return the files, oldest first."""
        return sorted(self.folder.glob("[0-9]*.json"))

    def replay(self, apply: Callable[[Operation], None]) -> None:
        """Do all operations, oldest first; stops at the first that raises and keeps it with all later ones."""
        for file in self.files():
            operation = _read(file)
            if operation is not None:
                apply(operation)
            file.unlink(missing_ok=True)

    def clear(self) -> None:
        """Forget all operations: the record has been made complete by other means."""
        for file in self.files():
            file.unlink(missing_ok=True)


def _read(file: Path) -> Operation | None:
    try:
        return Operation.from_json(json.loads(file.read_text(encoding="utf-8")))
    except (OSError, ValueError, KeyError, TypeError) as error:
        log.warning("%s: not a spooled operation (%r); dropped, the shards still hold its content", file, error)
        return None
