"""Faults of `dvc repro` itself: real commands, whose stages are real processes."""

import hashlib
import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO

import numpy as np

from copies import copy_environment, copy_project
from disturbances.campaign import Result
from disturbances.kinds import damage_file
from disturbances.processes import LIMIT_S, SINGLE, Ended, await_session, temporary_folder
from disturbances.project import CHANGES, State, faults_of
from small_project import SmallProject

COPIED = ("src", "dvc.yaml", ".dvc/config", ".dvcignore", ".gitignore")


@dataclass(frozen=True)
class Repro:
    """A `dvc repro` that runs."""

    process: "subprocess.Popen[bytes]"
    log: IO[bytes]

    def wait(self) -> Ended:
        """Wait for its end and for that of stages that live on; raises `TimeoutError` for what hangs."""
        with self.log:
            try:
                self.process.wait(2 * LIMIT_S)
            except subprocess.TimeoutExpired as error:
                os.killpg(self.process.pid, signal.SIGKILL)
                raise TimeoutError(str(error)) from error
            finally:
                await_session(self.process.pid, LIMIT_S)
            self.log.seek(0)
            return Ended(self.process.returncode, self.log.read().decode(errors="replace"))

    def is_running_after(self, seconds: float) -> bool:
        """Wait so long at most; returns whether it still runs."""
        try:
            self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            return True
        return False


@dataclass(frozen=True)
class Repository:
    """A project that runs its own code by `dvc repro`, without git."""

    root: Path
    shim: Path

    @classmethod
    def make(cls, root: Path, shim: Path) -> "Repository":
        """Copy the code and write the parameters of the disturbed project."""
        copy_project(root, COPIED)
        SmallProject(root).configure(CHANGES)
        (root / ".dvc" / "config.local").write_text("[core]\n    no_scm = true\n")
        temporary_folder(root).mkdir()
        return cls(root, shim)

    def start(self, what: str = "") -> "Repro":
        """Start `dvc repro` in a session of its own, with a fault for shim.c."""
        environment = copy_environment(self.root) | SINGLE | {"TMPDIR": str(temporary_folder(self.root))}
        environment.pop("MLFLOW_TRACKING_URI", None)
        for name in ("SITE_CACHE", "GLOBAL_CONFIG", "SYSTEM_CONFIG"):
            environment[f"DVC_{name}_DIR"] = str(self.root / ".dvc" / "tmp" / name.lower())
        if what:
            environment |= {"LD_PRELOAD": str(self.shim), "DISTURB": what}
        log = tempfile.TemporaryFile(dir=self.root.parent)  # noqa: SIM115 - `Repro.wait` closes it
        return Repro(
            subprocess.Popen(
                ["dvc", "repro"],
                cwd=self.root,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            ),
            log,
        )

    def repro(self, what: str = "") -> Ended:
        """Run `dvc repro`."""
        return self.start(what).wait()


def how(ended: Ended) -> str:
    """Return how a `dvc repro` ended: as `Ended.how`, with DVC's own words."""
    said = ended.said.replace("ERROR: failed to reproduce", "error: failed to reproduce")
    if ended.code in {-signal.SIGKILL, -signal.SIGTERM, -signal.SIGINT}:
        return "stopped"
    interrupted = re.search(r"interrupted|exited with (-2|130)$", said, flags=re.MULTILINE)
    if interrupted and ended.code > 0 and "Traceback" not in said:
        return "stopped"
    return Ended(ended.code, said.replace("ERROR:", "error:")).how


Disturb = Callable[[Repository, np.random.Generator], Ended]
"""Disturbs a `dvc repro`."""
SPAN_S = 30.0
"""Within how many seconds a signal comes: so few that a project is not done before the last one."""


def send(number: int, to_group: bool = False) -> Disturb:
    """Return a fault: a signal at a random moment, to DVC alone or, as Ctrl-C does, to all of the terminal."""

    def disturb(repository: Repository, rng: np.random.Generator) -> Ended:
        running = repository.start()
        if running.is_running_after(rng.uniform(1, SPAN_S)):
            (os.killpg if to_group else os.kill)(running.process.pid, number)
        return running.wait()

    return disturb


