"""Searches on synthetic collections: what they write, that it repeats, and above all that no test network leaks in."""

import json
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.stats import kendalltau
from sklearn.metrics import mean_absolute_error, mean_squared_error, r2_score

from cnnzoo import config, predictors
from cnnzoo.core import seeds
from cnnzoo.core.artifacts import Artifacts
from cnnzoo.core.errors import CnnzooError
from cnnzoo.features import read_features, write_features
from cnnzoo.search import Sample, Task, only_search, tune
from cnnzoo.search.runs import search
from cnnzoo.zoo import Collection
from zoos import FINAL, STATISTICS, make_params, make_project, tell_scores_apart

NETWORKS = 121
TRAIN = NETWORKS // 2
WEIGHTS = "hyper.activation+weights"
SETS = [STATISTICS, "hyper", WEIGHTS]
ONLY = {"linear": SETS[:2], "catboost": SETS[:2], "dnn": SETS[:2], "stack": [STATISTICS], "learned_probes": [WEIGHTS]}
SEARCHES = {(name, features) for name, sets in ONLY.items() for features in sets}
BUDGET = {"trials": 2, "folds": 2, "max_trees": 60, "max_epochs": 15}


class FakeRecord:
    """Keeps what a search tells its tracker."""

    def __init__(self) -> None:
        self.calls: dict[str, list[tuple]] = {"trial": [], "metrics": [], "dataset": [], "model": [], "figure": []}

    def __getattr__(self, name):
        return lambda *arguments: self.calls[name].append(arguments)


class FakeTracker:
    def __init__(self) -> None:
        self.records: dict[tuple[str, str, str], FakeRecord] = {}

    @contextmanager
    def __call__(self, artifacts, collection, predictor, features, params):
        record = self.records[collection, predictor, features] = FakeRecord()
        record.params = params
        yield record


def params_of(only=None, sets=SETS, **changes) -> config.Params:
    """Parameters of the searches `only` says: predictor -> feature sets."""
    only = only or ONLY
    named = {name: only[name] for name in predictors.REGISTRY if name in only}
    return make_params({"tiny": NETWORKS}, sets, **(BUDGET | {"predictors": list(named), "only": named} | changes))


def make_tiny(root: Path, sets=SETS) -> Artifacts:
    """An odd number of networks, whose four scores all differ."""
    artifacts = make_project(root, {"tiny": NETWORKS}, list(sets))
    tell_scores_apart(artifacts.zoo("tiny"))
    return artifacts


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> tuple[Artifacts, FakeTracker]:
    """Finished searches of every predictor; tests only read them."""
    artifacts = make_tiny(tmp_path_factory.mktemp("project"))
    tracker = FakeTracker()
    search(artifacts, params_of(), "tiny", tracker)
    return artifacts, tracker


def folders(artifacts: Artifacts) -> dict[tuple[str, str], Path]:
    return {key: artifacts.predictor("tiny", *key) for key in SEARCHES}


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def read_predictions(folder: Path) -> pd.DataFrame:
    return pd.read_csv(folder / "predictions.csv", float_precision="round_trip")


