"""The import graph of the package, read from the source: no module is run."""

import ast
from collections.abc import Collection
from pathlib import Path

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src"
PACKAGE = SOURCE / "cnnzoo"


def module_file(module: str) -> Path | None:
    """Return the file of a module of this package, None for any other name."""
    path = SOURCE.joinpath(*module.split("."))
    if path.with_suffix(".py").is_file():
        return path.with_suffix(".py")
    return path / "__init__.py" if (path / "__init__.py").is_file() else None


def imported_names(file: Path) -> set[str]:
    """Return the dotted names that a file imports anywhere, in functions too; `from a import b` gives a and a.b."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
    return names


def imported_files(file: Path) -> set[Path]:
    """Return the files of this package that a file imports directly."""
    return {found for name in imported_names(file) if (found := module_file(name)) is not None and found != file}


def closure(file: Path, without: Collection[Path] = ()) -> set[Path]:
    """Return a file and all files of this package that it imports, directly or not.

    Files and folders of `without` are left out with what they alone import.
    """
    seen, waiting = set(), [file]
    while waiting:
        current = waiting.pop()
        if current not in seen and not any(current == other or other in current.parents for other in without):
            seen.add(current)
            waiting.extend(imported_files(current))
    return seen
