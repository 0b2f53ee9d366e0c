"""Locks between processes: who holds one, who is refused at once, who waits."""

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from cnnzoo.core.errors import CnnzooError
from cnnzoo.core.locks import lock_or_fail, lock_or_wait

HOLDER = """
import pathlib, sys
from cnnzoo.core.locks import lock_or_wait
with lock_or_wait(pathlib.Path(sys.argv[1]), 10):
    print("held", flush=True)
    sys.stdin.read()
"""


@contextmanager
def held_by_another(lock: Path) -> Iterator["subprocess.Popen[bytes]"]:
    """Let another process hold a lock until the block ends, or it is told to end."""
    command = [sys.executable, "-c", HOLDER, str(lock)]
    environment = {"PYTHONPATH": ":".join(sys.path)}
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment) as process:
        assert process.stdout.readline() == b"held\n"
        yield process
        process.stdin.close()


def test_a_lock_that_is_held_is_refused_at_once_with_holder_file_and_remedy(tmp_path, monkeypatch):
    lock = tmp_path / "deep" / "lock"
    with held_by_another(lock):
        monkeypatch.setattr(time, "sleep", lambda _: pytest.fail("waits for the holder"))
        with pytest.raises(CnnzooError) as fault, lock_or_fail(lock, "another run is training", "Wait for it."):
            pytest.fail("two hold one lock")
        assert str(fault.value) == f"another run is training (it holds {lock}). Wait for it."
    with lock_or_fail(lock, "another run", "Wait."):
        pass


def test_a_killed_holder_holds_nothing(tmp_path):
    lock = tmp_path / "lock"
    with held_by_another(lock) as process:
        process.kill()
        process.wait()
        with lock_or_fail(lock, "another run", "Wait."):
            pass


def test_a_patient_one_waits_for_the_holder_and_gives_up_in_the_end(tmp_path):
    lock = tmp_path / "lock"
    with held_by_another(lock) as process:
        with pytest.raises(TimeoutError), lock_or_wait(lock, 0.1):
            pytest.fail("two hold one lock")
        threading.Timer(0.3, process.stdin.close).start()
        with lock_or_wait(lock, 60):
            pass


def test_a_lock_is_free_again_after_an_error(tmp_path):
    lock = tmp_path / "lock"
    for hold in (lambda: lock_or_fail(lock, "another run", "Wait."), lambda: lock_or_wait(lock, 0.0)):
        with pytest.raises(ValueError, match="a bug"), hold():
            raise ValueError("a bug")
