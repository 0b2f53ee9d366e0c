"""dvc.yaml tells the truth: its deps are what the stages import and read, its outs what they write.

Files go by two steps: what DVC resolves equals the table FILES, and each stage runs in a folder that holds the inputs
of the table alone, needs each of them, and writes the outputs of the table alone. Parameters: a stage declares those
that it reads (tests/test_parameters.py has the opposite: what DVC reruns for each parameter).
"""

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path

import pandas as pd
import pytest
from dvc.dependency.param import ParamsDependency
from dvc.repo import Repo
from pydantic import BaseModel
from ruamel.yaml import YAML

from cnnzoo.config import Params, Section
from cnnzoo.core.errors import CnnzooError
from cnnzoo.stages.entry import StageContext
from imports import PACKAGE, ROOT, closure
from small_project import ALPHA, BETA, DATASETS, STATISTICS, SmallProject, enter_dvc_project

STAGES = YAML(typ="safe").load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
ORDER = ["images", "recipes", "train", "assemble", "features", "search", "forecast", "evaluate", "report"]


def definition(stage: str) -> dict:
    return STAGES[stage].get("do", STAGES[stage])


def source_deps(stage: str) -> list[Path]:
    return [ROOT / dep for dep in definition(stage)["deps"] if dep.startswith("src/")]


GUARDS = (PACKAGE / "stages" / "entry.py", PACKAGE / "tracking", PACKAGE / "cluster")
"""They refuse a run, record it, or spread its work over machines; what a stage writes does not depend on them, so it is
not run again for them."""


def imported(stage: str) -> set[Path]:
    """What a stage runs of this package, without guards and package files that hold a docstring alone."""
    files = closure(PACKAGE / "stages" / f"{stage}.py", GUARDS)
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


@dataclass(frozen=True)
class Files:
    """What a stage reads and writes, beside code and parameters; `{c}` is a collection, `{d}` a data set."""

    reads: tuple[str, ...]
    writes: str
    keeps: bool = False
    """Whether the stage finds what it has written before."""


FILES = {
    "images": Files((), "data/images/{d}.npz"),
    "recipes": Files((), "data/recipes/{c}.csv"),
    "train": Files(("data/images/{d}.npz", "data/recipes/{c}.csv"), "data/checkpoints/{c}", keeps=True),
    "assemble": Files(("data/checkpoints/{c}", "data/recipes/{c}.csv"), "data/zoo/{c}"),
    "features": Files(("data/zoo/{c}",), "data/features/{c}"),
    "search": Files(("data/features/{c}", "data/zoo/{c}"), "models/predictors/{c}"),
    "forecast": Files(("data/features/{c}", "data/zoo/{c}"), "models/forecast/{c}"),
    "evaluate": Files(("data/features", "data/zoo", "models/predictors"), "models/evaluation"),
    "report": Files(
        ("data/features", "data/zoo", "models/evaluation", "models/forecast", "models/predictors"), "models/report"
    ),
}
UNVERSIONED = ("data/unfinished/", "data/downloads/", "mlruns/")
"""What stages write for themselves: it may be deleted at any time, or is rebuilt from what is versioned."""
OVER_ALL = ("evaluate", "report")
INSTANCES = [
    *(("images", dataset) for dataset in DATASETS.values()),
    *((stage, collection) for stage in ORDER[1:-2] for collection in (ALPHA, BETA)),
    *((stage, "") for stage in OVER_ALL),
]
"""The stages of the small project, each with its argument."""


def instance(stage: str, target: str) -> str:
    return f"{stage}@{target}" if target else stage


def of_target(stage: str, target: str) -> Files:
    """Return the files of one stage with the names of its collection or data set."""
    names = {"c": target, "d": DATASETS.get(target, target)}
    files = FILES[stage]
    return Files(tuple(read.format(**names) for read in files.reads), files.writes.format(**names), files.keeps)


@dataclass(frozen=True)
class Resolved:
    """A stage as DVC resolves it, without its code."""

    command: str
    params: tuple[str, ...]
    files: Files


