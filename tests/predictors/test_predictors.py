"""What every predictor promises, as one table; each new one is one more row of REGISTRY and SMALL."""

import json
from pathlib import Path

import numpy as np
import optuna
import pandas as pd
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import r2_score
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from cnnzoo import predictors
from cnnzoo.core.errors import CnnzooError
from cnnzoo.predictors.tables import Encoder, Table

SMALL = {
    "linear": {},
    "catboost": {"iterations": 60, "learning_rate": 0.2},
    "dnn": {"hidden_layers": 1, "hidden_units": 24, "learning_rate": 2e-2, "minibatch": 32, "max_epochs": 25},
    "learned_probes": {"hidden_units": 24, "members": 2, "learning_rate": 2e-2, "epochs": 15},
    "stack": {"folds": 2, "iterations": 60, "hidden_units": 16, "max_epochs": 5},
}
"""Settings that learn small tables fast."""


@pytest.fixture(params=list(predictors.REGISTRY))
def name(request) -> str:
    return request.param


def build(name: str, **settings) -> predictors.Predictor:
    return predictors.REGISTRY[name](**(SMALL[name] | settings))


def files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def numbers(rows: int = 240, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Features (n, 6) of which the first two tell the accuracy."""
    rng = np.random.default_rng(seed)
    features = rng.standard_normal((rows, 6))
    return features, 1 / (1 + np.exp(-(2 * features[:, 0] - features[:, 1] + 0.2 * rng.standard_normal(rows))))


def categories(rows: int = 240) -> tuple[pd.DataFrame, np.ndarray]:
    """A number and two columns of categories of which one decides."""
    rng = np.random.default_rng(1)
    kind = rng.choice(["sgd", "adam", "rmsprop"], rows)
    table = pd.DataFrame(
        {
            "config.dropout": rng.uniform(0, 0.7, rows).astype(np.float32),
            "config.optimizer": pd.Categorical(kind, categories=["sgd", "adam", "rmsprop", "lion"]),
            "config.activation": rng.choice(["relu", "tanh"], rows),
        }
    )
    effect = pd.Series(kind).map({"sgd": 0.2, "adam": 0.9, "rmsprop": 0.5}).to_numpy()
    return table, effect - 0.1 * table["config.dropout"].to_numpy()


BRIEF = {
    "linear": {},
    "catboost": {"iterations": 5},
    "dnn": {"max_epochs": 2},
    "learned_probes": {"members": 1, "epochs": 3},
    "stack": {"iterations": 3, "max_epochs": 1},
}
"""Settings that are fitted in no time, for checks of an estimator's manners."""


@pytest.mark.slow
@parametrize_with_checks([build(name, **BRIEF[name]) for name in predictors.REGISTRY])
def test_scikit_learns_checks_pass(estimator, check):
    if check.func.__name__ == "check_regressors_train":  # the one check that wants to see a good fit
        name = next(name for name, kind in predictors.REGISTRY.items() if type(estimator) is kind)
        estimator.set_params(**{key: value for key, value in SMALL[name].items() if key in BRIEF[name]})
    check(estimator)


@pytest.mark.slow
@pytest.mark.parametrize("data", [numbers, categories])
def test_learns_what_can_be_learned_and_stays_in_the_unit_interval(name, data):
    features, target = data()
    predicted = build(name).fit(features[:160], target[:160]).predict(features[160:])
    assert r2_score(target[160:], predicted) > 0.8
    assert predicted.min() >= 0
    assert predicted.max() <= 1


@pytest.mark.slow
def test_learns_nothing_from_shuffled_targets(name):
    features, target = numbers(600)
    shuffled = np.random.default_rng(2).permutation(target)
    predicted = build(name).fit(features[:400], shuffled[:400]).predict(features[400:])
    assert -0.3 < r2_score(shuffled[400:], predicted) < 0.1


@pytest.mark.slow
@pytest.mark.parametrize("data", [numbers, categories])
def test_saved_and_loaded_predicts_the_same_bit_for_bit(name, data, tmp_path):
    features, target = data()
    model = build(name).fit(features, target)
    predictors.save(model, tmp_path / "model")
    loaded = predictors.load(tmp_path / "model")
    np.testing.assert_array_equal(model.predict(features), loaded.predict(features))
    assert loaded.get_params() == model.get_params()
    assert {path.suffix for path in files(tmp_path / "model")} <= {".json", ".safetensors", ".cbm"}


@pytest.mark.slow
def test_the_same_model_has_the_same_bytes(name, tmp_path):
    for folder in ("first", "second"):
        predictors.save(build(name).fit(*numbers()), tmp_path / folder)
    for path in files(tmp_path / "first"):
        twin = tmp_path / "second" / path.relative_to(tmp_path / "first")
        assert path.read_bytes() == twin.read_bytes(), path.name


def test_a_damaged_model_is_named_with_the_remedy(name, tmp_path):
    predictors.save(build(name).fit(*numbers()), tmp_path / "model")
    for path in files(tmp_path / "model"):
        whole = path.read_bytes()
        path.write_bytes(whole[: len(whole) // 2])
        with pytest.raises(CnnzooError, match=r"model(/\w+)?: not a whole predictor .*dvc repro search"):
            predictors.load(tmp_path / "model")
        path.write_bytes(whole)


def test_an_altered_model_never_reaches_a_library(name, tmp_path):
    """A byte in any place of any file: a damaged CatBoost file once ended Python, an altered one was loaded."""
    predictors.save(build(name, **BRIEF[name]).fit(*numbers(60)), tmp_path / "model")
    rng = np.random.default_rng(3)
    for path in files(tmp_path / "model"):
        whole = path.read_bytes()
        for place in rng.integers(0, len(whole), 12):
            altered = bytearray(whole)
            altered[place] ^= 1 << rng.integers(0, 8)
            path.write_bytes(altered)
            with pytest.raises(CnnzooError, match="not a whole predictor"):
                predictors.load(tmp_path / "model")
        path.write_bytes(whole)


def test_a_missing_model_is_named_with_the_remedy(tmp_path):
    with pytest.raises(CnnzooError, match="not there; make it with `dvc repro search`"):
        predictors.load(tmp_path)


@pytest.mark.slow
def test_a_model_with_a_missing_file_is_refused(name, tmp_path):
    predictors.save(build(name).fit(*numbers()), tmp_path / "model")
    for path in files(tmp_path / "model"):
        path.rename(tmp_path / "aside")
        with pytest.raises(CnnzooError, match="dvc repro search"):
            predictors.load(tmp_path / "model")
        (tmp_path / "aside").rename(path)


@pytest.mark.slow
def test_the_result_depends_on_data_and_settings_alone(name):
    features, target = numbers()
    first = build(name).fit(features, target).predict(features)
    torch.manual_seed(99)
    np.random.seed(99)  # noqa: NPY002 - that nobody uses it is the point
    state = torch.random.get_rng_state()
    np.testing.assert_array_equal(build(name).fit(features, target).predict(features), first)
    assert torch.equal(torch.random.get_rng_state(), state), "the global random state was used"


def test_threads_of_boosting_do_not_change_the_result():
    features, target = numbers()
    one, three = (build("catboost", n_jobs=jobs).fit(features, target).predict(features) for jobs in (1, 3))
    np.testing.assert_array_equal(one, three)


def test_features_in_which_nothing_varies_give_the_mean(name):
    target = np.random.default_rng(0).uniform(0.2, 0.8, 60)
    predicted = build(name).fit(np.full((60, 3), 0.1), target).predict(np.full((4, 3), 0.1))
    assert predicted == pytest.approx(np.full(4, target.mean()), abs=0.05)


def test_equal_accuracies_are_predicted(name, tmp_path):
    model = build(name).fit(numbers()[0], np.full(240, 0.3))
    predictors.save(model, tmp_path / "model")
    assert predictors.load(tmp_path / "model").predict(numbers()[0]) == pytest.approx(np.full(240, 0.3), abs=0.05)


def test_an_unknown_category_is_refused(name):
    table, target = categories()
    model = build(name).fit(table, target)
    with pytest.raises(
        ValueError, match=r"`config.optimizer` has the category 'adagrad', known are sgd, adam, rmsprop, lion"
    ):
        model.predict(table.head(2).assign(**{"config.optimizer": ["adam", "adagrad"]}))
    with pytest.raises(ValueError, match="fitted on a DataFrame with categorical columns, got ndarray"):
        model.predict(np.zeros((2, 3)))


def test_targets_with_nan_are_refused_beside_categories(name):
    table, target = categories()
    target[3] = np.nan
    with pytest.raises(ValueError, match="NaN"):
        build(name).fit(table, target)


def test_a_training_that_diverges_falls_back_to_the_mean():
    features, target = numbers()
    model = build("dnn", optimizer="sgd", learning_rate=1e30).fit(features, target)
    assert model.epochs_ == 0
    assert model.predict(features) == pytest.approx(np.full(240, target.mean()), abs=0.1)


@pytest.mark.parametrize("seed", range(5))
def test_boosting_samples_enough_rows_of_small_tables(seed):
    features, target = numbers(12)
    build("catboost", subsample=0.1, random_state=seed).fit(features, target)


def test_the_first_settings_are_in_the_search_space(name):
    kind = predictors.REGISTRY[name]
    settings = kind.suggest(optuna.trial.FixedTrial(kind.start))
    assert set(settings) <= set(kind().get_params())


PUBLISHED_BEST = [
    ("linear", {"l2": 6.64e-4, "loss": "squared_error", "scaling": "standard"}),
    ("linear", {"l2": 1.02e-8, "loss": "squared_error", "scaling": "standard"}),
    ("catboost", {"learning_rate": 0.0264, "subsample": 0.9, "rsm": 0.7175, "l2_leaf_reg": 27.3, "depth": 7}),
    ("catboost", {"learning_rate": 0.0122, "subsample": 1.0, "rsm": 0.0788, "l2_leaf_reg": 97.7, "depth": 7}),
    ("catboost", {"learning_rate": 0.1, "subsample": 0.5, "rsm": 0.03, "l2_leaf_reg": 0.53, "depth": 3}),
    (
        "dnn",
        {
            "hidden_layers": 9,
            "hidden_units": 508,
            "dropout": 0.181,
            "l2": 2.05e-4,
            "optimizer": "sgd",
            "learning_rate_sgd": 0.4717,
            "minibatch": 512,
            "scaling": "standard",
        },
    ),
    (
        "dnn",
        {
            "hidden_layers": 3,
            "hidden_units": 256,
            "dropout": 0.0,
            "l2": 1e-3,
            "optimizer": "adam",
            "learning_rate_adam": 1.06e-3,
            "minibatch": 64,
            "scaling": "standard",
        },
    ),
]
"""From best_configs.json: the extremes of what was best, a typical one for boosting. Its trees were LightGBM's, which
grow leaf by leaf to depths of 8 to 14; symmetric ones of depth 7 have up to 128 leaves."""


@pytest.mark.parametrize(("name", "best"), PUBLISHED_BEST)
def test_the_search_space_contains_the_published_best_settings(name, best):
    trial = optuna.trial.FixedTrial(best)
    kind = predictors.REGISTRY[name]
    kind.suggest(trial)
    for parameter, distribution in trial.distributions.items():
        assert distribution._contains(distribution.to_internal_repr(trial.params[parameter])), parameter
    assert trial.distributions.keys() == best.keys()


def test_a_network_may_train_as_long_as_the_published_ones_and_stops_on_rows_set_aside():
    model = predictors.DNN()
    assert model.max_epochs == 300
    assert model.validation_fraction > 0
    assert model.patience < model.max_epochs


@pytest.mark.parametrize(("rows", "columns"), [(200, 5), (40, 120)])
def test_the_convex_linear_solution_is_that_of_logistic_regression(rows, columns):
    """Also with more features than rows, where it is solved in the rows' span. A fraction is a row of either class."""
    rng = np.random.default_rng(0)
    features = rng.standard_normal((rows, columns))
    target = 1 / (1 + np.exp(-features[:, 0] + rng.standard_normal(rows)))
    l2 = 1e-2
    model = predictors.LogitLinear(l2=l2, loss="cross_entropy", tol=1e-10).fit(features, target)
    scaled = StandardScaler().fit_transform(features)
    oracle = LogisticRegression(C=1 / (2 * rows * l2), tol=1e-10, max_iter=10_000).fit(
        np.concatenate([scaled, scaled]), np.repeat([1, 0], rows), np.concatenate([target, 1 - target])
    )
    np.testing.assert_allclose(model.coef_, oracle.coef_[0], atol=2e-5)
    assert model.intercept_ == pytest.approx(oracle.intercept_[0], abs=2e-5)


def test_squared_error_is_at_a_minimum_below_the_convex_one():
    features, target = numbers()
    target = np.clip(target + 0.1, 0, 1)

    def loss(model, shift=0.0):
        scores = Encoder.fit(Table(features, {}), "standard").transform(Table(features, {})) @ (model.coef_ + shift)
        error = np.mean((1 / (1 + np.exp(-scores - model.intercept_)) - target) ** 2)
        return error + model.l2 * np.sum((model.coef_ + shift) ** 2)

    convex, direct = (
        predictors.LogitLinear(loss=loss).fit(features, target) for loss in ("cross_entropy", "squared_error")
    )
    assert loss(direct) < loss(convex)
    for index in range(features.shape[1]):
        for step in (-1e-3, 1e-3):
            assert loss(direct, step * (np.arange(features.shape[1]) == index)) > loss(direct)


@pytest.mark.parametrize(("setting", "value"), [("loss", "hinge"), ("scaling", "minmax")])
def test_an_unknown_setting_is_refused_with_the_allowed_ones(setting, value):
    with pytest.raises(ValueError, match=f"`{setting}` is '{value}', allowed are "):
        predictors.LogitLinear(**{setting: value}).fit(*numbers())


def test_normal_scaling_does_not_see_monotone_changes_of_a_feature():
    features, target = numbers()
    stretched = np.exp(3 * features)
    first, second = (predictors.LogitLinear(scaling="normal").fit(x, target).predict(x) for x in (features, stretched))
    # Between landmarks the interpolation sees the change a little.
    np.testing.assert_allclose(first, second, atol=0.02)


def test_normal_scaling_gives_normal_scores_and_bounds_outliers():
    values = np.random.default_rng(0).uniform(size=(1000, 2)) ** 5
    encoder = Encoder.fit(Table(values, {}), "normal")
    scaled = encoder.transform(Table(values, {}))
    assert scaled.mean() == pytest.approx(0, abs=0.02)
    assert scaled.std() == pytest.approx(1, abs=0.03)
    assert np.abs(encoder.transform(Table(np.array([[1e30, -1e30]]), {}))).max() < 3


def test_importances_name_the_features_that_matter():
    importances = build("catboost").fit(*numbers()).feature_importances_
    assert set(np.argsort(importances)[-2:]) == {0, 1}


def test_settings_are_readable_json(name, tmp_path):
    predictors.save(build(name).fit(*categories()), tmp_path / "model")
    content = json.loads((tmp_path / "model" / "predictor.json").read_text())
    assert content["predictor"] == name
    assert content["categories"] == {"1": ["sgd", "adam", "rmsprop", "lion"], "2": ["relu", "tanh"]}


NARROW = {
    "narrow": (0.9, 0.02, 60, 0.95),
    "as measured in a zoo of 160": (0.869, 0.027, 160, 0.7),
    "near 0": (0.03, 0.005, 60, 0.9),
    "near 1": (0.99, 0.004, 60, 0.9),
    "few": (0.9, 0.05, 12, 0.9),
    "noise": (0.869, 0.027, 80, 0.0),
}
"""Accuracies by mean, standard deviation, training rows, and their correlation with what the features say."""


@pytest.mark.parametrize("settings", [SMALL, BRIEF], ids=["small", "brief"])
@pytest.mark.parametrize("kind", NARROW)
def test_no_predictor_is_much_worse_than_the_mean(name, kind, settings):
    """On targets that are narrow, far from 0.5, few or unrelated, also after a few trees or epochs."""
    mean, spread, rows, signal = NARROW[kind]
    rng = np.random.default_rng(0)
    features = rng.standard_normal((rows + 400, 8))
    score = signal * (0.8 * features[:, 0] + 0.6 * features[:, 1])
    score += np.sqrt(1 - signal**2) * rng.standard_normal(len(features))
    target = np.clip(mean + spread * score, 0, 1)
    model = predictors.REGISTRY[name](**settings[name]).fit(features[:rows], target[:rows])
    error = np.mean((model.predict(features[rows:]) - target[rows:]) ** 2)
    assert error < 1.3 * np.mean((target[:rows].mean() - target[rows:]) ** 2)
