"""The table of tests/test_parameters.py: what each parameter changes, and what it leaves as it was."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.model_selection import cross_val_predict

from cnnzoo.kernel import unavailable_reason
from cnnzoo.predictors import LogitLinear
from cnnzoo.search import draw_folds
from cnnzoo.zoo.shards import Shard, read_shards
from small_project import ALPHA, BETA, DATASETS, NETWORKS, STATISTICS, SmallProject

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


def only_the_split_and_its_digest_change(before: SmallProject, after: SmallProject) -> None:
    old, new = before.files("data/zoo/alpha"), after.files("data/zoo/alpha")
    assert {name for name in old if old[name] != new[name]} == {"split.csv", "manifest.json"}
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
EVALUATED = "forecast evaluate report"
LIMITED = "search forecast evaluate report"
WITH_CATBOOST = {**ONE_SEARCH, "search.predictors": ["catboost"]}
DNN_FORECASTS = {"forecast.predictor": "dnn", "search.max_epochs": 20}
WITH_DNN = {**ONE_SEARCH, "search.predictors": ["dnn"]}
ROWS = [
    Row("seed", 1, DRAWN, "recipes@alpha", every_draw_is_another),
    Row("seed", 1, DRAWN, "assemble@alpha", only_the_split_and_its_digest_change),
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
    Row("imported", {"gamma": {"dataset": "mnist"}}, "report"),  # see tests/stages/test_entry.py
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
    Row("search.max_trees", 3, LIMITED, "search@alpha", limit_becomes("catboost", "iterations", 5, 3), WITH_CATBOOST),
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
    Row("runtime.executor", "ray", ""),
    Row("runtime.threads", 3, ""),
    Row("runtime.device", "mps", ""),
    Row("runtime.resume_interval_s", 0.0, ""),
]