def fill_disk(repository: Repository, rng: np.random.Generator) -> Ended:
    """Let the disk be full after some bytes that a process writes."""
    return repository.repro(f"full:{int(10 ** rng.uniform(2, 6))}:{repository.root}")


def lock_cache(repository: Repository, _: np.random.Generator) -> Ended:
    """Let DVC's cache be read-only."""
    return repository.repro(f"read-only:{repository.root / '.dvc' / 'cache'}")


def run_twice(repository: Repository, rng: np.random.Generator) -> Ended:
    """Run two at once; one of them has to be refused, or has nothing left to do."""
    first = repository.start()
    time.sleep(rng.uniform(0, SPAN_S))
    second = repository.start()
    ends = [running.wait() for running in (second, first)]
    return max(ends, key=lambda end: end.code)


def damage_cache(repository: Repository, rng: np.random.Generator) -> Ended:
    """Damage an object of the cache, delete the outputs, and let DVC bring them back."""
    objects = sorted(path for path in (repository.root / CACHE).rglob("*") if path.is_file())
    damage_file(objects[int(rng.integers(len(objects)))], rng)
    for folder in ("data", "models"):
        shutil.rmtree(repository.root / folder)
    return repository.repro()


def delete_damaged_objects(repository: Repository) -> None:
    """Delete what is not what its name says, from the cache and, with all else, from the project."""
    for path in (repository.root / CACHE).rglob("*"):
        name = path.parent.name + path.name.removesuffix(".dir")
        if path.is_file() and hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest() != name:
            path.unlink()
    for folder in ("data", "models"):
        shutil.rmtree(repository.root / folder, ignore_errors=True)


DVC = "dvc repro"
"""The name of all of these kinds."""
CACHE = ".dvc/cache/files/md5"
DURING: dict[str, Disturb] = {
    "dvc repro, SIGKILL": send(signal.SIGKILL),
    "dvc repro, SIGTERM": send(signal.SIGTERM),
    "dvc repro, Ctrl-C": send(signal.SIGINT, to_group=True),
    "dvc repro, full disk": fill_disk,
    "dvc repro, read-only cache": lock_cache,
    "dvc repro, two at once": run_twice,
}
AFTERWARDS = "dvc repro, damaged cache object"
GROUP = len(DURING) + 1
"""How many faults a group has."""


def run_group(folder: Path, shim: Path, expected: State, rng: np.random.Generator) -> Iterator[Result]:
    """Disturb `dvc repro` of a new project in each way of DURING; then it is left in peace.

    At last an object of the cache is damaged. What is not as it should be counts as a failure of the last fault. The
    folder stays if there is one.
    """
    repository = Repository.make(folder, shim)
    expected = replace(expected, top=expected.top | {path.name for path in folder.iterdir()} | {"dvc.lock"})
    *first, last = DURING  # one of two gets to the end, so they come last
    failed = False
    for name in (*rng.permutation(first), last, AFTERWARDS):
        result = _disturb(repository, name, rng, expected if name in {last, AFTERWARDS} else None)
        failed |= bool(result.wrong)
        yield result
    if not failed:
        shutil.rmtree(folder)


def _disturb(repository: Repository, name: str, rng: np.random.Generator, expected: State | None) -> Result:
    """Disturb a `dvc repro`; with `expected` it then runs undisturbed, and the project must be so."""
    wrong: list[str] = []
    ended = DURING.get(name, damage_cache)(repository, rng)
    if how(ended) not in {"went on", "stopped", "refused"}:
        wrong.append(f"{how(ended)}: {ended.said[-3000:]}")
    if name == AFTERWARDS:
        delete_damaged_objects(repository)
    if expected is not None:
        again = repository.repro()
        if how(again) != "went on":
            wrong.append(f"run again, {how(again)}: {again.said[-3000:]}")
        wrong += faults_of(repository.root, expected)
    return Result(repository.root.name, name, how(ended), tuple(wrong))