@pytest.fixture(scope="module")
def resolved(tmp_path_factory) -> dict[str, Resolved]:
    """The stages of the small project, with two collections whose names are not those of their data sets."""
    root = tmp_path_factory.mktemp("resolved")
    SmallProject(root).configure()
    shutil.copy(ROOT / "dvc.yaml", root)
    found = {}
    with pytest.MonkeyPatch.context() as patch:
        enter_dvc_project(root, patch)
        for stage in Repo.init(str(root), no_scm=True).index.stages:
            params = [name for dep in stage.deps if isinstance(dep, ParamsDependency) for name in dep.params]
            paths = [dep.def_path for dep in stage.deps if not isinstance(dep, ParamsDependency)]
            (out,) = stage.outs
            reads = tuple(sorted(path for path in paths if not path.startswith("src/")))
            found[stage.addressing] = Resolved(stage.cmd, tuple(params), Files(reads, out.def_path, out.persist))
    return found


def test_every_data_set_and_collection_has_its_stages(resolved):
    assert set(resolved) == {instance(*pair) for pair in INSTANCES}


@pytest.mark.parametrize(("stage", "target"), INSTANCES, ids=[instance(*pair) for pair in INSTANCES])
def test_a_stage_declares_the_files_of_the_table_and_names_its_target(resolved, stage, target):
    found = resolved[instance(stage, target)]
    assert found.files == of_target(stage, target)
    assert found.command == f"python -m cnnzoo.stages.{stage} {target}".strip()


RUN = {
    "features.sets": [STATISTICS],
    "search.trials": 1,
    "search.folds": 4,
    "evaluate.confidence": 0.8,
    "recipes.dropout": {"uniform": [0.123, 0.456]},
    "train.cohort_size": 77,
}
"""What differs from the small project, so that the page can be told from one that shows defaults."""


@dataclass
class Observed:
    """What became of one run of a stage."""

    written: set[str] = field(default_factory=set)
    params: set[str] = field(default_factory=set)
    """The dotted keys of the parameters that were read."""


@contextmanager
def reading(params: Params, found: set[str]) -> Iterator[None]:
    """Add to `found` the keys of all parameters that are read from a record or its sections."""
    keys: dict[int, str] = {}

    def name(value: object, key: str) -> None:
        entries = value if isinstance(value, dict) else dict(value) if isinstance(value, BaseModel) else {}
        if isinstance(value, BaseModel):
            keys[id(value)] = key
        for part, entry in entries.items():
            name(entry, f"{key}.{part}" if key else part)

    name(params, "")

    def get(self: object, attribute: str) -> object:
        value = object.__getattribute__(self, attribute)
        key = keys.get(id(self))
        if key is not None and attribute in type(self).model_fields and not isinstance(value, BaseModel):
            path = f"{key}.{attribute}" if key else attribute
            if path not in ("populations", "imported"):  # whose entries count
                found.add(path)
        elif key and attribute == "model_dump":
            found.add(key)
        return value

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Section, "__getattribute__", get)
        yield


def run_alone(whole: SmallProject, root: Path, stage: str, target: str, reads: tuple[str, ...]) -> Observed:
    """Run a stage in a folder that holds some inputs only; what it writes is copied to the whole project."""
    record = ("mlruns",) if (whole.root / "mlruns").exists() else ()
    alone = whole.copy(root, "params.yaml", *reads, *record)
    before, seen = alone.files(), Observed()
    params = alone.params
    function = getattr(import_module(f"cnnzoo.stages.{stage}"), stage)
    with reading(params, seen.params):
        function(StageContext(alone.artifacts, params, target))
    after = alone.files()
    seen.written = {name for name in after if after[name] != before.get(name)}
    for name in seen.written:
        (whole.root / name).parent.mkdir(parents=True, exist_ok=True)
        (whole.root / name).write_bytes(after[name])
    return seen


