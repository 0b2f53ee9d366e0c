"""Each setting of each predictor does something, and what it does follows from the setting alone: one table."""

from functools import cache
from typing import Any

import numpy as np
import optuna
import pandas as pd
import pytest
from safetensors.numpy import load_file

from cnnzoo import predictors
from cnnzoo.features import Weights
from cnnzoo.network.layout import Architecture, layout_of

BASE: dict[str, dict[str, Any]] = {
    "linear": {"l2": 1e-2, "loss": "cross_entropy", "scaling": "normal", "max_iter": 300, "tol": 1e-8},
    "catboost": {
        "iterations": 12,
        "learning_rate": 0.2,
        "depth": 3,
        "l2_leaf_reg": 2.0,
        "subsample": 0.7,
        "rsm": 0.9,
        "border_count": 20,
        "validation_fraction": 0.2,
        "patience": 30,
        "random_state": 1,
        "n_jobs": 2,
    },
    "dnn": {
        "hidden_layers": 2,
        "hidden_units": 12,
        "dropout": 0.3,
        "l2": 1e-3,
        "optimizer": "sgd",
        "learning_rate": 0.5,
        "minibatch": 16,
        "scaling": "standard",
        "max_epochs": 9,
        "patience": 11,
        "validation_fraction": 0.2,
        "random_state": 1,
    },
    "learned_probes": {
        "probes": 3,
        "probe_learning_rate": 1e-3,
        "hidden_layers": 1,
        "hidden_units": 8,
        "members": 2,
        "dropout": 0.2,
        "weight_decay": 0.5,
        "learning_rate": 1e-2,
        "minibatch": 16,
        "epochs": 4,
        "max_epochs": 9,
        "random_state": 1,
    },
    "stack": {
        "folds": 4,
        "l2": 1e-2,
        "depth": 3,
        "rsm": 0.9,
        "hidden_units": 8,
        "dropout": 0.3,
        "iterations": 5,
        "max_epochs": 4,
        "random_state": 1,
        "n_jobs": 2,
    },
}
"""Settings none of which is the default."""

CHANGED: dict[str, dict[str, Any]] = {
    "linear": {"l2": 1.0, "loss": "squared_error", "scaling": "standard", "max_iter": 1, "tol": 1e-2},
    "catboost": {
        "iterations": 4,
        "learning_rate": 0.4,
        "depth": 2,
        "l2_leaf_reg": 20.0,
        "subsample": 0.5,
        "rsm": 0.2,
        "border_count": 4,
        "validation_fraction": 0.4,
        "random_state": 2,
    },
    "dnn": {
        "hidden_layers": 1,
        "hidden_units": 20,
        "dropout": 0.0,
        "l2": 1.0,
        "optimizer": "adam",
        "learning_rate": 0.2,
        "minibatch": 8,
        "scaling": "normal",
        "max_epochs": 2,
        "validation_fraction": 0.4,
        "random_state": 2,
    },
    "learned_probes": {
        "probes": 5,
        "probe_learning_rate": 1e-1,
        "hidden_layers": 3,
        "hidden_units": 11,
        "members": 1,
        "dropout": 0.5,
        "weight_decay": 20.0,
        "learning_rate": 3e-2,
        "minibatch": 8,
        "epochs": 3,
        "max_epochs": 1,
        "random_state": 2,
    },
    "stack": {
        "folds": 2,
        "l2": 1.0,
        "depth": 1,
        "rsm": 0.2,
        "hidden_units": 16,
        "dropout": 0.0,
        "iterations": 2,
        "max_epochs": 1,
        "random_state": 2,
    },
}
"""Other values, each of which must change what is predicted for rows that were not learned."""

ELSEWHERE = {("catboost", "patience"), ("dnn", "patience"), ("catboost", "n_jobs"), ("stack", "n_jobs")}
"""Settings that change other things than a short training's predictions: see test_stopping.py and below."""

LAYOUT = layout_of(Architecture(num_units=2, num_layers=1))


