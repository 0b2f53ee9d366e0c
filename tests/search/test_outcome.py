"""The files of a tuned predictor, recomputed from params.json, the two halves and a study whose best trial is known."""

import json
from dataclasses import replace

import numpy as np
import optuna
import pandas as pd
import pytest
from matplotlib.image import imread
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import TrialState
from samples import make_sample, make_task
from scipy.stats import kendalltau
from sklearn.metrics import mean_absolute_error, mean_squared_error, r2_score

from cnnzoo import predictors
from cnnzoo.core import seeds
from cnnzoo.search import Outcome, tune

TRAIN, TEST = make_sample(31), make_sample(20, first_row=100, seed=1)
BEST = {
    "linear": {"l2": 0.02, "loss": "cross_entropy", "scaling": "normal"},
    "catboost": {"learning_rate": 0.08, "depth": 3, "l2_leaf_reg": 2.0, "subsample": 0.7, "rsm": 0.9},
    "dnn": {
        "hidden_layers": 3, "hidden_units": 65, "dropout": 0.01, "l2": 1e-5, "optimizer": "sgd",
        "learning_rate_sgd": 0.2, "minibatch": 32, "scaling": "standard",
    },
}  # fmt: skip
"""The settings of the second of four trials, by the study's names."""
ACCENT = (0x1F / 255, 0x6F / 255, 0xB2 / 255)


def distribution(value):
    """The distribution of a setting that a study was told."""
    if isinstance(value, str):
        return CategoricalDistribution((value, "another"))
    return IntDistribution(1, 1000) if isinstance(value, int) else FloatDistribution(0.0, 10.0)


def make_study(name: str) -> optuna.Study:
    """Four trials: the usual settings, the best, one cut short though its first fold was better, a bad one."""
    study = optuna.create_study(direction="minimize")
    bad = BEST[name] | {"linear": {"l2": 9.0}, "catboost": {"depth": 5}, "dnn": {"dropout": 0.19}}[name]
    for settings, value, state in (
        (predictors.REGISTRY[name].start, 0.03, TrialState.COMPLETE),
        (BEST[name], 0.01, TrialState.COMPLETE),
        (bad, 0.001, TrialState.PRUNED),
        (bad, 0.05, TrialState.COMPLETE),
    ):
        known = {key: distribution(value) for key, value in settings.items()}
        study.add_trial(
            optuna.trial.create_trial(params=settings, distributions=known, value=value, state=state)
            if state is TrialState.COMPLETE
            else optuna.trial.create_trial(
                params=settings, distributions=known, value=value, state=state, intermediate_values={0: value}
            )
        )
    return study


def make_outcome(name: str, **changes) -> Outcome:
    """What a search of `name` with the study of `make_study` ends with."""
    return Outcome.of(make_task(name, **changes), make_study(name), TRAIN, TEST)


def read_json(path):
    return json.loads(path.read_text(encoding="utf-8"))


@pytest.fixture(scope="module", params=BEST)
def written(request, tmp_path_factory):
    """The name of a predictor and its folder."""
    folder = tmp_path_factory.mktemp("outcome") / "folder"
    make_outcome(request.param).write(folder)
    return request.param, folder


def fitted_by_hand(name, settings):
    """A predictor of the best settings under the limits of the search, fitted to the training half."""
    state = int(seeds.generator(7, "search.random_state", "tiny", name, "stats").integers(2**31))
    limits = {"catboost": {"iterations": 20, "random_state": state}, "dnn": {"max_epochs": 4, "random_state": state}}
    return predictors.REGISTRY[name](**settings, **limits.get(name, {})).fit(TRAIN.features, TRAIN.target)


@pytest.mark.slow
def test_params_json_holds_the_best_settings_by_the_names_of_the_predictor(written):
    name, folder = written
    expected = {key.removesuffix("_sgd"): value for key, value in BEST[name].items()}
    assert read_json(folder / "params.json") == expected
    predictors.REGISTRY[name](**expected)


def test_predictions_are_those_of_a_fit_by_hand_to_the_training_half(written):
    name, folder = written
    model = fitted_by_hand(name, read_json(folder / "params.json"))
    table = pd.read_csv(folder / "predictions.csv", float_precision="round_trip")
    assert list(table) == ["row", "network", "test_accuracy", "predicted"]
    assert table["row"].tolist() == TEST.rows.tolist()
    assert table["network"].tolist() == list(TEST.networks)
    assert table["test_accuracy"].tolist() == TEST.target.tolist()
    np.testing.assert_allclose(table["predicted"], model.predict(TEST.features), rtol=1e-9)
    saved = predictors.load(folder / "model")
    np.testing.assert_allclose(saved.predict(TEST.features), table["predicted"], rtol=1e-12)