RUNS = INSTANCES[len(DATASETS) :]
"""All but `images`: tests/stages/test_images_stage.py."""


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> tuple[SmallProject, dict[str, Observed]]:
    """The small project, each stage of which ran with the inputs of the table alone."""
    root = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        whole = SmallProject.make(root / "whole", RUN)
        found = {}
        for stage, target in RUNS:
            name = instance(stage, target)
            found[name] = run_alone(whole, root / name, stage, target, of_target(stage, target).reads)
    return whole, found


@pytest.mark.slow
@pytest.mark.parametrize(("stage", "target"), RUNS, ids=[instance(*pair) for pair in RUNS])
def test_a_stage_runs_with_its_inputs_alone_and_writes_its_outputs_alone(runs, stage, target):
    written = {name for name in runs[1][instance(stage, target)].written if not name.startswith(UNVERSIONED)}
    out = of_target(stage, target).writes
    assert written
    assert {name for name in written if name != out and not name.startswith(f"{out}/")} == set()


LACKING = [
    (stage, target, lacking) for stage, target in RUNS for lacking in of_target(stage, target).reads if target != BETA
]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("stage", "target", "lacking"),
    LACKING,
    ids=[f"{instance(stage, target)}-{path}" for stage, target, path in LACKING],
)
def test_a_stage_needs_each_of_its_inputs_and_names_the_one_that_is_not_there(runs, tmp_path, stage, target, lacking):
    whole, _ = runs
    reads = tuple(path for path in of_target(stage, target).reads if path != lacking)
    with pytest.raises(CnnzooError) as caught:
        run_alone(whole, tmp_path / "alone", stage, target, reads)
    # Without shards there is no file that could be named.
    assert lacking in str(caught.value) or "is in no shard" in str(caught.value)


READ_WITHOUT_RERUN = ("runtime.", "images.mirrors")
"""What changes where data come from, or speed."""


@pytest.mark.slow
@pytest.mark.parametrize(("stage", "target"), RUNS, ids=[instance(*pair) for pair in RUNS])
def test_a_stage_declares_every_parameter_that_it_reads(runs, resolved, stage, target):
    name = instance(stage, target)
    declared = [f"{key}." for key in resolved[name].params]
    if stage == "train":
        declared.append(f"populations.{target}.dataset.")  # names the images, which are an input
    read = {key for key in runs[1][name].params if not key.startswith(READ_WITHOUT_RERUN)}
    assert read if stage != "assemble" else read == {"seed"}
    assert sorted(key for key in read if not f"{key}.".startswith(tuple(declared))) == []


@pytest.mark.slow
def test_metrics_and_plots_of_dvc_are_files_and_columns_that_the_stages_write(runs):
    root = runs[0].root
    definition = YAML(typ="safe").load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))
    for name in definition["metrics"]:
        assert json.loads((root / name).read_text()), name
    tables = 0
    for plot in definition["plots"]:
        if isinstance(plot, str):
            assert any((root / plot).iterdir()), plot
            continue
        (options,) = plot.values()
        for name, columns in options["y"].items():
            table = pd.read_csv(root / name)
            wanted = [options["x"], *(columns if isinstance(columns, list) else [columns])]
            assert [column for column in wanted if column not in table] == []
            assert len(table)
            tables += 1
    assert tables == 7


@pytest.mark.slow
def test_the_report_shows_the_parameters_that_determine_results(runs):
    whole = runs[0]
    page = (whole.artifacts.report / "index.html").read_text(encoding="utf-8").replace("&#34;", '"')
    shown = ("seed", "populations", "imported", "recipes", "train", "features", "search", "forecast", "evaluate")
    params = whole.params.model_dump(mode="json", exclude_none=True)
    for section in shown:
        entries = params[section].items() if isinstance(params[section], dict) else [(section, params[section])]
        for key, value in entries:
            text = f"{key}: {json.dumps(value)}" if isinstance(params[section], dict) else str(value)
            assert text in page, section
    assert "80% bootstrap intervals" in page
    assert list(json.loads((whole.artifacts.report / "summary.json").read_text())) == [ALPHA, BETA]
