"""Progress for people: networks done, images/s, share of the machine's peak, time left.

A live bar on a terminal; elsewhere a line every ten seconds, so that logs stay short.
"""

import sys
import time
from collections.abc import Iterable
from types import TracebackType
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from cnnzoo.core.errors import counted

LINE_INTERVAL_S = 10.0


class Meter(Protocol):
    """Counts the work of a collection's training."""

    def skip(self, passes: int) -> None:
        """Count work that was done before; a negative number takes back what a lost worker had counted."""

    def advance(self, passes: int) -> None:
        """Count work that was done now."""

    def finish(self, networks: int) -> None:
        """Count networks whose shard is written."""


class TrainingProgress:
    """Counts image passes (images x networks) of one collection; a context manager.

    `peak`, if known, is the images/s at the peak of the machine's arithmetic. Time for evaluation counts as well, so
    the share that is shown lies below that of training alone.
    """

    def __init__(
        self, collection: str, networks: int, passes: int, peak: float | None = None, console: Console | None = None
    ) -> None:
        self.collection = collection
        self.networks = networks
        self.passes = passes
        self.peak = peak
        self.networks_done = 0
        self.passes_done = 0
        self._trained = 0
        self._console = console or Console(file=sys.stderr)
        self._started = self._line_at = time.monotonic()
        self._bar: Progress | None = None
        self._workers: list[float] = []

    def __enter__(self) -> "TrainingProgress":
        self._started = self._line_at = time.monotonic()
        if self._console.is_terminal:
            self._bar = Progress(TextColumn("{task.description}"), BarColumn(), console=self._console)
            self._task = self._bar.add_task(self._text(), total=self.passes)
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar:
            self._bar.stop()
        if kind is None:
            self._console.print(self._summary(), highlight=False, soft_wrap=True)

    def skip(self, passes: int) -> None:
        """Count work that an earlier run has done (a resumed cohort)."""
        self.passes_done += passes

    def advance(self, passes: int) -> None:
        """Count work that was done now."""
        self.passes_done += passes
        self._trained += passes
        self._show()

    def finish(self, networks: int) -> None:
        """Count networks whose shard is written."""
        self.networks_done += networks
        self._show()

    def say(self, line: str) -> None:
        """Print one line for the user, above the bar."""
        self._console.print(line, highlight=False, soft_wrap=True)

    def workers(self, rates: Iterable[float]) -> None:
        """Note the images/s of each worker of a cluster that trains now."""
        self._workers = sorted(rates)

    @property
    def rate(self) -> float:
        """Images/s since the start, over all networks and cores."""
        return self._trained / max(time.monotonic() - self._started, 1e-9)

    def _show(self) -> None:
        now = time.monotonic()
        if self._bar:
            self._bar.update(self._task, completed=self.passes_done, description=self._text())
        elif now - self._line_at >= LINE_INTERVAL_S:
            self._line_at = now
            self._console.print(self._text(), highlight=False, soft_wrap=True)

    def _text(self) -> str:
        left_s = (self.passes - self.passes_done) / self.rate if self._trained else None
        left = f"{duration(left_s)} left" if left_s is not None else "starting"
        share = self.passes_done / max(self.passes, 1)
        return (
            f"train {self.collection}: {self.networks_done}/{counted(self.networks, 'network')}, {share:.0%}, "
            f"{self._speed()}{self._per_worker()}, {left}"
        )

    def _per_worker(self) -> str:
        if not self._workers:
            return ""
        return f" on {counted(len(self._workers), 'worker')} ({self._workers[0]:,.0f} to {self._workers[-1]:,.0f} each)"

    def _summary(self) -> str:
        elapsed = duration(time.monotonic() - self._started)
        return f"train {self.collection}: {counted(self.networks_done, 'network')} in {elapsed}, {self._speed()}"

    def _speed(self) -> str:
        share = f" ({self.rate / self.peak:.0%} of the peak)" if self.peak and self._trained else ""
        return f"{self.rate:,.0f} images/s{share}"


def duration(seconds: float) -> str:
    """Return a duration for people: `42 s`, `3:20 min`, `5:07 h`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes}:{rest:02d} min"
    return f"{minutes // 60}:{minutes % 60:02d} h"
