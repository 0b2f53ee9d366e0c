"""The shape of the code: imports point downwards, and some packages have one owner."""

from pathlib import Path

import pytest

from imports import PACKAGE, imported_files, imported_names

LAYERS = [
    {"__main__", "cli", "stages"},
    {"report", "search", "evaluation", "forecasting", "tracking", "planning", "scoring", "importing"},
    {"tuning"},
    {"predictors"},
    {"features", "scores", "drawing"},
    {"collection"},
    {"training"},
    {"network", "recipes", "images"},
    {"artifacts", "atomic", "config", "cores", "locks", "seeds", "workers"},
    {"feature_names"},
    {"feature_parts"},
    {"hyperparameters", "layout"},
    {"errors"},
]
"""Highest first. A module may import its own layer and those below."""
OWNERS = {
    "mlflow": {"tracking"},
    "optuna": {"forecasting.py", "search", "tuning", "predictors"},
    "ruamel": {"config.py"},
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
    assert [str(other) for other in imported if layer(other) < layer(file)] == []


@pytest.mark.parametrize("library", OWNERS)
def test_a_library_with_an_owner_is_imported_nowhere_else(library):
    users = {
        str(file.relative_to(PACKAGE).parts[0])
        for file in sources()
        if any(name.split(".")[0] == library for name in imported_names(file))
    }
    assert users <= OWNERS[library] | {f"{owner}.py" for owner in OWNERS[library]}


FORBIDDEN = ("import pickle", "import joblib", "allow_pickle=True", "weights_only=False", "np.random.seed")


@pytest.mark.parametrize("text", FORBIDDEN)
def test_nothing_loads_pickles_or_seeds_globally(text):
    assert [str(file) for file in sources() if text in file.read_text(encoding="utf-8")] == []
