"""dvc.yaml tells the truth: its deps are what the stages import, its templates fit params.yaml."""

from pathlib import Path

import pytest
from ruamel.yaml import YAML

from imports import PACKAGE, ROOT, closure

STAGES = YAML(typ="safe").load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
ORDER = ["images", "recipes", "train", "assemble", "features", "search", "forecast", "evaluate", "report"]


def definition(stage: str) -> dict:
    return STAGES[stage].get("do", STAGES[stage])


def source_deps(stage: str) -> list[Path]:
    return [ROOT / dep for dep in definition(stage)["deps"] if dep.startswith("src/")]


def imported(stage: str) -> set[Path]:
    """What a stage runs of this package, without package files that hold a docstring alone."""
    files = closure(PACKAGE / "stages" / f"{stage}.py")
    return {file for file in files if file.name != "__init__.py" or "import" in file.read_text(encoding="utf-8")}


def test_the_stages_are_those_of_the_design_in_order():
    assert list(STAGES) == ORDER


@pytest.mark.parametrize("stage", ORDER)
def test_a_stage_has_a_description_and_runs_its_own_module(stage):
    assert len(definition(stage)["desc"]) > 20
    assert definition(stage)["cmd"].startswith(f"python -m cnnzoo.stages.{stage}")


@pytest.mark.parametrize("stage", ORDER)
def test_a_stage_depends_on_every_module_that_it_imports(stage):
    deps = source_deps(stage)
    missing = {file for file in imported(stage) if not any(file == dep or dep in file.parents for dep in deps)}
    assert sorted(str(file.relative_to(ROOT)) for file in missing) == []


@pytest.mark.parametrize("stage", ORDER)
def test_a_stage_depends_on_nothing_that_it_does_not_import(stage):
    files = imported(stage)
    idle = [dep for dep in source_deps(stage) if not any(file == dep or dep in file.parents for file in files)]
    assert sorted(str(dep.relative_to(ROOT)) for dep in idle) == []
