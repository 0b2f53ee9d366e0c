"""Every parameter of params.yaml acts where it should and nowhere else.

ROWS is a table with one row or more a parameter: another value than that of the small project, the stages that DVC
must run again because of it (and, by complement, those it must not), and what must change in the files that the stages
write, with what must stay. DVC itself judges the first, the real stages on the small project the second.
"""

import json
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from dvc.dependency.param import ParamsDependency
from dvc.repo import Repo
from ruamel.yaml import YAML
from sklearn.model_selection import cross_val_predict

from builders import make_recipes, make_shards
from cnnzoo import recipes
from cnnzoo.config import validate
from cnnzoo.errors import CnnzooError
from cnnzoo.predictors import LogitLinear
from cnnzoo.training.cohorts import cohort_of
from cnnzoo.training.engines.choice import choose
from cnnzoo.training.engines.native import unavailable_reason
from cnnzoo.training.shards import Shard, read_shards
from cnnzoo.tuning import draw_folds
from imports import ROOT
from small_project import ALPHA, BETA, DATASETS, NETWORKS, STATISTICS, SmallProject, small_params

Check = Callable[[SmallProject, SmallProject], None]
"""Compares the files of a run with the former value and of one with the new value."""
SEARCHED = ("search", "evaluate", "report")
CHECKPOINTS = 3
"""Rows of a network: epochs 0, 1 and 2."""
FEW = {"populations.alpha.networks": 6}
ONE_SEARCH = {"search.predictors": ["linear"], "features.sets": ["hyper"], "search.trials": 1}


def draws(project: SmallProject) -> pd.DataFrame:
    """The recipes of `alpha`, one row a network."""
    return pd.read_csv(project.artifacts.recipes(ALPHA), float_precision="round_trip")


def only_changes(column: str, expected: Callable[[pd.Series], Any]) -> Check:
    """Of the recipes one column changes, to what is expected of its former values."""

    def check(before: SmallProject, after: SmallProject) -> None:
        old, new = draws(before), draws(after)
        pd.testing.assert_frame_equal(new.drop(columns=column), old.drop(columns=column))
        wanted = expected(old[column])
        assert not new[column].equals(old[column])
        if pd.api.types.is_float_dtype(new[column]):
            np.testing.assert_allclose(new[column], wanted, rtol=1e-12)
        else:
            assert new[column].tolist() == (list(wanted) if isinstance(wanted, pd.Series) else [wanted] * len(new))

    return check


def every_draw_is_another(before: SmallProject, after: SmallProject) -> None:
    old, new = draws(before), draws(after)
    assert (new["random_seed"] == 1).all()
    for name in ("learning_rate", "l2reg", "init_std", "dropout"):
        assert not np.isin(new[name], old[name]).any(), name
    for name in ("train_fraction", "activation", "w_init"):
        assert not new[name].equals(old[name]), name


def first_networks_stay(before: SmallProject, after: SmallProject) -> None:
    old, new = draws(before), draws(after)
    assert len(new) == NETWORKS + 4
    pd.testing.assert_frame_equal(new.head(NETWORKS), old)


def only_the_split_changes(before: SmallProject, after: SmallProject) -> None:
    old, new = before.files("data/zoo/alpha"), after.files("data/zoo/alpha")
    assert {name for name in old if old[name] != new[name]} == {"split.csv"}
    assert sorted(old["split.csv"].split()) == sorted(new["split.csv"].split())


def shards(project: SmallProject) -> list[Shard]:
    return read_shards(project.artifacts.checkpoints(ALPHA))


def weights(project: SmallProject) -> dict[int, np.ndarray]:
    """The checkpoints of each network of `alpha`."""
    return {
        recipe.network: rows
        for shard in shards(project)
        for recipe, rows in zip(shard.recipes, shard.weights(), strict=True)
    }


