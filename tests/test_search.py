"""Searches on synthetic collections: what they write, that it repeats, and above all that no test network leaks in."""

import json
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import optuna
import pandas as pd
import pytest

from cnnzoo import config, predictors, scores, seeds
from cnnzoo.artifacts import Artifacts
from cnnzoo.collection import Collection
from cnnzoo.errors import CnnzooError
from cnnzoo.features import read_features, write_features
from cnnzoo.search import search
from cnnzoo.tuning import Journal, Sample, Task, draw_folds, only_search, tune
from zoos import STATISTICS, make_params, make_project

NETWORKS = 120
WEIGHTS = "hyper.activation+weights"
SETS = [STATISTICS, "hyper"]
ALL = {"predictors": list(predictors.REGISTRY), "max_epochs": 15}


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


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> tuple[Artifacts, FakeTracker]:
    """A finished search over all predictors and two feature sets."""
    artifacts = make_project(tmp_path_factory.mktemp("project"), {"tiny": NETWORKS}, SETS)
    tracker = FakeTracker()
    search(artifacts, make_params({"tiny": NETWORKS}, SETS, **ALL), "tiny", tracker)
    return artifacts, tracker


def folders(artifacts: Artifacts) -> dict[tuple[str, str], Path]:
    return {(name, s): artifacts.predictor("tiny", name, s) for name in predictors.REGISTRY for s in SETS}


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_every_predictor_is_tuned_on_every_set_and_finds_the_signal(project):
    artifacts, _ = project
    for (name, features), folder in folders(artifacts).items():
        assert {path.name for path in folder.iterdir()} == {
            "model", "study.csv", "params.json", "predictions.csv", "metrics.json", "predicted.png", "importance.csv",
            "importance.png",
        }  # fmt: skip
        metrics = json.loads((folder / "metrics.json").read_text())
        assert metrics["networks_train"] == metrics["networks_test"] == NETWORKS // 2
        assert metrics["trials"] == 3
        if features == STATISTICS:
            assert metrics["r2"] > 0.4, name
            assert metrics["cv_r2"] > 0.4, name


def test_predictions_are_those_of_the_saved_model_on_the_test_half(project):
    artifacts, _ = project
    zoo = Collection.open(artifacts.zoo("tiny"))
    for (_, features), folder in folders(artifacts).items():
        table = pd.read_csv(folder / "predictions.csv", float_precision="round_trip")
        rows = zoo.final("test")
        assert table["row"].tolist() == rows.tolist()
        assert table["network"].tolist() == zoo.metrics["modeldir"].iloc[rows].tolist()
        assert table["test_accuracy"].tolist() == zoo.metrics["test_accuracy"].iloc[rows].tolist()
        inputs = read_features(zoo, artifacts.features("tiny"), features, rows)
        # Loaded in another place of memory, sums may be rounded otherwise.
        np.testing.assert_allclose(predictors.load(folder / "model").predict(inputs), table["predicted"], rtol=1e-12)
        metrics = json.loads((folder / "metrics.json").read_text())
        expected = scores.score(table["test_accuracy"], table["predicted"])
        assert {name: metrics[name] for name in expected} == pytest.approx(expected, rel=1e-12)


def test_the_study_shows_each_trial_and_params_the_best(project):
    artifacts, _ = project
    for (name, _), folder in folders(artifacts).items():
        study = pd.read_csv(folder / "study.csv")
        assert study["number"].tolist() == [0, 1, 2]
        assert "seconds" not in study.columns, "times would make a new version of the file at each run"
        start = predictors.REGISTRY[name].start
        assert {key: study[f"params.{key}"].iloc[0] for key in start} == pytest.approx(start)
        finished = study[study["state"] == "COMPLETE"]
        metrics = json.loads((folder / "metrics.json").read_text())
        assert metrics["cv_mse"] == finished["value"].min()
        settings = json.loads((folder / "params.json").read_text())
        model = predictors.load(folder / "model")
        assert {key: model.get_params()[key] for key in settings} == settings