def draw_table(rows: int, seed: int, networks: bool = True) -> tuple[pd.DataFrame, np.ndarray]:
    """Return columns that tell accuracies, and if asked for whole small networks beside them."""
    rng = np.random.default_rng(seed)
    table = pd.DataFrame(
        rng.standard_normal((rows, LAYOUT.size), dtype=np.float32), columns=Weights("weights", None).columns(LAYOUT)
    )
    table["config.dropout"] = rng.exponential(size=rows)
    table["config.activation"] = pd.Categorical(rng.choice(["relu", "tanh"], rows), categories=["relu", "tanh"])
    score = 2 * table["conv2d/bias:0"] + 2 - 2 * table["config.dropout"] + 0.3 * rng.standard_normal(rows)
    chosen = table if networks else table.iloc[:, [0, 1, 2, -2, -1]]
    return chosen, (1 / (1 + np.exp(-score))).to_numpy()


@cache
def predicted(name: str, setting: str | None = None) -> np.ndarray:
    """Return what a predictor with the base settings, or with one of them changed, predicts for other rows."""
    changes = {} if setting is None else {setting: CHANGED[name][setting]}
    learned, target = draw_table(80, 0, networks=name == "learned_probes")
    model = predictors.REGISTRY[name](**(BASE[name] | changes)).fit(learned, target)
    return model.predict(draw_table(25, 1, networks=name == "learned_probes")[0])


def test_the_table_holds_every_setting_and_no_default():
    for name, kind in predictors.REGISTRY.items():
        defaults = kind().get_params()
        assert BASE[name].keys() == defaults.keys()
        assert CHANGED[name].keys() | {key for kind, key in ELSEWHERE if kind == name} == defaults.keys()
        for setting, value in BASE[name].items():
            assert value != defaults[setting], setting
            assert setting not in CHANGED[name] or CHANGED[name][setting] != value


@pytest.mark.slow
@pytest.mark.parametrize(("name", "setting"), [(name, setting) for name in CHANGED for setting in CHANGED[name]])
def test_a_setting_changes_the_predictions(name, setting):
    """By more than 1e-6, for the DNN of a stack hardly learns in so few steps; without effect no bit would change."""
    difference = np.abs(predicted(name, setting) - predicted(name))
    assert difference.max() > 1e-6


@pytest.mark.parametrize("jobs", [1, 2, None])
def test_threads_are_those_that_were_asked_for(jobs):
    table, target = draw_table(40, 0, networks=False)
    for model in (
        predictors.BoostedTrees(iterations=2, n_jobs=jobs).fit(table, target),
        predictors.Stack(iterations=2, max_epochs=1, folds=2, n_jobs=jobs).fit(table, target).members_["catboost"],
    ):
        assert model.model_.get_params()["thread_count"] == (jobs or 1)


# Each of several draws is keyed by the random state: a setting takes the others away.


def differ(kind: type[predictors.Predictor], **settings: Any) -> bool:
    """Tell whether two random states give other predictions, to more than the rounding of another order of sums."""
    table, target = draw_table(60, 0, networks=False)
    features = table.to_numpy()[:, :4].astype(np.float64)
    first, second = (kind(**settings, random_state=state).fit(features, target).predict(features) for state in (3, 4))
    return not np.allclose(first, second, atol=1e-4)


def test_the_random_state_draws_the_order_of_minibatches():
    only_order: dict[str, Any] = {"hidden_layers": 0, "dropout": 0.0, "validation_fraction": 0.0, "max_epochs": 2}
    assert differ(predictors.DNN, **only_order, minibatch=8, learning_rate=0.3, optimizer="sgd")
    assert not differ(predictors.DNN, **only_order, minibatch=60, learning_rate=0.3, optimizer="sgd")


def test_the_random_state_draws_the_initial_weights_of_a_network():
    assert differ(predictors.DNN, hidden_units=8, dropout=0.0, validation_fraction=0.0, minibatch=60, max_epochs=2)
    assert differ(predictors.LearnedProbes, hidden_units=8, dropout=0.0, minibatch=60, epochs=3)


def test_the_random_state_draws_what_is_set_aside():
    whole: dict[str, Any] = {"hidden_layers": 0, "dropout": 0.0, "minibatch": 60, "max_epochs": 2, "optimizer": "sgd"}
    assert differ(predictors.DNN, **whole, learning_rate=0.5, validation_fraction=0.5)
    assert differ(predictors.BoostedTrees, iterations=5, subsample=1.0, validation_fraction=0.5)


