"""The shape of the code: imports point downwards, and some packages have one owner."""

import ast
from pathlib import Path

import pytest

from imports import PACKAGE, imported_files, imported_names

LAYERS = [
    {"__main__"},
    {"cli"},
    {"stages"},
    {"report", "tracking", "importing", "publishing", "cluster"},
    {"scoring"},
    {"evaluation"},
    {"search"},
    {"predictors", "drawing", "planning"},
    {"data", "features", "training"},
    {"zoo"},
    {"config", "images"},
    {"network"},
    {"kernel"},
    {"core"},
]
"""Highest first. A package imports those below it, none beside it."""
OWNERS = {
    "mlflow": {"tracking"},
    "optuna": {"evaluation", "search", "predictors"},
    "ruamel": {"config", "stages"},  # params.yaml; dvc.lock
    "ray": {"cluster"},
    "nanobind": set(),
}


def layer(file: Path) -> int:
    top = file.relative_to(PACKAGE).parts[0].removesuffix(".py")
    return next(index for index, names in enumerate(LAYERS) if top in names)


def sources() -> list[Path]:
    return sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py")


@pytest.mark.parametrize("file", sources(), ids=lambda file: str(file.relative_to(PACKAGE)))
def test_imports_point_downwards(file):
    imported = imported_files(file) - {PACKAGE / "__init__.py"}
    package = file.relative_to(PACKAGE).parts[0]
    others = {other for other in imported if other.relative_to(PACKAGE).parts[0] != package}
    assert [str(other) for other in others if layer(other) <= layer(file)] == []


@pytest.mark.parametrize("library", OWNERS)
def test_a_library_with_an_owner_is_imported_nowhere_else(library):
    users = {
        str(file.relative_to(PACKAGE).parts[0])
        for file in sources()
        if any(name.split(".")[0] == library for name in imported_names(file))
    }
    assert users <= OWNERS[library]


FORBIDDEN = ("import pickle", "import joblib", "allow_pickle=True", "weights_only=False", "np.random.seed")


@pytest.mark.parametrize("text", FORBIDDEN)
def test_nothing_loads_pickles_or_seeds_globally(text):
    assert [str(file) for file in sources() if text in file.read_text(encoding="utf-8")] == []


MOST_LINES_OF_A_FILE = 350
MOST_LINES_OF_A_FUNCTION = 50
MOST_EXCUSES = 14
"""Lines that excuse themselves from a rule; what the project does by habit is a setting in pyproject.toml."""


def test_files_and_functions_are_short():
    long = []
    for file in sources():
        text = file.read_text(encoding="utf-8")
        functions = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.FunctionDef)]
        lengths = {node.name: (node.end_lineno or node.lineno) - node.lineno + 1 for node in functions}
        long += [f"{file}: {name}" for name, length in lengths.items() if length > MOST_LINES_OF_A_FUNCTION]
        if text.count("\n") > MOST_LINES_OF_A_FILE:
            long.append(str(file))
    assert long == []


def test_few_lines_excuse_themselves_from_a_rule():
    lines = [line for file in sources() for line in file.read_text(encoding="utf-8").splitlines()]
    assert len([line for line in lines if "# noqa" in line or "# type: ignore" in line]) <= MOST_EXCUSES