def interval_ends(folder: Path) -> dict[str, float]:
    """What the evaluation finds for the same predictions: the same resampled networks."""
    params = make_params({"tiny": NETWORKS}, SETS)
    table = pd.read_csv(folder / "predictions.csv", float_precision="round_trip")
    rng = seeds.generator(params.seed, "evaluate.bootstrap", "tiny")
    budget = params.evaluate.bootstrap, params.evaluate.confidence
    found = scores.intervals(table["test_accuracy"], table["predicted"], *budget, rng)
    return {f"{name}_{end}": pair[at] for name, pair in found.items() for at, end in enumerate(("low", "high"))}


def test_every_search_is_tracked(project):
    artifacts, tracker = project
    assert set(tracker.records) == {("tiny", *key) for key in folders(artifacts)}
    for (_, name, features), record in tracker.records.items():
        folder = artifacts.predictor("tiny", name, features)
        assert record.params["trials"] == 3
        assert [call[0] for call in record.calls["trial"]] == [0, 1, 2]
        ((dataset, digest, rows),) = record.calls["dataset"]
        assert (dataset, len(digest), rows) == (f"tiny {features}", 64, NETWORKS // 2)
        ((values,),) = record.calls["metrics"]
        kept = json.loads((folder / "metrics.json").read_text())
        assert values == kept | interval_ends(folder)
        assert values["r2_low"] < values["r2"] < values["r2_high"]
        assert [call[0].name for call in record.calls["figure"]] == ["predicted.png", "importance.png"]
        ((model, example, prediction),) = record.calls["model"]
        assert model == folder / "model"
        np.testing.assert_allclose(predictors.load(model).predict(example), prediction, rtol=1e-12)
        assert not example.select_dtypes("category").columns.tolist(), "MLflow's schemas know no categories"


def test_searching_again_gives_the_same_bytes_on_any_number_of_threads(project, tmp_path):
    artifacts, _ = project
    again = make_project(tmp_path, {"tiny": NETWORKS}, SETS)
    params = make_params({"tiny": NETWORKS}, SETS, **ALL)
    threads = params.runtime.model_copy(update={"threads": 3})
    search(again, params.model_copy(update={"runtime": threads}), "tiny", FakeTracker())
    for key, folder in folders(artifacts).items():
        assert contents(folder) == contents(folders(again)[key]), key


def spoil(clean: Artifacts, spoiled: Artifacts, sets: list[str]) -> None:
    """Change every row but the final checkpoints of the training half: weights, hyperparameters, accuracies."""
    zoo = Collection.open(clean.zoo("tiny"))
    other = np.setdiff1d(np.arange(len(zoo.weights)), zoo.final("train"))
    weights = np.array(zoo.weights)
    weights[other] = 1e6 * np.random.default_rng(0).standard_normal(weights[other].shape)
    np.save(spoiled.zoo("tiny") / "weights.npy", weights)
    metrics = zoo.metrics.copy()
    for column in ("test_accuracy", "config.dropout", "config.learning_rate"):
        metrics.iloc[other, metrics.columns.get_loc(column)] = np.random.default_rng(1).uniform(size=len(other))
    metrics.to_csv(spoiled.zoo("tiny") / "metrics.csv.gz", compression={"method": "gzip", "mtime": 0})
    write_features(Collection.open(spoiled.zoo("tiny")), sets, spoiled.features("tiny"))


def assert_only_the_test_half_differs(clean_folder: Path, dirty_folder: Path) -> None:
    clean, dirty = contents(clean_folder), contents(dirty_folder)
    assert clean.keys() == dirty.keys()
    for name in clean:
        if name not in {"predictions.csv", "predicted.png", "metrics.json"}:
            assert clean[name] == dirty[name], (clean_folder, name)
    assert clean["predictions.csv"] != dirty["predictions.csv"], "the spoiled test half must show somewhere"
    scored = [json.loads(content["metrics.json"]) for content in (clean, dirty)]
    assert scored[0]["cv_mse"] == scored[1]["cv_mse"]


def test_nothing_but_the_final_checkpoints_of_the_training_half_is_learned_from(project, tmp_path):
    """Spoil every other row: tuning, models and importances must not change by a bit."""
    artifacts, _ = project
    spoiled = make_project(tmp_path, {"tiny": NETWORKS}, SETS)
    spoil(artifacts, spoiled, SETS)
    search(spoiled, make_params({"tiny": NETWORKS}, SETS, **ALL), "tiny", FakeTracker())
    for key, folder in folders(artifacts).items():
        assert_only_the_test_half_differs(folder, folders(spoiled)[key])


def test_nothing_but_the_training_half_is_learned_from_by_a_network_that_reads_weights(tmp_path):
    params = make_params({"tiny": NETWORKS}, [WEIGHTS], **(ALL | {"predictors": ["nfn"]}))
    clean, spoiled = (make_project(tmp_path / name, {"tiny": NETWORKS}, [WEIGHTS]) for name in ("clean", "spoiled"))
    spoil(clean, spoiled, [WEIGHTS])
    for artifacts in (clean, spoiled):
        search(artifacts, params, "tiny", FakeTracker())
    first, second = (artifacts.predictor("tiny", "nfn", WEIGHTS) for artifacts in (clean, spoiled))
    assert_only_the_test_half_differs(first, second)
    assert json.loads((first / "metrics.json").read_text())["r2"] > 0.4


def test_shuffled_accuracies_are_not_predicted(tmp_path):
    artifacts = make_project(tmp_path, {"tiny": 400}, [STATISTICS])
    zoo = Collection.open(artifacts.zoo("tiny"))
    metrics = zoo.metrics.copy()
    final = zoo.final()
    column = metrics.columns.get_loc("test_accuracy")
    metrics.iloc[final, column] = np.random.default_rng(0).permutation(metrics.iloc[final, column].to_numpy())
    metrics.to_csv(artifacts.zoo("tiny") / "metrics.csv.gz", compression={"method": "gzip", "mtime": 0})
    search(artifacts, make_params({"tiny": 400}, [STATISTICS], **ALL), "tiny", FakeTracker())
    for name in predictors.REGISTRY:
        found = json.loads((artifacts.predictor("tiny", name, STATISTICS) / "metrics.json").read_text())
        assert -0.35 < found["r2"] < 0.05, name  # below 0 as far as it has learned noise
        assert found["cv_r2"] < 0.1, name


def test_folds_are_a_partition_of_the_training_networks():
    folds = draw_folds(31, 4, 7, "tiny")
    assert sorted(np.concatenate(folds)) == list(range(31))
    assert {len(fold) for fold in folds} == {7, 8}
    again = draw_folds(31, 4, 7, "tiny")
    assert all(np.array_equal(a, b) for a, b in zip(folds, again, strict=True))


def test_what_a_predictor_relies_on_is_told_as_shares(project):
    artifacts, _ = project
    for (name, features), folder in folders(artifacts).items():
        table = pd.read_csv(folder / "importance.csv")
        assert list(table) == ["feature", "importance"]
        assert table["importance"].sum() == pytest.approx(1)
        assert table["importance"].is_monotonic_decreasing
        columns = read_features(Collection.open(artifacts.zoo("tiny")), artifacts.features("tiny"), features, [0])
        assert sorted(table["feature"]) == sorted(columns)
        if features == STATISTICS:
            assert table["feature"].iloc[0].startswith("dense/kernel"), name


def test_few_networks_are_enough_and_fewer_are_refused(tmp_path, capsys):
    sets = ["weights", STATISTICS]
    enough = make_project(tmp_path / "enough", {"tiny": 24}, sets)
    few = {"folds": 4, "trials": 2, "max_trees": 20, "max_epochs": 5}
    search(enough, make_params({"tiny": 24}, sets, **(ALL | few)), "tiny", FakeTracker())
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2 * len(ALL["predictors"])
    assert lines[0].startswith("tiny: linear on weights: R2 ")
    fewer = make_project(tmp_path / "fewer", {"tiny": 20}, sets)
    with pytest.raises(
        CnnzooError, match=r"10 networks to train and 10 to test predictors, at least 12 and 2 are needed"
    ):
        search(fewer, make_params({"tiny": 20}, sets), "tiny", FakeTracker())
    with pytest.raises(CnnzooError, match="at least 14 and 2"):
        search(enough, make_params({"tiny": 24}, sets, folds=7), "tiny", FakeTracker())


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


def test_the_digest_of_a_sample_sees_features_and_accuracies():
    sample = Sample(np.arange(3), ["a", "b", "c"], pd.DataFrame({"x": [1.0, 2, 3]}), np.array([0.1, 0.2, 0.3]))
    other = replace(sample, target=np.array([0.1, 0.2, 0.4]))
    wider = replace(sample, features=sample.features.assign(y=0.0))
    assert len({sample.digest(), other.digest(), wider.digest()}) == 3
    assert sample.digest() == replace(sample).digest()


class Failing(predictors.LogitLinear):
    """Interrupts the search at a fit, and counts the fits until then."""

    fits = 0
    last = 10**9

    def fit(self, X, y):  # noqa: N803
        if Failing.fits == Failing.last:
            raise KeyboardInterrupt
        Failing.fits += 1
        return super().fit(X, y)


@pytest.fixture
def spy(monkeypatch):
    monkeypatch.setitem(predictors.REGISTRY, "linear", Failing)
    monkeypatch.setattr(Failing, "fits", 0)
    monkeypatch.setattr(Failing, "last", 10**9)
    return Failing


def make_linear(root: Path, **budget) -> tuple[Artifacts, config.Params]:
    params = make_params({"tiny": 40}, ["hyper"], predictors=["linear"], **({"trials": 14} | budget))
    return make_project(root, {"tiny": 40}, ["hyper"]), params


def search_linear(artifacts: Artifacts, params: config.Params) -> dict[str, bytes]:
    search(artifacts, params, "tiny", FakeTracker())
    return contents(artifacts.predictor("tiny", "linear", "hyper"))


def test_an_interrupted_search_goes_on_and_ends_as_an_undisturbed_one(spy, tmp_path):
    """Beyond Optuna's 10 random trials, so that what TPE has learned until then matters; pruning is part of it."""
    undisturbed = search_linear(*make_linear(tmp_path / "undisturbed"))
    needed = spy.fits
    assert "PRUNED" in undisturbed["study.csv"].decode()
    artifacts, params = make_linear(tmp_path / "interrupted")
    for fits in (5, 19):
        spy.fits, spy.last = 0, fits
        with pytest.raises(KeyboardInterrupt):
            search(artifacts, params, "tiny", FakeTracker())
    (journal,) = artifacts.studies("tiny").glob("*.journal")
    whole = journal.read_bytes()
    journal.write_bytes(whole + whole[: whole.index(b"\n") // 2])  # killed amid writing
    Path(f"{journal}.lock").symlink_to(journal)
    spy.fits, spy.last = 0, 10**9
    tracker = FakeTracker()
    search(artifacts, params, "tiny", tracker)
    assert spy.fits < needed - 20
    assert contents(artifacts.predictor("tiny", "linear", "hyper")) == undisturbed
    told = tracker.records["tiny", "linear", "hyper"].calls["trial"]
    assert [call[0] for call in told] == list(range(14)), "the record shows former trials too"
    assert all(call[4] > 0 for call in told)


def test_a_larger_budget_continues_and_a_smaller_one_takes_the_first_trials(spy, tmp_path):
    artifacts, small = make_linear(tmp_path / "growing", trials=11)
    first = search_linear(artifacts, small)
    spy.fits = 0
    assert search_linear(artifacts, small) == first
    assert spy.fits == 1, "all trials are known, only the best one is fitted again"
    large = small.model_copy(update={"search": small.search.model_copy(update={"trials": 14})})
    spy.fits = 0
    grown = search_linear(artifacts, large)
    assert 3 <= spy.fits <= 3 * 2 + 1
    assert grown == search_linear(*make_linear(tmp_path / "at_once"))
    assert search_linear(artifacts, small) == first


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
    spy.fits = 0
    search_linear(artifacts, params)
    assert spy.fits == 2 * params.search.folds + 1
    assert len(list(artifacts.studies("tiny").glob("*.journal"))) == 2


def test_a_damaged_journal_costs_its_trials_and_nothing_else(spy, tmp_path, caplog):
    artifacts, params = make_linear(tmp_path, trials=2)
    first = search_linear(artifacts, params)
    (journal,) = artifacts.studies("tiny").glob("*.journal")
    for damaged in (b"not a journal\n", journal.read_bytes().replace(b'"op_code"', b'"operation"')):
        journal.write_bytes(damaged)
        spy.fits = 0
        assert search_linear(artifacts, params) == first
        assert spy.fits == 5
        assert "damaged" in caplog.text
        caplog.clear()


def test_trials_of_other_code_are_not_taken_over(monkeypatch, tmp_path):
    _, params = make_linear(tmp_path)
    task = Task("tiny", "linear", "hyper", 1, params.search, jobs=1)
    sample = Sample(np.arange(3), ["a", "b", "c"], pd.DataFrame({"x": [1.0, 2, 3]}), np.array([0.1, 0.2, 0.3]))
    digests = {task.digest(sample), replace(task, predictor="dnn").digest(sample)}
    (tmp_path / "other.py").write_text("changed")
    monkeypatch.setattr("cnnzoo.tuning.task.SOURCES", (tmp_path,))
    digests.add(task.digest(sample))
    monkeypatch.setattr("cnnzoo.tuning.task.version", lambda library: "0")
    digests.add(task.digest(sample))
    assert len(digests) == 4
    assert replace(task, jobs=7).digest(sample) == task.digest(sample)


def test_a_journal_gives_back_every_kind_of_trial_as_it_was(tmp_path):
    study = optuna.create_study(pruner=optuna.pruners.ThresholdPruner(upper=5))

    def objective(trial):
        x = trial.suggest_float("x", 1e-8, 1.0, log=True)
        kind = trial.suggest_categorical("kind", ["a", "b"])
        trial.report([0.1 + x, 9.0, np.nan][trial.number], 0)
        if trial.should_prune() and trial.number == 1:
            raise optuna.TrialPruned
        return float("nan") if trial.number == 2 else x + (kind == "a")

    study.optimize(objective, n_trials=3)
    journal = Journal(tmp_path / "new" / "study.journal", "a name")
    for trial in study.trials:
        journal.add(trial)
    again = Journal(tmp_path / "new" / "study.journal", "a name").trials
    assert [trial.state.name for trial in again] == ["COMPLETE", "PRUNED", "FAIL"]
    for old, new in zip(study.trials, again, strict=True):
        assert (old.number, old.params, old.distributions, old.value) == (
            new.number, new.params, new.distributions, new.value,
        )  # fmt: skip
        assert repr(old.intermediate_values) == repr(new.intermediate_values)
        assert old.duration == new.duration


def test_two_searches_of_a_collection_at_once_are_refused(tmp_path):
    artifacts, params = make_linear(tmp_path)
    with only_search(artifacts, "tiny"), pytest.raises(CnnzooError, match="another search of `tiny` is under way"):
        search(artifacts, params, "tiny", FakeTracker())
