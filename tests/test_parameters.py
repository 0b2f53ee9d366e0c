"""Every parameter of params.yaml acts where it should and nowhere else.

ROWS is a table with one row or more a parameter: another value than that of the small project, the stages that DVC
must run again because of it (and, by complement, those it must not), and what must change in the files that the stages
write, with what must stay. DVC itself judges the first, the real stages on the small project the second.
"""

import json
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from dvc.dependency.param import ParamsDependency
from dvc.repo import Repo
from ruamel.yaml import YAML

from builders import make_recipes, make_shards
from cnnzoo.config import validate
from cnnzoo.core.errors import CnnzooError
from cnnzoo.kernel import unavailable_reason
from cnnzoo.training.cohorts import cohort_of
from cnnzoo.training.engines.choice import choose
from cnnzoo.zoo import recipes
from imports import ROOT
from parameter_rows import FEW, ROWS, Row, same_weights, shards
from small_project import ALPHA, BETA, DATASETS, SmallProject, enter_dvc_project, small_params


@pytest.fixture(scope="module", autouse=True)
def _own_record() -> Iterator[None]:
    """Keep every project's runs in its own folder."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        yield


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> SmallProject:
    """The small project with everything but the report; its shards are synthetic, so that accuracy can be predicted."""
    project = SmallProject.make(tmp_path_factory.mktemp("parameters") / "base")
    for collection in (ALPHA, BETA):
        project.run("recipes", collection)
        drawn = recipes.read(project.artifacts.recipes(collection))
        make_shards(project.artifacts.checkpoints(collection), drawn, collection)
        for stage in ("assemble", "features", "search", "forecast"):
            project.run(stage, collection)
    project.run("evaluate")
    return project


@pytest.fixture(scope="module")
def former(base, tmp_path_factory) -> Callable[[Row], SmallProject]:
    """Give the project before a parameter is changed, made once for all rows that have it in common."""
    made: dict[str, SmallProject] = {}

    def make(row: Row) -> SmallProject:
        if not row.given:
            return base
        key = json.dumps([row.given, row.runs])
        if key not in made:
            made[key] = run(base, tmp_path_factory.mktemp("former") / "project", row.given, row.runs)
        return made[key]

    return make


def run(base: SmallProject, root: Path, changes: Mapping[str, object], runs: str) -> SmallProject:
    """Return a copy of the project where some stages have run on changed parameters."""
    project = base.copy(root)
    project.configure(changes)
    if "search@alpha" in runs:
        shutil.rmtree(project.artifacts.models(ALPHA))  # as DVC does
    for stage in runs.split():
        project.run(*stage.split("@"))
    return project


ACTING = [row for row in ROWS if row.check]


@pytest.mark.slow
@pytest.mark.parametrize("row", ACTING, ids=[row.name for row in ACTING])
def test_a_parameter_changes_what_it_names_and_nothing_else(base, former, tmp_path, row):
    before = former(row)
    after = run(base, tmp_path / "project", {**row.given, row.key: row.value}, row.runs)
    row.check(before, after)


def leaves(value: object, key: str = "") -> Iterator[str]:
    """Yield the dotted keys of a file of parameters; a distribution and an empty mapping are one value."""
    distributions = {"choice", "uniform", "log_uniform"}
    if isinstance(value, dict) and value and not distributions & value.keys():
        for name, inner in value.items():
            yield from leaves(inner, f"{key}.{name}" if key else name)
    else:
        yield key


def test_every_parameter_has_a_row():
    data = YAML(typ="safe").load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    shipped = {key.replace("populations.mnist5k", "populations.alpha") for key in leaves(data)}
    assert shipped | {"populations.alpha.epochs"} == {row.key for row in ROWS}


def test_a_row_changes_the_parameter():
    for row in ROWS:
        params: Any = small_params(row.given)
        for part in row.key.split("."):
            params = params.get(part)
        assert params != row.value, row.key


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory) -> Path:
    """A DVC project whose stages are all up to date; their files are stand-ins, of their code one file is there."""
    root = tmp_path_factory.mktemp("pipeline")
    project = SmallProject(root)
    project.configure()
    lines = (ROOT / "dvc.yaml").read_text(encoding="utf-8").splitlines(keepends=True)
    (root / "dvc.yaml").write_text(
        "".join(line for line in lines if "- src/" not in line or "- src/cnnzoo/stages" in line)
    )
    with pytest.MonkeyPatch.context() as patch:
        enter_dvc_project(root, patch)
        repo = Repo.init(str(root), no_scm=True)
        for stage in repo.index.stages:
            for path in (Path(item.fs_path) for item in (*stage.deps, *stage.outs) if item.def_path != "params.yaml"):
                file = path if path.suffix else path / "content"
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_text(str(file.relative_to(root)))
        repo.commit(force=True)
    return root


def outdated(
    pipeline: Path, changes: Mapping[str, object], monkeypatch: pytest.MonkeyPatch
) -> tuple[set[str], set[str]]:
    """Return the stages that DVC would run because of changed parameters alone: those that were there, and new ones."""
    enter_dvc_project(pipeline, monkeypatch)
    project = SmallProject(pipeline)
    try:
        project.configure()
        known = {stage.addressing for stage in Repo(str(pipeline)).index.stages}
        project.configure(changes)
        changed = set(Repo(str(pipeline)).status())
    finally:
        project.configure()
    return changed & known, changed - known


def instances(stages: str) -> set[str]:
    """Return the names of DVC's stages: `features` stands for that of both collections."""
    found: set[str] = set()
    for stage in stages.split():
        is_single = "@" in stage or stage in ("evaluate", "report")
        found |= {stage} if is_single else {f"{stage}@{ALPHA}", f"{stage}@{BETA}"}
    return found