def test_the_random_state_draws_the_samples_of_trees():
    assert differ(predictors.BoostedTrees, iterations=5, subsample=0.5, validation_fraction=0.0)


def test_the_random_state_draws_the_probes(tmp_path):
    table, target = draw_table(20, 0)
    probes = []
    for state in (3, 4):
        model = predictors.LearnedProbes(probes=2, members=1, epochs=1, probe_learning_rate=0.0, random_state=state)
        predictors.save(model.fit(table, target), tmp_path / str(state))
        probes.append(load_file(tmp_path / str(state) / "arrays.safetensors")["module.probing.probes"])
    assert np.abs(probes[0] - probes[1]).mean() > 0.1


def test_the_random_state_of_a_stack_draws_folds_and_members():
    table, target = draw_table(40, 0, networks=False)
    table = table.iloc[:, :4].to_numpy()
    stacks = [predictors.Stack(folds=2, iterations=3, max_epochs=1, random_state=s).fit(table, target) for s in (3, 4)]
    for member in ("catboost", "dnn"):
        first, second = (stack.members_[member] for stack in stacks)
        assert first.random_state != second.random_state
        assert not np.allclose(first.predict(table), second.predict(table), atol=1e-4)


SEARCH_SPACES = {
    "linear": ["l2: float 1e-08 10.0 log", "loss: squared_error cross_entropy", "scaling: standard normal"],
    "catboost": [
        "learning_rate: float 0.01 0.1 log",
        "depth: int 3 7",
        "l2_leaf_reg: float 0.5 100.0 log",
        "subsample: float 0.2 1.0",
        "rsm: float 0.03 1.0 log",
    ],
    "dnn": [
        "optimizer: adam sgd",
        "hidden_layers: int 3 9",
        "hidden_units: int 64 512 log",
        "dropout: float 0.0 0.2",
        "l2: float 1e-08 0.001 log",
        "learning_rate_adam: float 0.0002 0.01 log",
        "minibatch: 32 64 128 256 512",
        "scaling: standard normal",
    ],
    "learned_probes": [
        "probe_learning_rate: 0.0 0.003",
        "hidden_units: int 64 256 log",
        "dropout: float 0.0 0.4",
        "weight_decay: float 0.0001 1.0 log",
        "learning_rate: float 0.001 0.01 log",
    ],
    "stack": [
        "l2: float 1e-06 1.0 log",
        "depth: int 3 7",
        "rsm: float 0.03 1.0 log",
        "hidden_units: int 64 512 log",
        "dropout: float 0.0 0.2",
    ],
}
"""What a search draws from. A change means that searches of before cannot be repeated."""


def describe_space(kind: type[predictors.Predictor], start: dict[str, Any]) -> list[str]:
    """Return a line for each setting that is drawn, as in SEARCH_SPACES."""
    trial = optuna.trial.FixedTrial(start)
    settings = kind.suggest(trial)
    lines = []
    for name, distribution in trial.distributions.items():
        assert settings[name.removesuffix("_adam").removesuffix("_sgd")] == start[name], "what is drawn is used"
        if isinstance(distribution, optuna.distributions.CategoricalDistribution):
            lines.append(f"{name}: {' '.join(map(str, distribution.choices))}")
        else:
            number = "int" if isinstance(distribution, optuna.distributions.IntDistribution) else "float"
            lines.append(f"{name}: {number} {distribution.low} {distribution.high}{' log' if distribution.log else ''}")
    return lines


@pytest.mark.parametrize("name", predictors.REGISTRY)
def test_a_search_draws_from_these_ranges(name):
    kind = predictors.REGISTRY[name]
    assert describe_space(kind, kind.start) == SEARCH_SPACES[name]


def test_a_search_draws_the_rate_of_gradient_descent_from_a_range_of_its_own():
    start = {key: value for key, value in predictors.DNN.start.items() if key != "learning_rate_adam"}
    lines = describe_space(predictors.DNN, start | {"optimizer": "sgd", "learning_rate_sgd": 0.1})
    assert "learning_rate_sgd: float 0.01 0.5 log" in lines
