"""Early stopping, where it acts: what decides when to stop is not learned from, and what is learned does not decide.

Several epochs and trees, on data that let training go on or end it.
"""

from typing import Any

import numpy as np
import pytest
from sklearn.base import clone

from cnnzoo import predictors
from cnnzoo.predictors.base import set_aside

STOPPING: dict[str, dict[str, Any]] = {
    "catboost": {"iterations": 30, "learning_rate": 0.1, "depth": 3, "patience": 30},
    "dnn": {"hidden_layers": 1, "hidden_units": 16, "learning_rate": 3e-3, "max_epochs": 6, "minibatch": 40},
}
"""The predictors that set rows aside, such that simple patterns are learned better and better."""
LIMIT = {"catboost": "iterations", "dnn": "max_epochs"}
NOTHING_SET_ASIDE: dict[str, dict[str, Any]] = {
    "linear": {},
    "learned_probes": {"hidden_units": 8, "members": 1, "epochs": 4, "dropout": 0.0},
    "stack": {"folds": 2, "iterations": 5, "hidden_units": 8, "max_epochs": 2},
}


def draw(rows: int) -> tuple[np.ndarray, np.ndarray]:
    """Return features (n, 3) and accuracies that follow the first one without noise."""
    features = np.random.default_rng(0).standard_normal((rows, 3))
    return features, 1 / (1 + np.exp(-2 * features[:, 0]))


def noise(rows: int) -> tuple[np.ndarray, np.ndarray]:
    """Return features (n, 6) and accuracies that have nothing to do with them: to learn them is to learn by heart."""
    rng = np.random.default_rng(1)
    return rng.standard_normal((rows, 6)), rng.uniform(0.05, 0.95, rows)


def length(model: predictors.Predictor) -> int:
    """Return how many trees or epochs were kept."""
    return model.model_.tree_count_ if isinstance(model, predictors.BoostedTrees) else model.epochs_


def rows_set_aside(model: predictors.Predictor, rows: int) -> np.ndarray:
    seed = int(np.random.RandomState(model.random_state).randint(2**31 - 1))
    return set_aside(rows, model.validation_fraction, np.random.default_rng(seed))[1]


def test_every_predictor_is_tested_here():
    settings = {name: kind().get_params() for name, kind in predictors.REGISTRY.items()}
    assert STOPPING.keys() == {name for name, known in settings.items() if "validation_fraction" in known}
    assert settings.keys() == STOPPING.keys() | NOTHING_SET_ASIDE.keys()


@pytest.mark.slow
@pytest.mark.parametrize("scaling", ["standard", "normal"])
@pytest.mark.parametrize("name", STOPPING)
def test_rows_set_aside_change_nothing_but_when_training_stops(name, scaling):
    features, target = draw(100)
    settings = {"scaling": scaling} if name == "dnn" else {}
    model = predictors.REGISTRY[name](**STOPPING[name], **settings, random_state=5)
    held = rows_set_aside(model, 100)
    assert len(held) == 15
    clean = clone(model).fit(features, target)
    # Lies that agree in direction: training goes on to its limit with them too.
    poisoned, lies = features.copy(), target.copy()
    poisoned[held], lies[held] = 3 * features[held] + 0.5, np.round(target[held])
    lied_to = clone(model).fit(poisoned, lies)
    assert length(clean) == length(lied_to) == getattr(model, LIMIT[name])
    np.testing.assert_array_equal(lied_to.predict(features), clean.predict(features))
    # Lies that say the opposite: the first step already is wrong.
    opposite = target.copy()
    opposite[held] = 1 - target[held]
    assert length(clone(model).fit(features, opposite)) <= 1
    # All the other rows are learned from.
    learned = np.setdiff1d(np.arange(100), held)[[0, 40, -1]]
    for row in learned:
        changed = target.copy()
        changed[row] = 1 - changed[row]
        assert not np.array_equal(clone(model).fit(features, changed).predict(features), clean.predict(features))


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("catboost", {"iterations": 200, "learning_rate": 0.1, "patience": 20}),
        ("dnn", {"hidden_layers": 1, "hidden_units": 32, "learning_rate": 1e-2, "max_epochs": 60, "patience": 10}),
    ],
)
def test_noise_is_not_learned_by_heart(name, settings):
    """On the rows that are learned the error falls to the end; on those set aside it soon rises."""
    features, target = noise(90)
    model = predictors.REGISTRY[name](**settings).fit(features, target)
    assert length(model) < settings[LIMIT[name]] / 4
    by_heart = clone(model).set_params(validation_fraction=0.0).fit(features, target)
    assert length(by_heart) == settings[LIMIT[name]]
    error, error_by_heart = (np.mean((each.predict(features) - target) ** 2) for each in (model, by_heart))
    assert error_by_heart < 0.7 * error


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("catboost", {"iterations": 300, "learning_rate": 0.3, "depth": 4, "subsample": 0.6}),
        ("dnn", {"hidden_layers": 1, "hidden_units": 16, "learning_rate": 3e-2, "max_epochs": 50, "minibatch": 16}),
    ],
)
def test_more_patience_finds_a_later_best(name, settings):
    """Of several noisy trainings: none is shorter with more patience, and some are longer."""
    features, target = draw(60)
    target = np.clip(target + np.random.default_rng(2).normal(0, 0.2, 60), 0, 1)
    lengths = [
        [
            length(predictors.REGISTRY[name](**settings, patience=patience, random_state=state).fit(features, target))
            for patience in (1, 4, 30)
        ]
        for state in range(3)
    ]
    assert all(short <= longer <= longest for short, longer, longest in lengths)
    totals = np.sum(lengths, axis=0)
    assert totals[0] < totals[1] < totals[2]


@pytest.mark.slow
@pytest.mark.parametrize("name", NOTHING_SET_ASIDE)
def test_predictors_that_set_nothing_aside_learn_from_every_row(name):
    features, target = draw(24)
    model = predictors.REGISTRY[name](**NOTHING_SET_ASIDE[name])
    clean = model.fit(features, target).predict(features)
    for row in (0, 7, 16, 23):
        changed = target.copy()
        changed[row] = 1 - changed[row]
        assert not np.array_equal(clone(model).fit(features, changed).predict(features), clean)


@pytest.mark.parametrize(
    ("rows", "fraction", "held"),
    [(9, 0.15, 0), (10, 0.15, 2), (10, 0.4, 4), (12, 0.01, 2), (40, 0.15, 6), (100, 0.5, 50), (100, 0.0, 0)],
)
def test_so_many_rows_are_set_aside(rows, fraction, held):
    learn, stop = set_aside(rows, fraction, np.random.default_rng(0))
    assert len(stop) == held
    assert sorted([*learn, *stop]) == list(range(rows))
    again = set_aside(rows, fraction, np.random.default_rng(1))[1]
    assert held in {0, rows} or not np.array_equal(again, stop)


def test_setting_all_rows_aside_is_refused():
    with pytest.raises(ValueError, match="`validation_fraction` is 1"):
        set_aside(40, 1, np.random.default_rng(0))
