"""What a check of a collection's folder has found."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from cnnzoo.core.errors import CnnzooError
from cnnzoo.zoo import format as published

T = TypeVar("T")


@dataclass
class Report:
    """The faults found so far in one folder."""

    folder: Path
    problems: list[str] = field(default_factory=list)

    def add(self, name: str, message: str) -> None:
        """Note a fault of a file."""
        self.problems.append(f"{self.folder / name}: {message}")

    def blames(self, name: str) -> bool:
        """Return whether a fault of a file is noted."""
        path = self.folder / name
        return any(problem.startswith((f"{path}:", f"{path},")) for problem in self.problems)

    def add_lines(self, bad: Any, message: str, *columns: Any) -> None:
        """Note a fault of metrics.csv.gz: the first line that `bad` (R,) marks, and how many more have it.

        `{}` in the message stands for what the columns, each (R,), hold in that line.
        """
        lines = np.flatnonzero(np.asarray(bad, dtype=bool))
        if len(lines):
            values = [np.asarray(column, dtype=object)[lines[0]] for column in columns]
            more = f" (and {len(lines) - 1} more lines)" if len(lines) > 1 else ""
            self.add(published.METRICS, f"line {lines[0] + 2}: {message.format(*values)}{more}")

    def attempt(self, read: Callable[[Path], T], name: str) -> T | None:
        """Return what `read` makes of a file, or None and a noted fault."""
        try:
            return read(self.folder / name)
        except CnnzooError as error:
            self.problems.append(str(error))
            return None