def test_metrics_are_those_of_the_predictions_and_of_the_best_trial(written):
    _, folder = written
    table = pd.read_csv(folder / "predictions.csv", float_precision="round_trip")
    target, predicted = table["test_accuracy"], table["predicted"]
    metrics = read_json(folder / "metrics.json")
    assert metrics.pop("kendall_tau_ceiling") == 1, "no accuracy occurs twice"
    assert metrics == {
        "r2": pytest.approx(r2_score(target, predicted)),
        "mse": pytest.approx(mean_squared_error(target, predicted)),
        "mae": pytest.approx(mean_absolute_error(target, predicted)),
        "kendall_tau": pytest.approx(kendalltau(target, predicted).statistic),
        "cv_mse": 0.01,
        "cv_r2": pytest.approx(1 - 0.01 / np.var(TRAIN.target)),
        "networks_train": 31,
        "networks_test": 20,
        "trials": 4,
    }


def test_study_csv_holds_every_trial_with_its_settings(written):
    name, folder = written
    table = pd.read_csv(folder / "study.csv", float_precision="round_trip")
    start = predictors.REGISTRY[name].start
    assert sorted(table) == sorted(
        ["number", "value", "state", *(f"params.{key}" for key in dict.fromkeys([*start, *BEST[name]]))]
    )
    assert table["number"].tolist() == [0, 1, 2, 3]
    assert table["value"].tolist() == [0.03, 0.01, 0.001, 0.05]
    assert table["state"].tolist() == ["COMPLETE", "COMPLETE", "PRUNED", "COMPLETE"]
    for number, settings in ((0, start), (1, BEST[name])):
        assert {key: table[f"params.{key}"].iloc[number] for key in settings} == settings


def test_importances_are_of_the_training_half(written):
    """Nothing varies in this test half, where no feature could matter."""
    name, folder = written
    table = pd.read_csv(folder / "importance.csv")
    assert sorted(table["feature"]) == sorted(TRAIN.features)
    assert table["importance"].sum() == pytest.approx(1)
    constant = replace(TEST, features=TEST.features * 0 + 0.5)
    other = folder.parent / "constant"
    Outcome.of(make_task(name), make_study(name), TRAIN, constant).write(other)
    assert (other / "importance.csv").read_bytes() == (folder / "importance.csv").read_bytes()


@pytest.mark.parametrize("name", ["catboost", "stack"])
@pytest.mark.slow
def test_threads_of_this_machine_are_no_part_of_the_result(name, tmp_path):
    study = make_study("catboost") if name == "catboost" else tune(make_task("stack", trials=1), TRAIN, lambda _: None)
    for jobs in (1, 2):
        Outcome.of(make_task(name, jobs=jobs), study, TRAIN, TEST).write(tmp_path / str(jobs))
    one, two = (
        {path.relative_to(tmp_path / jobs): path.read_bytes() for path in (tmp_path / jobs).rglob("*.*")}
        for jobs in ("1", "2")
    )
    assert one == two
    assert '"n_jobs": 1' not in (tmp_path / "1" / "model" / "predictor.json").read_text()


@pytest.mark.parametrize(("true", "predicted", "place"), [(0.1, 0.9, "upper left"), (0.9, 0.1, "lower right")])
def test_the_figure_shows_predictions_over_true_accuracies(true, predicted, place, tmp_path):
    """All points in one place: where the picture has the colour of points."""
    test = replace(TEST, target=np.full(20, true) + 1e-3 * np.arange(20))
    outcome = replace(make_outcome("linear"), test=test, predicted=np.full(20, predicted))
    outcome.write(tmp_path / "folder")
    picture = imread(tmp_path / "folder" / "predicted.png")[..., :3]
    rows, columns = np.nonzero(np.abs(picture - ACCENT).max(axis=2) < 0.15)
    assert len(rows) > 50
    found = ("upper" if rows.mean() < len(picture) / 2 else "lower") + (
        " left" if columns.mean() < picture.shape[1] / 2 else " right"
    )
    assert found == place


def test_undefined_scores_are_null(tmp_path):
    test = replace(TEST, target=np.full(20, 0.5))
    outcome = Outcome.of(make_task(), make_study("linear"), replace(TRAIN, target=np.full(31, 0.5)), test)
    outcome.write(tmp_path / "folder")
    metrics = read_json(tmp_path / "folder" / "metrics.json")
    assert [name for name, value in metrics.items() if value is None] == [
        "cv_r2",
        "kendall_tau",
        "kendall_tau_ceiling",
        "r2",
    ]