def resolved_parameters(pipeline: Path) -> list[tuple[str, str]]:
    """Return each stage with each of its parameters, as DVC resolves them."""
    stages = Repo(str(pipeline)).index.stages
    deps = [(stage.addressing, dep) for stage in stages for dep in stage.deps if isinstance(dep, ParamsDependency)]
    return [(stage, name) for stage, dep in deps for name in dep.params]


def depending(names: list[tuple[str, str]], key: str) -> set[str]:
    """Return the stages among whose parameters is a key, or what it is a part of or holds."""
    return {stage for stage, name in names if f"{key}.".startswith(f"{name}.") or f"{name}.".startswith(f"{key}.")}


UNLIKE = {row.key: row for row in ROWS}


def test_stages_depend_on_the_parameters_of_the_table_and_on_no_others(pipeline, monkeypatch):
    enter_dvc_project(pipeline, monkeypatch)
    names = resolved_parameters(pipeline)
    assert {key: depending(names, key) for key in UNLIKE} == {key: instances(row.reruns) for key, row in UNLIKE.items()}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("key", "more"),
    [
        ("seed", ""),
        ("populations.alpha.dataset", "train@alpha"),  # whose images are other files
        ("train.engine", ""),
        ("forecast.features", ""),
        ("collections", ""),
        ("runtime.threads", ""),
    ],
)
def test_dvc_runs_what_depends_on_a_parameter_and_nothing_else(pipeline, monkeypatch, key, more):
    row = UNLIKE[key]
    assert outdated(pipeline, {key: row.value}, monkeypatch)[0] == instances(f"{row.reruns} {more}")


@pytest.mark.slow
def test_nothing_is_outdated_at_first(pipeline, monkeypatch):
    assert outdated(pipeline, {}, monkeypatch) == (set(), set())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("changes", "added"),
    [
        ({"datasets": [*DATASETS.values(), "cifar10"]}, {"images@cifar10"}),
        (
            {"populations.gamma": {"dataset": "mnist5k", "networks": 4, "minibatch": 8}},
            {"recipes@gamma", "train@gamma", "assemble@gamma"},
        ),
        (
            {"imported": {"gamma": {"dataset": "mnist"}}, "collections": [ALPHA, BETA, "gamma"]},
            {"features@gamma", "search@gamma", "forecast@gamma"},
        ),
    ],
    ids=["datasets", "populations", "collections"],
)
def test_lists_of_names_add_stages(pipeline, monkeypatch, changes, added):
    assert outdated(pipeline, changes, monkeypatch)[1] == added


TRAINING = "recipes@alpha train@alpha"


@pytest.fixture(scope="module")
def trained(base, tmp_path_factory) -> SmallProject:
    """Six networks, trained on one thread without a resume point."""
    return run(base, tmp_path_factory.mktemp("trained") / "project", FEW, TRAINING)


@pytest.mark.slow
def test_threads_reach_torch_and_the_engine_and_change_no_weight(base, trained, tmp_path, monkeypatch):
    taken = []
    monkeypatch.setattr("torch.set_num_threads", taken.append)
    project = run(base, tmp_path / "project", FEW | {"runtime.threads": 3}, TRAINING)
    assert taken[0] == 3
    same_weights(trained, project)


@pytest.mark.skipif(unavailable_reason() is not None, reason="the native kernel is not built here")
@pytest.mark.parametrize("threads", [1, 3])
def test_threads_reach_the_native_engine(threads):
    runtime = validate(small_params({"runtime.threads": threads}), "test").runtime
    alike = make_recipes(2, activation="relu", optimizer="adam", train_fraction=1.0)
    assert choose("native", runtime).make(cohort_of(alike, ALPHA, 28), 8).threads == threads


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="Metal is never there on Linux")
def test_a_device_that_is_not_there_is_told_before_training(base, tmp_path):
    with pytest.raises(CnnzooError, match=r"`runtime\.device=mps`: torch finds no Metal device here"):
        run(base, tmp_path / "project", FEW | {"runtime.device": "mps"}, TRAINING)


class Renamed:
    """Hears which files take their names, as everything does that is written whole or not at all."""

    def __init__(self) -> None:
        self.paths: list[Path] | None = None

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self.paths is not None and event == "os.rename":
            self.paths.append(Path(arguments[1]))


@pytest.fixture(scope="session")
def hook() -> Renamed:
    """Python keeps an audit hook for good, so there is one."""
    listener = Renamed()
    sys.addaudithook(listener)
    return listener


@pytest.fixture
def renamed(hook) -> Iterator[list[Path]]:
    """The files that took their name while the test ran."""
    hook.paths = []
    yield hook.paths
    hook.paths = None


@pytest.mark.slow
def test_resume_points_are_written_as_often_as_the_interval_says_and_change_no_weight(base, trained, tmp_path, renamed):
    """With no interval a point after each epoch but the last; the default is longer than this training."""
    for number, (interval_s, points) in enumerate(((0.0, 1), (3600.0, 0))):
        renamed.clear()
        changes = FEW | {"runtime.resume_interval_s": interval_s}
        project = run(base, tmp_path / str(number), changes, TRAINING)
        folder = project.artifacts.unfinished(ALPHA)
        assert sum(path.parent == folder for path in renamed) == points * len(shards(project))
        assert list(folder.glob("*.safetensors")) == []
        same_weights(trained, project)
