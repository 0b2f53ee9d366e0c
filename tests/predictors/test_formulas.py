"""What is learned and predicted, recomputed: gradient steps by hand, networks from their saved files in plain NumPy."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import load_file
from scipy.optimize import minimize
from scipy.special import expit, logit
from scipy.stats import norm, rankdata

from cnnzoo import predictors

ROWS = 40


def draw(rows: int = ROWS) -> tuple[np.ndarray, np.ndarray]:
    """Return features (n, 3) without ties and accuracies."""
    rng = np.random.default_rng(0)
    features = rng.standard_normal((rows, 3))
    return features, expit(features[:, 0] - 0.5 * features[:, 1] + 0.3 * rng.standard_normal(rows))


def scores(features: np.ndarray) -> np.ndarray:
    """Return normal scores: what `normal` scaling makes of at most 128 training rows."""
    return norm.ppf((rankdata(features, axis=0) - 0.5) / len(features))


def saved_arrays(model: predictors.Predictor, folder: Path) -> dict[str, np.ndarray]:
    predictors.save(model, folder / "model")
    return load_file(folder / "model" / "arrays.safetensors")


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_the_first_step_of_a_network_without_hidden_layers_is_the_gradient_of_the_squared_error(optimizer):
    """It starts at weights 0 and the logit of the mean; Adam's first step is the rate times the gradient's sign."""
    features, target = draw()
    rate = 0.3
    model = predictors.DNN(
        hidden_layers=0, optimizer=optimizer, learning_rate=rate, minibatch=ROWS, max_epochs=1, validation_fraction=0
    ).fit(features, target)
    inputs, mean = scores(features), target.mean()
    bias = np.log(mean / (1 - mean))
    start = expit(bias)
    slope = 2 * (start - target) * start * (1 - start) / ROWS
    steps = np.append(inputs.T @ slope, slope.sum())
    if optimizer == "adam":
        steps = steps / (np.abs(steps) + 1e-8)
    scored = inputs @ (-rate * steps[:-1]) + bias
    shift = logit(model.predict(features)) - scored
    np.testing.assert_allclose(shift, shift.mean(), atol=1e-5)
    # At the mean the bias has no slope but rounding errors, whose sign is all that Adam's first step sees.
    assert abs(shift.mean()) < (rate + 1e-5 if optimizer == "adam" else 1e-6)


def test_a_network_starts_at_the_mean_of_the_rows_it_learns_from():
    """With 4 of 10 rows set aside, the start that is kept is the mean of the other six."""
    features, target = draw(10)
    model = predictors.DNN(hidden_layers=1, hidden_units=4, max_epochs=1, learning_rate=1e-12, validation_fraction=0.4)
    start = model.fit(features, target).predict(features)
    assert np.ptp(start) < 1e-6
    means = [target[np.array(chosen, dtype=bool)].mean() for chosen in np.ndindex(*[2] * 10) if sum(chosen) == 6]
    assert np.abs(np.array(means) - start[0]).min() < 1e-6
    assert abs(target.mean() - start[0]) > 1e-3


def test_the_penalty_acts_on_hidden_kernels_and_not_on_the_output(tmp_path):
    features, target = draw()
    settings = {"hidden_units": 8, "dropout": 0.0, "max_epochs": 15, "validation_fraction": 0.0, "learning_rate": 1e-2}
    free, penalised = (
        predictors.DNN(hidden_layers=0, l2=l2, **settings).fit(features, target).predict(features) for l2 in (0.0, 9.0)
    )
    np.testing.assert_array_equal(free, penalised)
    sizes = []
    for l2 in (0.0, 1.0):
        model = predictors.DNN(hidden_layers=2, l2=l2, **settings).fit(features, target)
        arrays = saved_arrays(model, tmp_path / str(l2))
        sizes.append([np.square(arrays[f"layer_{index}.kernel"]).sum() for index in range(3)])
    assert sizes[1][0] < 0.7 * sizes[0][0]
    assert sizes[1][1] < 0.7 * sizes[0][1]


def test_a_fully_connected_network_predicts_what_its_saved_arrays_say(tmp_path):
    features, target = draw()
    model = predictors.DNN(
        hidden_layers=2, hidden_units=6, learning_rate=3e-2, max_epochs=8, validation_fraction=0.0, dropout=0.2
    ).fit(features, target)
    arrays = saved_arrays(model, tmp_path)
    hidden = scores(features)
    for layer in (0, 1):
        hidden = np.maximum(hidden @ arrays[f"layer_{layer}.kernel"] + arrays[f"layer_{layer}.bias"], 0)
    expected = expit(hidden @ arrays["layer_2.kernel"] + arrays["layer_2.bias"])[:, 0]
    assert np.ptp(expected) > 0.1
    np.testing.assert_allclose(model.predict(features), expected, atol=1e-6)


def test_the_members_of_learned_probes_predict_the_mean_of_what_their_saved_arrays_say(tmp_path):
    """A table without networks: what is described are its scaled columns alone."""
    features, target = draw()
    model = predictors.LearnedProbes(
        hidden_layers=1, hidden_units=6, members=3, learning_rate=3e-2, epochs=8, minibatch=16
    ).fit(features, target)
    arrays = {name.removeprefix("module."): array for name, array in saved_arrays(model, tmp_path).items()}
    inputs = scores(features)
    np.testing.assert_allclose(arrays["centre"], inputs.mean(axis=0), atol=1e-6)
    np.testing.assert_allclose(arrays["scale"], inputs.std(axis=0), atol=1e-6)
    scaled = (inputs - arrays["centre"]) / arrays["scale"]
    normed = (scaled - arrays["norm.running_mean"]) / np.sqrt(arrays["norm.running_var"] + 1e-5)
    normed = np.clip(normed * arrays["norm.weight"] + arrays["norm.bias"], -5, 5)
    members = []
    for member in range(3):
        hidden = np.maximum(normed @ arrays[f"members.{member}.0.weight"].T + arrays[f"members.{member}.0.bias"], 0)
        members.append(
            expit(hidden @ arrays[f"members.{member}.3.weight"].T + arrays[f"members.{member}.3.bias"])[:, 0]
        )
    assert np.abs(members[0] - members[1]).max() > 1e-3
    np.testing.assert_allclose(model.predict(features), np.mean(members, axis=0), atol=1e-5)


@pytest.mark.parametrize("loss", ["cross_entropy", "squared_error"])
@pytest.mark.parametrize("l2", [1e-3, 0.1])
def test_the_linear_solution_is_that_of_a_search_without_gradients(loss, l2):
    features, target = draw()
    scaled = (features - features.mean(axis=0)) / features.std(axis=0)

    def cost(point):
        predicted = expit(scaled @ point[:-1] + point[-1])
        losses = {
            "cross_entropy": -(target * np.log(predicted) + (1 - target) * np.log(1 - predicted)),
            "squared_error": (predicted - target) ** 2,
        }
        return losses[loss].mean() + l2 * np.sum(point[:-1] ** 2)

    options = {"xatol": 1e-9, "fatol": 1e-14, "maxiter": 20_000, "maxfev": 20_000}
    best = minimize(cost, np.array([0, 0, 0, logit(target.mean())]), method="Nelder-Mead", options=options).x
    model = predictors.LogitLinear(l2=l2, loss=loss, tol=1e-10).fit(features, target)
    np.testing.assert_allclose([*model.coef_, model.intercept_], best, atol=1e-4)
    np.testing.assert_allclose(model.predict(features), expit(scaled @ best[:-1] + best[-1]), atol=1e-5)


SEVERAL_MINIMA = (
    (0, 0.6, -1, 1),
    (0.5, 0.3, 0.8, 0),
    (0, 1.2, -0.9, 1),
    (5.6, 1.2, -0.6, 1),
    (0.3, 0.4, -1.7, 0),
    (0.2, -0.6, -0.3, 0),
    (-0.2, -0.4, 0.1, 0),
    (0, -1.6, -0.3, 0),
    (-2.4, -1.3, -0.3, 0),
    (0.6, 0.6, -0.6, 1),
    (-0.4, -0.8, 0.1, 0),
    (0.8, 0, 0.7, 1),
    (0, 1.5, -2, 0),
    (-9.7, -0.2, 0.6, 0),
    (-0.1, 0.4, -1.2, 0),
    (-2, -0.7, 0.8, 0),
    (0.3, -0.7, 0.2, 0),
    (-0.3, 0, -1.1, 0),
    (-0, -0.7, -0, 0),
    (-0.3, -0.8, 0.1, 0),
)
"""Three features and a target a row, such that the squared error has several minima."""


def test_the_squared_error_is_minimised_from_the_minimum_of_the_cross_entropy():
    """A descent from zero ends in another minimum."""
    *columns, target = np.array(SEVERAL_MINIMA).T
    features = np.column_stack(columns)
    scaled = (features - features.mean(axis=0)) / features.std(axis=0)

    def squared_error(point):
        return np.mean((expit(scaled @ point[:-1] + point[-1]) - target) ** 2) + 2e-5 * np.sum(point[:-1] ** 2)

    def cross_entropy(point):
        score = scaled @ point[:-1] + point[-1]
        return np.mean(np.logaddexp(0, score) - target * score) + 2e-5 * np.sum(point[:-1] ** 2)

    zero = np.array([0, 0, 0, logit(target.mean())])
    convex = minimize(cross_entropy, zero, method="BFGS").x
    expected, other = (minimize(squared_error, start, method="BFGS").x for start in (convex, zero))
    assert np.abs(expected - other).max() > 1
    model = predictors.LogitLinear(l2=2e-5, tol=1e-9).fit(features, target)
    np.testing.assert_allclose(model.predict(features), expit(scaled @ expected[:-1] + expected[-1]), atol=1e-3)


def test_importances_of_the_linear_predictor_are_sizes_of_its_coefficients():
    """Numbers: the size; categories: the standard deviation over them; in the order of the table's columns."""
    rng = np.random.default_rng(0)
    table = pd.DataFrame(
        {
            "kind": pd.Categorical(rng.choice(["a", "b", "c"], 60), categories=["a", "b", "c"]),
            "up": rng.standard_normal(60),
            "side": pd.Categorical(rng.choice(["left", "right"], 60), categories=["left", "right"]),
            "down": rng.standard_normal(60),
        }
    )
    target = expit(table["up"] - 2 * table["down"] + (table["kind"] == "a") + 0.2 * (table["side"] == "left"))
    model = predictors.LogitLinear().fit(table, target)
    up, down, *categories = model.coef_
    assert up > 0 > down
    expected = [np.std(categories[:3]), up, np.std(categories[3:]), -down]
    np.testing.assert_allclose(model.feature_importances_, expected)
    assert list(np.argsort(expected)) == [2, 0, 1, 3]


