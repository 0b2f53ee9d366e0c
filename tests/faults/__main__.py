"""The fault campaign: `make faults`, or `PYTHONPATH=tests python -m faults [--jobs N] [PART OF A NAME ...]`.

Each fault is put into a copy of the project, the tests that it names run there, and it counts as noticed if one of
them fails. Before that the same tests run without a fault and must pass. Results are kept in build/faults under a
digest of all files that are copied, so an interrupted campaign goes on where it was. The exit status is 0 if every
fault is noticed, except those that say why they cannot be.
"""

import argparse
import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import AbstractContextManager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from queue import SimpleQueue
from types import TracebackType

from copies import copy_environment, copy_project, put_kernel
from faults.catalogue import Fault, read_catalogue
from imports import ROOT

COPIED = (
    *("src", "tests", "benchmarks", "docs", ".ci", ".dvc/config", ".dvcignore", ".gitignore", "CMakeLists.txt"),
    *("LICENSE", "Makefile", "README.md", "constraints.txt", "dvc.yaml", "params.yaml", "pyproject.toml"),
)
KERNEL_SOURCES = ("src/cnnzoo/training/csrc/", "CMakeLists.txt")
PYTEST = (sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--durations=0", "--durations-min=1e9")
LIMIT_S = 1800
NOTICED, UNNOTICED, ERROR = "noticed", "unnoticed", "error"


@dataclass(frozen=True)
class Result:
    """What became of one fault."""

    fault: str
    outcome: str
    seconds: float
    by: str
    """The first test that failed, or the end of what an erroneous run printed."""


class Copy(AbstractContextManager["Copy"]):
    """A copy of the project in a temporary folder, in which one fault at a time is tried."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="cnnzoo-faults-")
        self.root = Path(self._folder.name)
        copy_project(self.root, (name for name in COPIED if (ROOT / name).exists()))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._folder.cleanup()

    def test(self, fault: Fault) -> Result:
        """Put the fault in, run its tests, take the fault out."""
        path = self.root / fault.file
        sound, begun = path.read_bytes(), time.monotonic()
        is_native = fault.file.startswith(KERNEL_SOURCES)
        try:
            fault.apply(self.root)
            if is_native:
                self._build_kernel()
            code, output = self.run([*PYTEST, "-x", *fault.tests])
        except (ValueError, subprocess.CalledProcessError) as error:
            code, output = -1, f"{error}{getattr(error, 'stdout', '') or ''}"
        finally:
            path.write_bytes(sound)
            if is_native:
                put_kernel(self.root)
        outcome = {0: UNNOTICED, 1: NOTICED}.get(code, ERROR)
        failed = re.findall(r"^(?:FAILED|ERROR) (\S+)", output, flags=re.MULTILINE)
        by = failed[0] if outcome == NOTICED and failed else output[-2000:] if outcome == ERROR else ""
        return Result(fault.id, outcome, round(time.monotonic() - begun, 1), by)

    def run(self, command: Sequence[str]) -> tuple[int, str]:
        """Run a command in the copy; returns its exit status and what it printed. Nothing that it started survives."""
        process = subprocess.Popen(
            command,
            cwd=self.root,
            env=copy_environment(self.root),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,
        )
        try:
            output, _ = process.communicate(timeout=LIMIT_S)
        except subprocess.TimeoutExpired:
            return -1, f"did not end within {LIMIT_S} s"
        finally:
            _kill_group(process.pid)
        return process.returncode, output

    def _build_kernel(self) -> None:
        """Compile the copy's own kernel; after the first time only what the fault changed."""
        build, package = self.root / "build", self.root / "src/cnnzoo/training"
        for command in (
            ["cmake", "-S", ".", "-B", build, "-G", "Ninja", f"-DPython_EXECUTABLE={sys.executable}"],
            ["cmake", "--build", build],
        ):
            subprocess.run(
                command, cwd=self.root, env=copy_environment(self.root), check=True, capture_output=True, text=True
            )
        (built,) = build.glob("_native*.so")
        for old in package.glob("_native*.so"):
            old.unlink()
        (package / built.name).write_bytes(built.read_bytes())


def _kill_group(pid: int) -> None:
    with suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)


