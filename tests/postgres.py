"""A PostgreSQL server of one's own: empty, for the length of a `with` block, on this machine only."""

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

START_S = 60


def missing() -> str:
    """Return what is not installed, as text; empty if a server can be started and reached."""
    absent = [name for name in ("initdb", "postgres") if not shutil.which(name)]
    absent += [name for name in ("psycopg",) if find_spec(name) is None]
    return f"not installed: {', '.join(absent)}" if absent else ""


@contextmanager
def postgres(safe: bool = False) -> Iterator[str]:
    """Yield the address of an empty database, for SQLAlchemy; the server and its files are gone afterwards.

    `safe` waits for the disk at every commit, as PostgreSQL does by itself; else a crash of the machine loses data.
    """
    folder = Path(tempfile.mkdtemp(prefix="cnnzoo-postgres-"))
    try:
        os.chown(folder, *_owner())
        _run("initdb", "--pgdata", f"{folder}/data", "--username", "cnnzoo", "--auth", "trust", "--no-sync")
        port = _free_port()
        options = ["-h", "127.0.0.1", "-p", str(port), "-k", str(folder)]
        if not safe:
            options += ["-c", "fsync=off", "-c", "synchronous_commit=off"]
        with (folder / "log").open("wb") as log:
            server = subprocess.Popen(
                [str(shutil.which("postgres")), "-D", f"{folder}/data", *options], stdout=log, stderr=log, **_as_user()
            )
        try:
            _wait(server, folder / "log")
            yield f"postgresql+psycopg://cnnzoo@127.0.0.1:{port}/postgres"
        finally:
            server.send_signal(signal.SIGQUIT)  # at once: nothing of it is kept
            server.wait(START_S)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _owner() -> tuple[int, int]:
    """Return the user and the group that the server runs as: PostgreSQL refuses to run as root."""
    if os.getuid():
        return os.getuid(), os.getgid()
    from pwd import getpwnam

    nobody = getpwnam("nobody")
    return nobody.pw_uid, nobody.pw_gid


def _as_user() -> dict[str, object]:
    user, group = _owner()
    return {} if os.getuid() else {"user": user, "group": group, "extra_groups": []}


def _run(program: str, *arguments: str) -> None:
    found = subprocess.run(
        [str(shutil.which(program)), *arguments], capture_output=True, text=True, check=False, cwd="/", **_as_user()
    )
    assert found.returncode == 0, found.stderr


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait(server: "subprocess.Popen[bytes]", log: Path) -> None:
    end = time.monotonic() + START_S
    while "ready to accept connections" not in log.read_text():
        assert server.poll() is None, log.read_text()
        if time.monotonic() > end:
            raise TimeoutError(log.read_text())
        time.sleep(0.05)