def read_json(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8"))


def tau(target, predicted) -> float:
    """SciPy's tau-b; 0 for a constant prediction, which ranks nothing."""
    return kendalltau(target, predicted).statistic if np.ptp(predicted) > 0 else 0.0


@pytest.mark.slow
def test_every_predictor_is_tuned_on_its_sets_and_finds_the_signal(project):
    artifacts, _ = project
    written = {path.parent for path in artifacts.models("tiny").rglob("metrics.json")}
    assert written == set(folders(artifacts).values())
    for (name, features), folder in folders(artifacts).items():
        assert {path.name for path in folder.iterdir()} == {
            "model", "study.csv", "params.json", "predictions.csv", "metrics.json", "predicted.png", "importance.csv",
            "importance.png",
        }  # fmt: skip
        metrics = read_json(folder / "metrics.json")
        if features != "hyper":
            assert metrics["r2"] > (0.4 if features == STATISTICS else 0.15), name
        if features == STATISTICS:
            assert metrics["cv_r2"] > 0.4, name


@pytest.mark.slow
def test_held_out_predictions_and_scores_follow_from_the_files(project):
    """Halves from split.csv, predictors fitted again with the settings of params.json, scores by scikit-learn."""
    artifacts, _ = project
    zoo = Collection.open(artifacts.zoo("tiny"))
    split = [int(line) for line in (artifacts.zoo("tiny") / "split.csv").read_text().splitlines()]
    final = [row for row in split if zoo.metrics["step"].iloc[row] == FINAL]
    train, test = sorted(final[:TRAIN]), sorted(final[TRAIN:])
    accuracy = zoo.metrics["test_accuracy"].to_numpy()
    for (name, features), folder in folders(artifacts).items():
        table = read_predictions(folder)
        assert table["row"].tolist() == test
        assert table["network"].tolist() == zoo.metrics["modeldir"].iloc[test].tolist()
        assert table["test_accuracy"].tolist() == accuracy[test].tolist()
        inputs = [read_features(zoo, artifacts.features("tiny"), features, np.array(rows)) for rows in (train, test)]
        # Loaded in another place of memory, sums may be rounded otherwise.
        saved = predictors.load(folder / "model")
        np.testing.assert_allclose(saved.predict(inputs[1]), table["predicted"], rtol=1e-12)
        if name in {"linear", "catboost"}:  # the others take seconds; see tests/search/test_outcome.py
            key = ("search.random_state", "tiny", name, features)
            state = int(seeds.generator(params_of().seed, *key).integers(2**31))
            limits = {"iterations": 60, "random_state": state} if name == "catboost" else {}
            model = predictors.REGISTRY[name](**read_json(folder / "params.json"), **limits)
            model.fit(inputs[0], accuracy[train])
            np.testing.assert_allclose(model.predict(inputs[1]), table["predicted"], rtol=1e-9)
        metrics = read_json(folder / "metrics.json")
        scored = {
            "r2": r2_score(accuracy[test], table["predicted"]),
            "mse": mean_squared_error(accuracy[test], table["predicted"]),
            "mae": mean_absolute_error(accuracy[test], table["predicted"]),
            "kendall_tau": tau(accuracy[test], table["predicted"]),
        }
        assert {key: metrics[key] for key in scored} == pytest.approx(scored, rel=1e-9)
        study = pd.read_csv(folder / "study.csv", float_precision="round_trip")
        least = study.loc[study["state"] == "COMPLETE", "value"].min()
        assert metrics["cv_mse"] == least
        assert metrics["cv_r2"] == pytest.approx(1 - least / np.var(accuracy[train]))
        assert [metrics[key] for key in ("networks_train", "networks_test", "trials")] == [TRAIN, TRAIN + 1, 2]


@pytest.mark.slow
def test_the_study_shows_each_trial_and_params_the_best(project):
    artifacts, _ = project
    for (name, _), folder in folders(artifacts).items():
        study = pd.read_csv(folder / "study.csv")
        assert study["number"].tolist() == [0, 1]
        assert "seconds" not in study.columns, "times would make a new version of the file at each run"
        start = predictors.REGISTRY[name].start
        assert {key: study[f"params.{key}"].iloc[0] for key in start} == pytest.approx(start)
        settings = read_json(folder / "params.json")
        model = predictors.load(folder / "model")
        assert {key: model.get_params()[key] for key in settings} == settings
        best = study.loc[study["value"].idxmin()]
        for key in {f"params.{key}" for key in settings} & set(study):
            assert settings[key.removeprefix("params.")] == pytest.approx(best[key])


@pytest.mark.slow
def test_record_is_told_what_was_found(project):
    artifacts, tracker = project
    params = params_of()
    assert set(tracker.records) == {("tiny", *key) for key in SEARCHES}
    for (_, name, features), record in tracker.records.items():
        folder = artifacts.predictor("tiny", name, features)
        assert record.params == {"seed": params.seed, **BUDGET}
        study = pd.read_csv(folder / "study.csv", float_precision="round_trip")
        for number, settings, value, state, seconds in record.calls["trial"]:
            row = study.iloc[number]
            assert (row["number"], row["value"], row["state"]) == (number, value, state)
            assert {key: row[f"params.{key}"] for key in settings} == settings
            assert seconds > 0
        assert len(record.calls["trial"]) == 2
        ((dataset, digest, rows),) = record.calls["dataset"]
        assert (dataset, len(digest), rows) == (f"tiny {features}", 64, TRAIN)
        ((values,),) = record.calls["metrics"]
        assert values == read_json(folder / "metrics.json")
        assert [call[0] for call in record.calls["figure"]] == [folder / "predicted.png", folder / "importance.png"]
        ((model, example, prediction),) = record.calls["model"]
        assert model == folder / "model"
        assert prediction.tolist() == read_predictions(folder)["predicted"].tolist()[: len(example)]
        np.testing.assert_allclose(predictors.load(model).predict(example), prediction, rtol=1e-12)
        assert not example.select_dtypes("category").columns.tolist(), "MLflow's schemas know no categories"
    digests = {key: record.calls["dataset"][0][1] for key, record in tracker.records.items()}
    assert len(set(digests.values())) == len(SETS), "one for each feature set"


@pytest.mark.slow
def test_searching_again_gives_the_same_bytes_on_any_number_of_threads(project, tmp_path):
    """Two searches side by side with two threads each; the other predictors in tests/search/test_outcome.py."""
    artifacts, _ = project
    again = make_tiny(tmp_path, ["hyper"])
    params = params_of({"catboost": ["hyper"], "dnn": ["hyper"]}, ["hyper"])
    runtime = params.runtime.model_copy(update={"threads": 4})
    search(again, params.model_copy(update={"runtime": runtime}), "tiny", FakeTracker())
    for key in (("catboost", "hyper"), ("dnn", "hyper")):
        assert contents(folders(artifacts)[key]) == contents(folders(again)[key]), key


def spoil(clean: Artifacts, spoiled: Artifacts) -> None:
    """Change every row but the final checkpoints of the training half: weights, hyperparameters, scores."""
    zoo = Collection.open(clean.zoo("tiny"))
    other = np.setdiff1d(np.arange(len(zoo.weights)), zoo.final("train"))
    weights = np.array(zoo.weights)
    weights[other] = 1e6 * np.random.default_rng(0).standard_normal(weights[other].shape)
    np.save(spoiled.zoo("tiny") / "weights.npy", weights)
    metrics = zoo.metrics.copy()
    rng = np.random.default_rng(1)
    for column in ("test_accuracy", "config.dropout", "config.learning_rate", "config.l2reg", "config.init_std"):
        metrics.iloc[other, metrics.columns.get_loc(column)] = rng.uniform(size=len(other))
    for column in ("test_loss", "train_accuracy", "train_loss"):  # no target and no feature: of training networks too
        metrics[column] = rng.uniform(size=len(metrics))
    metrics.to_csv(spoiled.zoo("tiny") / "metrics.csv.gz", compression={"method": "gzip", "mtime": 0})
    write_features(Collection.open(spoiled.zoo("tiny")), SETS, spoiled.features("tiny"))


def assert_only_the_test_half_differs(clean_folder: Path, dirty_folder: Path) -> None:
    clean, dirty = contents(clean_folder), contents(dirty_folder)
    assert clean.keys() == dirty.keys()
    for name in clean:
        if name not in {"predictions.csv", "predicted.png", "metrics.json"}:
            assert clean[name] == dirty[name], (clean_folder, name)
    assert clean["predictions.csv"] != dirty["predictions.csv"], "the spoiled test half must show somewhere"
    scored = [json.loads(content["metrics.json"]) for content in (clean, dirty)]
    assert scored[0]["cv_mse"] == scored[1]["cv_mse"]


@pytest.mark.slow
def test_nothing_but_the_final_checkpoints_of_the_training_half_is_learned_from(project, tmp_path):
    """Spoil every other row: tuning, models and importances must not change by a bit, for any predictor."""
    artifacts, _ = project
    spoiled = make_tiny(tmp_path)
    spoil(artifacts, spoiled)
    only = {name: sets[:1] for name, sets in ONLY.items()}
    search(spoiled, params_of(only), "tiny", FakeTracker())
    for name, (features,) in only.items():
        assert_only_the_test_half_differs(*(one.predictor("tiny", name, features) for one in (artifacts, spoiled)))


@pytest.mark.slow
def test_shuffled_accuracies_are_not_predicted(tmp_path):
    artifacts = make_project(tmp_path, {"tiny": 400}, [STATISTICS])
    zoo = Collection.open(artifacts.zoo("tiny"))
    metrics = zoo.metrics.copy()
    final = zoo.final()
    column = metrics.columns.get_loc("test_accuracy")
    metrics.iloc[final, column] = np.random.default_rng(0).permutation(metrics.iloc[final, column].to_numpy())
    metrics.to_csv(artifacts.zoo("tiny") / "metrics.csv.gz", compression={"method": "gzip", "mtime": 0})
    names = ["linear", "catboost"]
    search(artifacts, make_params({"tiny": 400}, [STATISTICS], predictors=names, trials=2), "tiny", FakeTracker())
    for name in names:
        found = read_json(artifacts.predictor("tiny", name, STATISTICS) / "metrics.json")
        assert found["r2"] < 0.05, name  # below 0 as far as it has learned noise
        assert found["cv_r2"] < 0.1, name


@pytest.mark.slow
def test_what_a_predictor_relies_on_is_told_as_shares(project):
    """Whatever the settings that were drawn: shares of 1, or zeros of a predictor that relies on nothing."""
    artifacts, _ = project
    zoo = Collection.open(artifacts.zoo("tiny"))
    for (_, features), folder in folders(artifacts).items():
        table = pd.read_csv(folder / "importance.csv", float_precision="round_trip")
        assert list(table) == ["feature", "importance"]
        assert (table["importance"] >= 0).all()
        assert table["importance"].sum() == pytest.approx(1) or (table["importance"] == 0).all()
        assert table["importance"].is_monotonic_decreasing
        columns = read_features(zoo, artifacts.features("tiny"), features, np.array([0])).columns
        tensors = [column.partition(":")[0] for column in columns] if features == WEIGHTS else list(columns)
        assert sorted(table["feature"]) == sorted(set(tensors))
        told = getattr(predictors.load(folder / "model"), "feature_importances_", None)
        if told is not None:  # the others: tests/search/test_importance.py
            shares = dict(zip(columns, told / (told.sum() or 1), strict=True))
            assert dict(zip(table["feature"], table["importance"], strict=True)) == pytest.approx(shares)
    assert {name for name in ONLY if hasattr(predictors.REGISTRY[name], "feature_importances_")} == {
        "linear",
        "catboost",
    }


@pytest.mark.slow
def test_few_networks_are_enough_for_every_predictor(tmp_path, capsys):
    sets = ["weights", STATISTICS]
    artifacts = make_project(tmp_path, {"tiny": 24}, sets)
    few = {"predictors": list(predictors.REGISTRY), "folds": 4, "trials": 1, "max_trees": 9, "max_epochs": 2}
    search(artifacts, make_params({"tiny": 24}, sets, **few, only={"stack": [STATISTICS]}), "tiny", FakeTracker())
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 9
    found = read_json(artifacts.predictor("tiny", "linear", "weights") / "metrics.json")
    assert lines[0] == (
        f"tiny: linear on weights: R2 {found['r2']:.3f}, tau {found['kendall_tau']:.3f} of "
        f"{found['kendall_tau_ceiling']:.3f}, on 12 held-out networks"
    )


@pytest.mark.parametrize(
    ("networks", "folds", "says"),
    [
        (20, 2, "10 networks to train and 10 to test predictors, at least 12 and 2 are needed"),
        (23, 2, "11 networks to train and 12 to test predictors, at least 12 and 2 are needed"),
        (24, 7, "12 networks to train and 12 to test predictors, at least 14 and 2 are needed for `search.folds=7`"),
        (24, 6, None),
    ],
)
def test_too_few_networks_are_refused(tmp_path, networks, folds, says):
    artifacts = make_project(tmp_path, {"tiny": networks}, ["hyper"])
    params = make_params({"tiny": networks}, ["hyper"], folds=folds, predictors=["linear"], trials=1)
    if says is None:
        search(artifacts, params, "tiny", FakeTracker())
    else:
        with pytest.raises(CnnzooError, match=says):
            search(artifacts, params, "tiny", FakeTracker())
    assert artifacts.models("tiny").exists() == (says is None)


def test_an_unknown_set_is_told_before_any_search(tmp_path):
    artifacts = make_project(tmp_path, {"tiny": 24}, ["hyper"])
    with pytest.raises(CnnzooError, match="did you mean `wstats-glob`"):
        search(artifacts, make_params({"tiny": 24}, ["hyper", "wstats-globe"]), "tiny", FakeTracker())
    assert not artifacts.models("tiny").exists()


def test_equal_accuracies_give_undefined_scores_not_a_crash(tmp_path):
    artifacts = make_project(tmp_path, {"tiny": 24}, ["hyper"])
    zoo = Collection.open(artifacts.zoo("tiny"))
    metrics = zoo.metrics.assign(test_accuracy=0.1)
    metrics.to_csv(artifacts.zoo("tiny") / "metrics.csv.gz", compression={"method": "gzip", "mtime": 0})
    search(artifacts, make_params({"tiny": 24}, ["hyper"], predictors=["linear"]), "tiny", FakeTracker())
    found = json.loads((artifacts.predictor("tiny", "linear", "hyper") / "metrics.json").read_text())
    assert found["r2"] is None
    assert found["kendall_tau"] is None
    assert found["mse"] < 1e-3


def test_a_search_without_a_single_finite_trial_says_so():
    params = make_params({"tiny": 24}, ["hyper"], trials=2).search
    task = Task("tiny", "dnn", "hyper", 1, params, jobs=1)
    rng = np.random.default_rng(0)
    train = Sample(np.arange(24), [""] * 24, pd.DataFrame(rng.standard_normal((24, 3))), rng.uniform(size=24))

    class Broken(predictors.DNN):
        def predict(self, X):  # noqa: N803
            return np.full(len(X), np.nan)

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(predictors.REGISTRY, "dnn", Broken)
        with pytest.raises(CnnzooError, match="`dnn` on `hyper`: none of 2 trials gave a finite error"):
            tune(task, train, lambda trial: None)


class Counting(predictors.LogitLinear):
    """Knows the number of its trial, counts its fits, and can end the search in one of them.

    Every third trial from the sixth on is wrong by far, so that it is certainly cut short after its first fold,
    whatever settings were drawn.
    """

    fits: list[int] = []  # noqa: RUF012 - reset by the fixture
    last: tuple[int, int] | None = None
    """Trial and fold whose fit ends the search."""

    def __init__(self, l2=1e-3, loss="squared_error", scaling="standard", max_iter=500, tol=1e-7, number=0):
        super().__init__(l2, loss, scaling, max_iter, tol)
        self.number = number

    @classmethod
    def suggest(cls, trial):
        return super().suggest(trial) | {"number": trial.number}

    def fit(self, X, y):  # noqa: N803
        if self.last == (self.number, self.fits.count(self.number)):
            raise KeyboardInterrupt
        self.fits.append(self.number)
        return super().fit(X, y)

    def predict(self, X):  # noqa: N803
        return super().predict(X) + (10 if self.number >= 5 and self.number % 3 == 2 else 0)


@pytest.fixture
def spy(monkeypatch):
    monkeypatch.setitem(predictors.REGISTRY, "linear", Counting)
    monkeypatch.setattr(Counting, "fits", [])
    monkeypatch.setattr(Counting, "last", None)
    return Counting


def make_linear(root: Path, **budget) -> tuple[Artifacts, config.Params]:
    params = make_params({"tiny": 40}, ["hyper"], predictors=["linear"], **({"trials": 14} | budget))
    return make_project(root, {"tiny": 40}, ["hyper"]), params


def search_linear(artifacts: Artifacts, params: config.Params) -> dict[str, bytes]:
    search(artifacts, params, "tiny", FakeTracker())
    return contents(artifacts.predictor("tiny", "linear", "hyper"))


@pytest.mark.slow
def test_an_interrupted_search_goes_on_and_ends_as_an_undisturbed_one(spy, tmp_path):
    """Beyond Optuna's 10 random trials, so that what TPE has learned until then matters; pruning is part of it."""
    undisturbed = search_linear(*make_linear(tmp_path / "undisturbed"))
    study = pd.read_csv(tmp_path / "undisturbed/models/predictors/tiny/linear/hyper/study.csv")
    assert {5, 8, 11} <= set(study.loc[study["state"] == "PRUNED", "number"])
    artifacts, params = make_linear(tmp_path / "interrupted")
    for first, end in ((0, (2, 1)), (2, (12, 0))):  # in the second fold of trial 2, in the first of trial 12
        spy.fits, spy.last = [], end
        with pytest.raises(KeyboardInterrupt):
            search(artifacts, params, "tiny", FakeTracker())
        assert min(spy.fits) == first
        assert not artifacts.predictor("tiny", "linear", "hyper").exists()
    (journal,) = artifacts.studies("tiny").glob("*.journal")
    whole = journal.read_bytes()
    journal.write_bytes(whole + whole[: whole.index(b"\n") // 2])  # killed amid writing
    Path(f"{journal}.lock").symlink_to(journal)
    spy.fits, spy.last = [], None
    tracker = FakeTracker()
    search(artifacts, params, "tiny", tracker)
    assert set(spy.fits) == {12, 13, 0}, "the trials that were not finished, and the refit, which is trial 0 for Optuna"
    assert spy.fits.count(0) == 1
    assert contents(artifacts.predictor("tiny", "linear", "hyper")) == undisturbed
    told = tracker.records["tiny", "linear", "hyper"].calls["trial"]
    assert [call[0] for call in told] == list(range(14)), "the record shows former trials too"
    assert all(call[4] > 0 for call in told)


def test_a_search_that_is_done_is_repeated_without_a_trial(spy, tmp_path):
    artifacts, params = make_linear(tmp_path, trials=3)
    first = search_linear(artifacts, params)
    spy.fits = []
    assert search_linear(artifacts, params) == first
    assert spy.fits == [0], "only the best one is fitted again"


@pytest.mark.slow
@pytest.mark.parametrize("change", [{"folds": 3}, {"max_epochs": 7}, "seed", "features", "accuracies"])
def test_trials_of_other_data_or_settings_are_not_taken_over(change, spy, tmp_path):
    artifacts, params = make_linear(tmp_path, trials=2)
    search_linear(artifacts, params)
    if isinstance(change, dict):
        params = params.model_copy(update={"search": params.search.model_copy(update=change)})
    elif change == "seed":
        params = params.model_copy(update={"seed": params.seed + 1})
    else:
        zoo = Collection.open(artifacts.zoo("tiny"))
        column = {"features": "config.dropout", "accuracies": "test_accuracy"}[change]
        metrics = zoo.metrics.copy()
        metrics.iloc[zoo.final("train")[0], metrics.columns.get_loc(column)] += 0.001
        metrics.to_csv(artifacts.zoo("tiny") / "metrics.csv.gz", compression={"method": "gzip", "mtime": 0})
        write_features(Collection.open(artifacts.zoo("tiny")), ["hyper"], artifacts.features("tiny"))
    spy.fits = []
    search_linear(artifacts, params)
    assert len(spy.fits) == 2 * params.search.folds + 1
    assert len(list(artifacts.studies("tiny").glob("*.journal"))) == 2


def test_two_searches_of_a_collection_at_once_are_refused(tmp_path):
    artifacts, params = make_linear(tmp_path)
    with only_search(artifacts, "tiny"), pytest.raises(CnnzooError, match="another search of `tiny` is under way"):
        search(artifacts, params, "tiny", FakeTracker())