class Results:
    """The results so far of the campaign on one state of the files, a JSON record a line."""

    def __init__(self, digest: str) -> None:
        self._path = ROOT / "build" / "faults" / f"{digest}.jsonl"
        self._path.parent.mkdir(parents=True, exist_ok=True)
        lines = self._path.read_text(encoding="utf-8").splitlines() if self._path.exists() else []
        self.by_fault = {result.fault: result for result in (Result(**json.loads(line)) for line in lines)}

    def add(self, result: Result) -> None:
        """Keep a result."""
        self.by_fault[result.fault] = result
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(asdict(result)) + "\n")


def files_digest() -> str:
    """Return a digest of everything that is copied."""
    digest = hashlib.sha256(sys.version.encode())
    for name in COPIED:
        top = ROOT / name
        for path in sorted(top.rglob("*")) if top.is_dir() else [top]:
            if path.is_file() and "__pycache__" not in path.parts:
                digest.update(f"{path.relative_to(ROOT)}\0".encode() + path.read_bytes())
    return digest.hexdigest()[:16]


def check_without_fault(copy: Copy, faults: Iterable[Fault], jobs: int) -> None:
    """Raise `SystemExit` if the tests of some faults fail on sound code."""
    tests = sorted({test for fault in faults for test in fault.tests})
    whole = {test for test in tests if "::" not in test}
    chosen = [test for test in tests if test in whole or test.partition("::")[0] not in whole]
    print(f"without a fault: {len(chosen)} test files and tests ...", flush=True)
    code, output = copy.run([*PYTEST, "-n", str(jobs), "--dist", "loadfile", *chosen])
    if code:
        raise SystemExit(f"{output[-6000:]}\nthese tests fail without any fault (exit status {code})")


def run_campaign(faults: Sequence[Fault], jobs: int, report: Callable[[Result], None]) -> None:
    """Try the faults, `jobs` at a time, each in a copy of its own; `report` is given every result."""
    copies: SimpleQueue[Copy] = SimpleQueue()
    made = [Copy() for _ in range(min(jobs, len(faults)))]

    def attempt(fault: Fault) -> Result:
        copy = copies.get()
        try:
            return copy.test(fault)
        finally:
            copies.put(copy)

    try:
        check_without_fault(made[0], faults, jobs)
        for copy in made:
            copies.put(copy)
        with ThreadPoolExecutor(len(made)) as pool:
            waiting = [pool.submit(attempt, fault) for fault in faults]
            try:
                for done in as_completed(waiting):
                    report(done.result())
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise
    finally:
        for copy in made:
            copy.__exit__(None, None, None)


def summarize(faults: Sequence[Fault], results: Results) -> int:
    """Print what was noticed and what was not; return the exit status."""
    outcomes = {fault: results.by_fault[fault.id] for fault in faults}
    noticed = [fault for fault, result in outcomes.items() if result.outcome == NOTICED]
    open_faults = [fault for fault, result in outcomes.items() if result.outcome != NOTICED and not fault.unnoticed]
    for fault, result in outcomes.items():
        if result.outcome != NOTICED:
            print(f"\n{result.outcome}: {fault.id} ({fault.file})\n  {fault.what}\n  {fault.unnoticed or result.by}")
    print(f"\n{len(noticed)} of {len(faults)} faults noticed ({len(noticed) / len(faults):.1%})")
    return 1 if open_faults else 0


def main() -> int:
    """Run the campaign on the chosen faults."""
    parser = argparse.ArgumentParser(prog="python -m faults", description=__doc__)
    parser.add_argument("names", nargs="*", help="parts of the names of faults, such as `training/`; default: all")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="faults tried at the same time")
    arguments = parser.parse_args()
    faults = [f for f in read_catalogue() if not arguments.names or any(name in f.id for name in arguments.names)]
    if not faults:
        parser.error(f"no fault has a name with {' or '.join(arguments.names)}")
    results = Results(files_digest())
    todo = [fault for fault in faults if fault.id not in results.by_fault]
    begun, done = time.monotonic(), 0

    def report(result: Result) -> None:
        nonlocal done
        results.add(result)
        done += 1
        left = (time.monotonic() - begun) / done * (len(todo) - done)
        shown = result.by if result.outcome == NOTICED else ""
        print(f"[{done}/{len(todo)}, {left / 60:.0f} min left] {result.outcome:9} {result.fault}  {shown}", flush=True)

    if todo:
        run_campaign(todo, arguments.jobs, report)
    return summarize(faults, results)


if __name__ == "__main__":
    sys.exit(main())
