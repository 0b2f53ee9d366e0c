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
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import AbstractContextManager, ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from queue import SimpleQueue
from types import TracebackType

from copies import copy_environment, copy_project, put_kernel
from faults.catalogue import Fault, missing_tests, read_catalogue
from imports import ROOT

COPIED = (
    *("src", "tests", "benchmarks", "docs", ".ci", ".dvc/config", ".dvcignore", ".gitignore", "CMakeLists.txt"),
    *("LICENSE", "Makefile", "README.md", "constraints.txt", "dvc.yaml", "params.yaml", "pyproject.toml"),
)
KERNEL_SOURCES = ("src/cnnzoo/kernel/csrc/", "CMakeLists.txt")
OPTIONS = ("-p", "no:cacheprovider", "--durations=0", "--durations-min=1e9")
LIMIT_S = 900.0
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
        self._server = subprocess.Popen(
            [sys.executable, "-m", "faults.server"],
            cwd=self.root,
            env=self._environment("tests"),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.kill()
        self._server.communicate()
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
            code, output = self._run_pytest(fault.tests)
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

    def check_without_fault(self, tests: Sequence[str], jobs: int) -> None:
        """Raise `SystemExit` if one of these tests fails on sound code."""
        command = [sys.executable, "-m", "pytest", *OPTIONS, "-n", str(jobs), *tests]
        done = subprocess.run(
            command, cwd=self.root, env=self._environment(), capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise SystemExit(f"{done.stdout[-6000:]}\nthese tests fail without a fault (exit status {done.returncode})")

    def _run_pytest(self, tests: Sequence[str]) -> tuple[int, str]:
        """Run tests until one fails; returns pytest's exit status and what it printed."""
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        output = self.root / "output.txt"
        request = {"arguments": [*OPTIONS, "-x", *tests], "output": str(output), "limit_s": LIMIT_S}
        self._server.stdin.write(json.dumps(request) + "\n")
        self._server.stdin.flush()
        return int(self._server.stdout.readline()), output.read_text(encoding="utf-8", errors="replace")

    def _environment(self, *folders: str) -> dict[str, str]:
        """Return the copy's environment; `folders` of it are importable too."""
        environment = copy_environment(self.root)
        search = [environment["PYTHONPATH"], *(str(self.root / folder) for folder in folders)]
        return environment | {"PYTHONPATH": os.pathsep.join(search)}

    def _build_kernel(self) -> None:
        """Compile the copy's own kernel; after the first time only what the fault changed."""
        build, package = self.root / "build", self.root / "src/cnnzoo/kernel"
        for command in (
            ["cmake", "-S", ".", "-B", build, "-G", "Ninja", f"-DPython_EXECUTABLE={sys.executable}"],
            ["cmake", "--build", build],
        ):
            subprocess.run(command, cwd=self.root, env=self._environment(), check=True, capture_output=True, text=True)
        (built,) = build.glob("_native*.so")
        for old in package.glob("_native*.so"):
            old.unlink()
        (package / built.name).write_bytes(built.read_bytes())


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


def narrowest(tests: Iterable[str]) -> list[str]:
    """Return files and node ids without those that lie in one of the files."""
    chosen = sorted(set(tests))
    return [test for test in chosen if "::" not in test or test.partition("::")[0] not in chosen]


def run_campaign(faults: Sequence[Fault], jobs: int, report: Callable[[Result], None]) -> None:
    """Try the faults, `jobs` at a time, each in a copy of the project; `report` is given every result.

    Raises `SystemExit` if their tests fail without a fault.
    """
    idle: SimpleQueue[Copy] = SimpleQueue()

    def attempt(fault: Fault) -> Result:
        copy = idle.get()
        try:
            return copy.test(fault)
        finally:
            idle.put(copy)

    with ExitStack() as stack:
        made = [stack.enter_context(Copy()) for _ in range(min(jobs, len(faults)))]
        tests = narrowest(test for fault in faults for test in fault.tests)
        print(f"without a fault: {len(tests)} test files and tests ...", flush=True)
        made[0].check_without_fault(tests, jobs)
        for copy in made:
            idle.put(copy)
        pool = stack.enter_context(ThreadPoolExecutor(len(made)))
        stack.callback(pool.shutdown, wait=False, cancel_futures=True)  # on Ctrl-C what has not begun never does
        for done in as_completed([pool.submit(attempt, fault) for fault in faults]):
            report(done.result())


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
    if missing := {test for fault in faults for test in missing_tests(fault)}:
        parser.error(f"the catalogue names tests that are not there: {', '.join(sorted(missing))}")
    results = Results(files_digest())
    todo = [fault for fault in faults if fault.id not in results.by_fault]
    tried: list[Result] = []

    def report(result: Result) -> None:
        results.add(result)
        tried.append(result)
        left_s = sum(r.seconds for r in tried) / len(tried) * (len(todo) - len(tried)) / arguments.jobs
        shown = result.by if result.outcome == NOTICED else ""
        place = f"[{len(tried)}/{len(todo)}, {left_s / 60:.0f} min left]"
        print(f"{place} {result.outcome:9} {result.fault}  {shown}", flush=True)

    if todo:
        run_campaign(todo, arguments.jobs, report)
    return summarize(faults, results)


if __name__ == "__main__":
    sys.exit(main())