def other_minibatches(before: SmallProject, after: SmallProject) -> None:
    assert draws(before).equals(draws(after))
    assert {shard.origin.minibatch for shard in shards(before)} == {8}
    assert {shard.origin.minibatch for shard in shards(after)} == {10}
    old, new = weights(before), weights(after)
    for network, rows in old.items():
        np.testing.assert_array_equal(new[network][0], rows[0])  # the initialisation
        assert (np.abs(new[network][1:] - rows[1:]).max(axis=1) > 1e-6).all(), network


def reference_engine_trains(before: SmallProject, after: SmallProject) -> None:
    assert "reference" not in {shard.origin.engine for shard in shards(before)}
    assert {shard.origin.engine for shard in shards(after)} == {"reference"}
    old, new = weights(before), weights(after)
    for network in old:  # engines agree to rounding
        np.testing.assert_allclose(new[network], old[network], rtol=0, atol=1e-4)


def smaller_cohorts(before: SmallProject, after: SmallProject) -> None:
    sizes = [len(shard.recipes) for shard in shards(after)]
    assert max(len(shard.recipes) for shard in shards(before)) > 1
    assert sizes == [1] * 6
    same_weights(before, after)


def same_weights(before: SmallProject, after: SmallProject) -> None:
    """Bit for bit with an engine whose networks do not see each other, else to rounding."""
    tolerance = 1e-4 if unavailable_reason() else 0
    old, new = weights(before), weights(after)
    assert old.keys() == new.keys()
    for network in old:
        np.testing.assert_allclose(new[network], old[network], rtol=0, atol=tolerance)


def other_feature_sets(before: SmallProject, after: SmallProject) -> None:
    old, new = before.files("data/features/alpha"), after.files("data/features/alpha")
    assert set(old) == {"hyper.parquet", "wstats-layers_0.1.2-qts_0.50.100.parquet", "wnorm-layers_0.1.2-l2.parquet"}
    assert set(new) == {"hyper.parquet", "wstats-glob.parquet", "wnorm-layers_0.1.2-l2.parquet"}
    assert new["hyper.parquet"] == old["hyper.parquet"]
    assert new["wnorm-layers_0.1.2-l2.parquet"] == old["wnorm-layers_0.1.2-l2.parquet"]


def other_forecast_features(before: SmallProject, after: SmallProject) -> None:
    old, new = before.files("data/features/alpha"), after.files("data/features/alpha")
    assert set(new) == {"hyper.parquet", "wstats-layers_0.1.2-qts_0.50.100.parquet", "wnorm-layers_0.1-l1.parquet"}
    assert all(new[name] == old[name] for name in set(old) & set(new))


def searches(project: SmallProject) -> set[tuple[str, ...]]:
    """Predictor and feature set of each search of `alpha` that left a folder."""
    top = project.artifacts.models(ALPHA)
    return {path.relative_to(top).parts[:2] for path in top.rglob("metrics.json")}


def searches_become(*expected: tuple[str, str]) -> Check:
    def check(before: SmallProject, after: SmallProject) -> None:
        assert searches(before) == {("linear", "hyper"), ("linear", "wstats-layers_0.1.2-qts_0.50.100")}
        assert searches(after) == set(expected)

    return check


def study(project: SmallProject, predictor: str = "linear") -> pd.DataFrame:
    path = project.artifacts.predictor(ALPHA, predictor, "hyper") / "study.csv"
    return pd.read_csv(path, float_precision="round_trip")


def more_trials(before: SmallProject, after: SmallProject) -> None:
    old, new = study(before), study(after)
    assert (len(old), len(new)) == (2, 3)
    pd.testing.assert_frame_equal(new.head(2), old)