@pytest.mark.parametrize("name", ["linear", "catboost"])
@pytest.mark.parametrize(("low", "high"), [(-0.5, 0.9), (0.2, 7.0), (-3.0, 50.0), (100.0, 101.0)])
def test_targets_that_are_no_fractions_are_predicted_on_their_own_scale(name, low, high):
    features, target = draw(120)
    settings = {"catboost": {"iterations": 60, "learning_rate": 0.2, "validation_fraction": 0.0}}.get(name, {})
    fractions = (target - target.min()) / np.ptp(target)
    kind = predictors.REGISTRY[name]
    expected = low + (high - low) * kind(**settings).fit(features, fractions).predict(features)
    found = kind(**settings).fit(features, low + (high - low) * fractions).predict(features)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-3 * (high - low))


@pytest.mark.parametrize("name", predictors.REGISTRY)
def test_a_loaded_predictor_knows_scale_names_settings_and_importances(name, tmp_path):
    features, target = draw()
    table = pd.DataFrame(features, columns=["one", "two", "three"])
    settings = {
        "catboost": {"iterations": 8},
        "dnn": {"hidden_units": 8, "max_epochs": 2},
        "learned_probes": {"hidden_units": 8, "epochs": 2},
        "stack": {"folds": 2, "iterations": 8, "hidden_units": 8, "max_epochs": 2},
    }.get(name, {})
    model = predictors.REGISTRY[name](**settings).fit(table, 70 + 20 * target)
    predictors.save(model, tmp_path / "model")
    loaded = predictors.load(tmp_path / "model")
    assert type(loaded) is type(model)
    assert loaded.get_params() == model.get_params()
    assert list(loaded.feature_names_in_) == ["one", "two", "three"]
    assert loaded.n_features_in_ == 3
    predicted = loaded.predict(table)
    np.testing.assert_array_equal(predicted, model.predict(table))
    assert predicted.min() > 60
    with pytest.raises(ValueError, match="feature names"):
        loaded.predict(table[["two", "one", "three"]])
    with pytest.raises(ValueError, match="2 features"):
        loaded.predict(features[:, :2])
    if hasattr(model, "feature_importances_"):
        np.testing.assert_array_equal(loaded.feature_importances_, model.feature_importances_)
    content = json.loads((tmp_path / "model" / "predictor.json").read_text())
    assert content["format"] == "cnnzoo-predictor-2"
    assert content["features"] == ["one", "two", "three"]
    assert content["settings"] == model.get_params()
