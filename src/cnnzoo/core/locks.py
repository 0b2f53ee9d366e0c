"""Locks: one process at a time writes to a folder. A killed `dvc repro` may leave a stage behind that still writes."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from cnnzoo.core.errors import CnnzooError


@contextmanager
def lock_or_fail(lock: Path, holder: str, remedy: str) -> Iterator[None]:
    """Hold the lock file `lock`, made if need be; raises `CnnzooError` at once if another process holds it.

    The error names the `holder`, the file, and the `remedy`.
    """
    lock.parent.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(lock, timeout=0):
            yield
    except Timeout as error:
        raise CnnzooError(f"{holder} (it holds {lock}). {remedy}") from error


@contextmanager
def lock_or_wait(lock: Path, patience_s: float) -> Iterator[None]:
    """Hold the lock file `lock`, created if needed; waits for other processes, but raises `TimeoutError` in the end."""
    lock.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(lock, timeout=patience_s):
        yield
