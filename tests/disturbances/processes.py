"""The processes of a campaign: stages as forks of a server, what they said, and what is left of them."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

LIMIT_S = 300.0
"""A process that runs longer hangs."""
GRACE_S = 20.0
"""How long children may outlive a process that was killed."""
SINGLE = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")


@dataclass(frozen=True)
class Fault:
    """What a process has to bear from its start."""

    environment: Mapping[str, str] = field(default_factory=dict)
    what: str = ""
    """For shim.c."""
    memory_bytes: int | None = None
    """How much more address space it may take than it has at its start."""


NO_FAULT = Fault()


@dataclass(frozen=True)
class Ended:
    """A process that has ended."""

    code: int
    """Negative: the signal that ended it."""
    said: str

    @property
    def how(self) -> str:
        """`went on`, `stopped` (by a signal), `refused` (with a clear error), or what is wrong with its end.

        `aborted`: by a native library, which is all that it can do where no memory is left.
        """
        traceback = "Traceback" in self.said and "Exception ignored in atexit callback" not in self.said
        interrupted = self.code == 128 + signal.SIGINT and self.said.rstrip().endswith("KeyboardInterrupt")
        if -self.code in {signal.SIGKILL, signal.SIGTERM, signal.SIGINT} or interrupted:  # before our own handler
            return "stopped"
        if traceback or self.code < 0:
            return (
                "aborted" if self.code == -signal.SIGABRT else f"exit status {self.code}{', a traceback' * traceback}"
            )
        if self.code and "error: interrupted" in self.said:
            return "stopped" if self.code > 128 else f"interrupted, but exit status {self.code}"
        unclear = f"exit status {self.code} without an error message"
        return "went on" if self.code == 0 else "refused" if "error: " in self.said else unclear


@dataclass
class Running:
    """A stage that runs."""

    pid: int
    log: Path
    server: "Server"
    code: int | None = None

    def has_ended_within(self, seconds: float, number: int = 0) -> bool:
        """Wait so long at most, then send a signal, if any; returns whether it had ended before."""
        if self.code is None:
            self.code = self.server.wait(self.pid, seconds, number)
        return self.code is not None

    def wait(self) -> Ended:
        """Wait for its end, and for that of its children; raises `TimeoutError` for what hangs."""
        if not self.has_ended_within(LIMIT_S, signal.SIGKILL):
            self.server.wait(self.pid, LIMIT_S)
            raise TimeoutError(f"still running after {LIMIT_S:.0f} s: {self.log.read_text(errors='replace')[-1000:]}")
        assert self.code is not None
        await_session(self.pid)
        return Ended(self.code, self.log.read_text(errors="replace"))


class Server(AbstractContextManager["Server"]):
    """The process whose forks run the stages, with shim.c preloaded."""

    def __init__(self, folder: Path, *options: str) -> None:
        self.folder = folder
        self.shim = build_shim(folder)
        self._count = 0
        search = os.pathsep.join([str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
        environment = os.environ | SINGLE | {"LD_PRELOAD": str(self.shim), "PYTHONPATH": search.rstrip(os.pathsep)}
        environment |= {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_LOGGING_LEVEL": "WARNING"}
        environment.pop("MLFLOW_TRACKING_URI", None)
        command = [sys.executable, "-m", "disturbances.server", *options]
        self._process = subprocess.Popen(
            command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self._answer() == "ready", "the server of stages did not start"

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(60)

    def start(self, folder: Path, module: str, *arguments: str, fault: Fault = NO_FAULT) -> Running:
        """Start `python -m module arguments` in a folder."""
        self._count += 1
        log = self.folder / f"{self._count:05d}-{module.rpartition('.')[2]}.log"
        temporary = temporary_folder(folder)
        temporary.mkdir(exist_ok=True)
        start = {
            "module": module,
            "arguments": arguments,
            "folder": str(folder),
            "log": str(log),
            "environment": {"TMPDIR": str(temporary), **fault.environment},
            "what": fault.what,
            "memory_bytes": fault.memory_bytes,
        }
        return Running(int(self._ask({"start": start})), log, self)

    def wait(self, pid: int, limit_s: float, number: int = 0) -> int | None:
        """Return the exit status of a process; None if it still runs after `limit_s` seconds, and got the signal."""
        answer: int | None = json.loads(self._ask({"wait": {"pid": pid, "limit_s": limit_s, "number": number}}))
        return answer

    def _ask(self, request: object) -> str:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        return self._answer()

    def _answer(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()


def temporary_folder(project: Path) -> Path:
    """Return where the processes of a project put temporary files."""
    return project.with_name(f"{project.name}-tmp")


def build_shim(folder: Path) -> Path:
    """Compile shim.c into a folder."""
    library = folder / "shim.so"
    source = Path(__file__).with_name("shim.c")
    subprocess.run(["cc", "-O1", "-shared", "-fPIC", "-o", library, source, "-ldl"], check=True)
    return library


def session_members(session: int) -> list[int]:
    """Return the processes of a session that have not ended."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            fields = (entry / "stat").read_text().rpartition(")")[2].split() if entry.name.isdecimal() else []
        except OSError:
            continue  # has ended
        if fields and int(fields[3]) == session and fields[0] != "Z":
            found.append(int(entry.name))
    return found


def await_session(session: int, limit_s: float = GRACE_S) -> None:
    """Wait until no process of a session is left; ends those that stay, and raises `TimeoutError` for them."""
    deadline = time.monotonic() + limit_s
    while left := session_members(session):
        if time.monotonic() > deadline:
            names = [Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode() for pid in left]
            for pid in left:
                os.kill(pid, signal.SIGKILL)
            raise TimeoutError(f"processes left behind: {names}")
        time.sleep(0.01)
