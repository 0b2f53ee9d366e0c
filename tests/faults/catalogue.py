"""What a fault is, and how the catalogue is read.

A fault replaces one piece of text in one file, as a developer's slip would. It names the tests that should notice it;
the campaign runs those alone, so that each fault takes seconds.

    [[fault]]
    name = "split-seed"                            # unique, lower case with hyphens
    what = "stage `assemble` draws the split with seed 0 instead of the project's"
    file = "src/cnnzoo/stages/assemble.py"
    old = "context.params.seed)"                   # occurs exactly once in the file
    new = "0)"
    tests = ["tests/test_stages.py"]               # files or node ids of pytest
    # unnoticed = "why no test can notice it"      # only where that is so
"""

import tomllib
from dataclasses import dataclass
from pathlib import Path

from imports import ROOT

FOLDER = Path(__file__).parent


@dataclass(frozen=True)
class Fault:
    """One mistake: `old` becomes `new` in `file`, and one of `tests` should fail."""

    group: str
    """Name of the catalogue file, without its ending."""
    name: str
    what: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]
    unnoticed: str = ""
    """Why no test notices it; empty where one must."""

    @property
    def id(self) -> str:
        """Group and name."""
        return f"{self.group}/{self.name}"

    def apply(self, root: Path) -> None:
        """Put the fault into a copy of the project; raises `ValueError` unless `old` occurs exactly once."""
        path = root / self.file
        text = path.read_text(encoding="utf-8")
        if text.count(self.old) != 1:
            raise ValueError(f"{self.id}: `old` occurs {text.count(self.old)} times in {self.file}, expected once")
        path.write_text(text.replace(self.old, self.new), encoding="utf-8")


def read_catalogue(folder: Path = FOLDER) -> list[Fault]:
    """Read all faults, in the order of files and entries; raises `TypeError` for an unknown or missing key."""
    return [
        Fault(group=path.stem, **(entry | {"tests": tuple(entry["tests"])}))
        for path in sorted(folder.glob("*.toml"))
        for entry in tomllib.loads(path.read_text(encoding="utf-8"))["fault"]
    ]


def missing_tests(fault: Fault, root: Path = ROOT) -> list[str]:
    """Return the tests that a fault names and that are not there."""
    missing = []
    for test in fault.tests:
        file, _, name = test.partition("::")
        text = (root / file).read_text(encoding="utf-8") if (root / file).is_file() else ""
        if not text or (name and f"\ndef {name.partition('[')[0]}(" not in text):
            missing.append(test)
    return missing