def other_number_of_folds(before: SmallProject, after: SmallProject) -> None:
    """The first trial's error is scikit-learn's on that many folds of the training half."""
    folder = after.artifacts.zoo(ALPHA)
    split = np.loadtxt(folder / "split.csv", dtype=int)
    final = split[split % CHECKPOINTS == CHECKPOINTS - 1]
    rows = np.sort(final[: len(final) // 2])
    assert len(rows) == NETWORKS // 2
    features = pd.read_parquet(after.artifacts.features(ALPHA) / "hyper.parquet").iloc[rows]
    target = pd.read_csv(folder / "metrics.csv.gz")["test_accuracy"].to_numpy()[rows]
    for project, count in ((before, 2), (after, 6)):
        folds = draw_folds(len(rows), count, project.params.seed, ALPHA)
        pairs = [(np.setdiff1d(np.arange(len(rows)), held), held) for held in folds]
        predicted = cross_val_predict(LogitLinear(**LogitLinear.start), features, target, cv=pairs)
        assert study(project)["value"][0] == pytest.approx(np.mean((predicted - target) ** 2), rel=1e-9)


def setting(project: SmallProject, predictor: str, name: str) -> object:
    """A setting of the tuned model on the hyperparameters."""
    path = project.artifacts.predictor(ALPHA, predictor, "hyper") / "model" / "predictor.json"
    return json.loads(path.read_text())["settings"][name]


def limit_becomes(predictor: str, name: str, old: int, new: int) -> Check:
    def check(before: SmallProject, after: SmallProject) -> None:
        assert setting(before, predictor, name) == old
        assert setting(after, predictor, name) == new
        assert study(after, predictor)["value"][0] != study(before, predictor)["value"][0]

    return check


def scores(project: SmallProject) -> pd.DataFrame:
    return pd.read_csv(project.artifacts.evaluation / "scores.csv", float_precision="round_trip")


ENDS = [f"{name}_{end}" for name in ("r2", "kendall_tau", "mae") for end in ("low", "high")]
POINTS = ["collection", "predictor", "features", "networks_train", "networks_test", "r2", "kendall_tau", "mae", "mse"]


def only_intervals_change(before: SmallProject, after: SmallProject) -> None:
    old, new = scores(before), scores(after)
    pd.testing.assert_frame_equal(new[POINTS], old[POINTS])
    assert (new[ENDS] != old[ENDS]).all(axis=None)


def narrower_intervals(before: SmallProject, after: SmallProject) -> None:
    """The middle half of the same resamples lies inside their middle nine tenths."""
    only_intervals_change(before, after)
    old, new = scores(before), scores(after)
    for name in ("r2", "kendall_tau", "mae", "mse"):
        assert (new[f"{name}_low"] > old[f"{name}_low"]).all(), name
        assert (new[f"{name}_high"] < old[f"{name}_high"]).all(), name
    assert new["p_value"].equals(old["p_value"])


def more_resamples(before: SmallProject, after: SmallProject) -> None:
    only_intervals_change(before, after)
    for project, count in ((before, 20), (after, 30)):  # a permutation test of B draws counts in steps of 1 / (B + 1)
        steps = scores(project)["p_value"] * (count + 1)
        np.testing.assert_allclose(steps, steps.round(), atol=1e-9)


def one_collection_is_left(before: SmallProject, after: SmallProject) -> None:
    old, new = scores(before), scores(after)
    assert set(old["collection"]) == {ALPHA, BETA}
    pd.testing.assert_frame_equal(new, old[old["collection"] == ALPHA])
    transfer = pd.read_csv(after.artifacts.evaluation / "transfer.csv")
    assert set(transfer["trained_on"]) == set(transfer["tested_on"]) == {ALPHA}


def forecasts(project: SmallProject) -> pd.DataFrame:
    return pd.read_csv(project.artifacts.forecast(ALPHA) / "forecast.csv", float_precision="round_trip")


UNFITTED = "accuracy as it is"


def forecast_predictor_becomes(name: str) -> Check:
    def check(before: SmallProject, after: SmallProject) -> None:
        old, new = forecasts(before), forecasts(after)
        assert set(new["predictor"]) == {"none", name}
        as_it_is = new["input"] == UNFITTED
        columns = ["epoch", "networks_test", "r2", "kendall_tau", "r2_low", "r2_high"]
        pd.testing.assert_frame_equal(new.loc[as_it_is, columns], old.loc[as_it_is, columns])
        assert (new.loc[~as_it_is, "r2"] != old.loc[~as_it_is, "r2"]).all()

    return check


def forecasts_from_other_weights(before: SmallProject, after: SmallProject) -> None:
    """Forecasts that see the weights change, the others stay. Epoch 0 has one accuracy: no forecast to change."""
    old, new = forecasts(before), forecasts(after)
    sees_weights = new["input"].str.contains("weights")
    assert 0 < sees_weights.sum() < len(new)
    pd.testing.assert_frame_equal(new[~sees_weights], old[~sees_weights])
    assert (new.loc[sees_weights, "r2"] != old.loc[sees_weights, "r2"]).all()


def fitted_forecasts_change(before: SmallProject, after: SmallProject) -> None:
    """A limit of the predictor changes what is fitted, not the accuracy as it is."""
    old, new = forecasts(before), forecasts(after)
    as_it_is = new["input"] == UNFITTED
    assert new.loc[as_it_is, "r2"].equals(old.loc[as_it_is, "r2"])
    assert (new.loc[~as_it_is, "r2"] != old.loc[~as_it_is, "r2"]).any()


def fitted(project: SmallProject) -> pd.DataFrame:
    """The forecasts that see something: epoch 0 has one accuracy, and the last accuracy as it is has no error."""
    table = forecasts(project)
    return table[(table["epoch"] > 0) & (table["input"] != UNFITTED)]


def other_resamples(before: SmallProject, after: SmallProject) -> None:
    old, new = fitted(before), fitted(after)
    assert new["r2"].equals(old["r2"])
    assert (new["r2_low"] != old["r2_low"]).all()


def narrower_forecasts(before: SmallProject, after: SmallProject) -> None:
    old, new = fitted(before), fitted(after)
    assert new["r2"].equals(old["r2"])
    assert (new["r2_low"] > old["r2_low"]).all()
    assert (new["r2_high"] < old["r2_high"]).all()


def other_folds(before: SmallProject, after: SmallProject) -> None:
    """Another seed draws other folds; the halves are those of split.csv."""
    old, new = study(before), study(after)
    assert old["value"][0] != new["value"][0]
    columns = ["row", "network", "test_accuracy"]
    folders = (project.artifacts.predictor(ALPHA, "linear", "hyper") for project in (before, after))
    first, second = (pd.read_csv(folder / "predictions.csv")[columns] for folder in folders)
    pd.testing.assert_frame_equal(first, second)


@dataclass(frozen=True)
class Row:
    """A parameter, another value of it, and what must come of it."""

    key: str
    value: object
    reruns: str
    """Stages that DVC runs again: all of a name, or one of a collection (`train@alpha`)."""
    runs: str = ""
    """Stages that are run to see it act."""
    check: Check | None = None
    given: Mapping[str, object] = field(default_factory=dict)
    """What else is set, in both runs."""

    @property
    def name(self) -> str:
        return f"{self.key}-{self.runs.split()[-1].partition('@')[0]}"


def drawn(key: str, value: object, expected: Callable[[pd.Series], Any]) -> Row:
    """The row of a parameter that the recipes hold."""
    return Row(key, value, "recipes report", "recipes@alpha", only_changes(key.rpartition(".")[2], expected))


def of_alpha(key: str, value: object, check: Check) -> Row:
    return Row(f"populations.alpha.{key}", value, "recipes@alpha report", "recipes@alpha", check)


def of_train(key: str, value: object, check: Check) -> Row:
    return Row(key, value, "train report", "recipes@alpha train@alpha", check, FEW)


def of_search(key: str, value: object, check: Check, **more: Any) -> Row:
    return Row(key, value, "search evaluate report", "search@alpha", check, more)


DRAWN = "recipes assemble search forecast evaluate report"
EVALUATED = "search forecast evaluate report"
LIMITED = "search forecast evaluate report"
WITH_CATBOOST = {**ONE_SEARCH, "search.predictors": ["catboost"]}
DNN_FORECASTS = {"forecast.predictor": "dnn", "search.max_epochs": 20}
WITH_DNN = {**ONE_SEARCH, "search.predictors": ["dnn"]}
ROWS = [
    Row("seed", 1, DRAWN, "recipes@alpha", every_draw_is_another),
    Row("seed", 1, DRAWN, "assemble@alpha", only_the_split_changes),
    Row("seed", 1, DRAWN, "search@alpha", other_folds),
    Row("seed", 1, DRAWN, "forecast@alpha", other_resamples),
    Row("seed", 1, DRAWN, "evaluate", only_intervals_change),
    Row("datasets", [*DATASETS.values(), "cifar10"], ""),  # one more stage `images`; see below
    of_alpha("dataset", "fashion_mnist", only_changes("dataset", lambda _: "fashion_mnist")),
    of_alpha("networks", NETWORKS + 4, first_networks_stay),
    of_alpha("num_units", 5, only_changes("num_units", lambda _: 5)),
    of_alpha("num_layers", 3, only_changes("num_layers", lambda _: 3)),
    of_alpha("epochs", 7, only_changes("epochs", lambda _: 7)),
    Row(
        "populations.alpha.minibatch",
        10,
        "recipes@alpha train@alpha report",
        "recipes@alpha train@alpha",
        other_minibatches,
        FEW,
    ),
    Row("imported", {"gamma": {"dataset": "mnist"}}, "report"),  # see tests/test_stages_entry.py
    Row("collections", [ALPHA], "evaluate report", "evaluate", one_collection_is_left),
    Row("images.mirrors", ["/mirror"], ""),  # see tests/stages/test_images_stage.py
    drawn(
        "recipes.learning_rate",
        {"log_uniform": [1e-4, 1e-3]},
        lambda old: 1e-4 * 10 ** (np.log(old / 5e-4) / np.log(100)),
    ),
    drawn("recipes.l2reg", {"log_uniform": [1e-6, 1e-3]}, lambda old: 1e-6 * 1e3 ** (np.log(old / 1e-8) / np.log(1e6))),
    drawn("recipes.init_std", {"uniform": [0.1, 0.2]}, lambda old: 0.1 + 0.1 * np.log(old / 1e-3) / np.log(500)),
    drawn("recipes.dropout", {"uniform": [0.1, 0.2]}, lambda old: 0.1 + 0.1 * old / 0.7),
    drawn("recipes.train_fraction", {"choice": [0.25, 1.0]}, lambda old: old.replace(0.5, 0.25)),
    drawn(
        "recipes.activation", {"choice": ["tanh", "relu"]}, lambda old: old.replace({"relu": "tanh", "tanh": "relu"})
    ),
    drawn("recipes.optimizer", {"choice": ["sgd"]}, lambda _: "sgd"),
    drawn("recipes.w_init", {"choice": ["orthogonal"]}, lambda _: "orthogonal"),
    drawn("recipes.epochs", 6, lambda _: 6),
    drawn("recipes.epochs_between_checkpoints", 2, lambda _: 2),
    of_train("train.engine", "reference", reference_engine_trains),
    of_train("train.cohort_size", 1, smaller_cohorts),
    Row(
        "features.sets",
        ["hyper", "wstats-glob"],
        "features search evaluate report",
        "features@alpha",
        other_feature_sets,
    ),
    of_search(
        "search.predictors",
        ["catboost"],
        searches_become(("catboost", "hyper"), ("catboost", "wstats-layers_0.1.2-qts_0.50.100")),
    ),
    of_search("search.only", {"linear": [STATISTICS]}, searches_become(("linear", "wstats-layers_0.1.2-qts_0.50.100"))),
    of_search("search.trials", 3, more_trials),
    of_search("search.folds", 6, other_number_of_folds, **ONE_SEARCH),
    Row(
        "search.max_trees",
        3,
        LIMITED,
        "search@alpha",
        limit_becomes("catboost", "iterations", 5, 3),
        WITH_CATBOOST,
    ),
    Row("search.max_epochs", 1, LIMITED, "search@alpha", limit_becomes("dnn", "max_epochs", 2, 1), WITH_DNN),
    Row("search.max_trees", 3, LIMITED, "forecast@alpha", fitted_forecasts_change, {"forecast.predictor": "catboost"}),
    Row("search.max_epochs", 1, LIMITED, "forecast@alpha", fitted_forecasts_change, DNN_FORECASTS),
    Row("forecast.predictor", "catboost", "forecast report", "forecast@alpha", forecast_predictor_becomes("catboost")),
    Row(
        "forecast.features",
        "wnorm-layers:0,1-l1",
        "features forecast report",
        "features@alpha",
        other_forecast_features,
    ),
    Row("forecast.features", STATISTICS, "features forecast report", "forecast@alpha", forecasts_from_other_weights),
    Row("evaluate.bootstrap", 30, EVALUATED, "evaluate", more_resamples),
    Row("evaluate.bootstrap", 30, EVALUATED, "forecast@alpha", other_resamples),
    Row("evaluate.confidence", 0.5, EVALUATED, "evaluate", narrower_intervals),
    Row("evaluate.confidence", 0.5, EVALUATED, "forecast@alpha", narrower_forecasts),
    # What changes no result: what it does is tested below.
    Row("runtime.threads", 3, ""),
    Row("runtime.device", "mps", ""),
    Row("runtime.resume_interval_s", 0.0, ""),
]


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> SmallProject:
    """The small project with everything but the report; its shards are synthetic, so that accuracy can be foretold."""
    project = SmallProject.make(tmp_path_factory.mktemp("parameters") / "base")
    for collection in (ALPHA, BETA):
        project.run("recipes", collection)
        drawn = recipes.read(project.artifacts.recipes(collection))
        make_shards(project.artifacts.checkpoints(collection), drawn, collection)
        for stage in ("assemble", "features", "search", "forecast"):
            project.run(stage, collection)
    project.run("evaluate")
    return project


@pytest.fixture(autouse=True)
def _own_record(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


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
    (root / "dvc.yaml").write_text("".join(line for line in lines if "- src/" not in line or "entry.py" in line))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
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
    monkeypatch.chdir(pipeline)
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
    monkeypatch.chdir(pipeline)
    names = resolved_parameters(pipeline)
    assert {key: depending(names, key) for key in UNLIKE} == {key: instances(row.reruns) for key, row in UNLIKE.items()}


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


def test_nothing_is_outdated_at_first(pipeline, monkeypatch):
    assert outdated(pipeline, {}, monkeypatch) == (set(), set())


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


@pytest.mark.skipif(sys.platform != "linux", reason="Metal is never there on Linux")
def test_a_device_that_is_not_there_is_told_before_training(base, tmp_path):
    with pytest.raises(CnnzooError, match=r"`runtime\.device=mps`: torch finds no Metal device here"):
        run(base, tmp_path / "project", FEW | {"runtime.device": "mps"}, TRAINING)


RENAMED: list[Path] = []
LISTENING: list[bool] = []


def _listen(event: str, arguments: tuple[Any, ...]) -> None:
    if LISTENING and event == "os.rename":
        RENAMED.append(Path(arguments[1]))


@pytest.fixture
def renamed() -> Iterator[list[Path]]:
    """The files that took their name while the test ran: everything that is written whole or not at all."""
    if not hasattr(sys, "_cnnzoo_listens"):
        sys.addaudithook(_listen)
        sys._cnnzoo_listens = True
    RENAMED.clear()
    LISTENING.append(True)
    yield RENAMED
    LISTENING.clear()


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
