"""Download progress: a bar on a terminal, an occasional line in a log."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

LINE_INTERVAL_S = 10.0
MB = 1e6

Advance = Callable[[int], None]
"""Call it with the number of bytes that arrived."""


def say(line: str) -> None:
    """Print one line for the user who is waiting."""
    print(line, file=sys.stderr, flush=True)


@contextmanager
def transfer_progress(label: str, done: int, total: int | None) -> Iterator[Advance]:
    """Show a transfer of which `done` of `total` bytes (None: unknown) are already there."""
    if sys.stderr.isatty():
        with _bar(label, done, total) as advance:
            yield advance
    else:
        yield _lines(label, done, total)


@contextmanager
def _bar(label: str, done: int, total: int | None) -> Iterator[Advance]:
    columns = (TextColumn(label), BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(label, completed=done, total=total)
        yield lambda count: bar.advance(task, count)


def _lines(label: str, done: int, total: int | None) -> Advance:
    last_s = time.monotonic()

    def advance(count: int) -> None:
        nonlocal done, last_s
        done += count
        if time.monotonic() - last_s >= LINE_INTERVAL_S:
            last_s = time.monotonic()
            of = f" of {total / MB:.1f}" if total else ""
            say(f"{label}: {done / MB:.1f}{of} MB")

    return advance
