"""The trials of a search: folds, errors and what is cut short, recomputed from the data."""

import numpy as np
import pytest
from optuna.trial import TrialState
from samples import make_sample, make_task

from cnnzoo import predictors
from cnnzoo.core import seeds
from cnnzoo.search import draw_folds, tune

COMPLETE, PRUNED = TrialState.COMPLETE, TrialState.PRUNED
GOLDEN_FOLDS = [[0, 2, 4, 5], [1, 3, 7], [6, 8, 9]]
"""`draw_folds(10, 3, 7, "tiny")`. If it changes, no search can be repeated as it was."""


def run(task, train):
    """The study of a task, and the trials that were reported."""
    told = []
    return tune(task, train, told.append), told


def held_out(spy, trial):
    """The rows that were predicted in each fold of a trial, and those learned from."""
    return (
        [rows for number, rows in spy.predictions if number == trial],
        [rows for number, rows in spy.fits if number == trial],
    )


def test_folds_are_a_partition_of_the_training_networks():
    folds = draw_folds(31, 4, 7, "tiny")
    assert sorted(np.concatenate(folds)) == list(range(31))
    assert {len(fold) for fold in folds} == {7, 8}


def test_folds_are_those_of_the_seed_and_the_collection():
    assert [fold.tolist() for fold in draw_folds(10, 3, 7, "tiny")] == GOLDEN_FOLDS
    for seed, collection in ((8, "tiny"), (7, "other")):
        assert [fold.tolist() for fold in draw_folds(10, 3, seed, collection)] != GOLDEN_FOLDS


@pytest.mark.parametrize("folds", [2, 4])
def test_each_network_is_predicted_once_by_a_model_that_saw_all_others_but_its_fold(scripted, folds):
    train = make_sample(31, first_row=100)
    run(make_task(folds=folds, trials=1), train)
    predicted, learned = held_out(scripted, 0)
    assert len(predicted) == folds
    assert sorted(row for held in predicted for row in held) == train.rows.tolist()
    for held, seen in zip(predicted, learned, strict=True):
        assert sorted(held + seen) == train.rows.tolist()


def test_folds_are_the_same_for_all_predictors_features_and_trials_of_a_collection(scripted):
    train = make_sample(31)
    found = {}
    for key, task in {
        "this": make_task(),
        "other predictor": make_task("dnn"),
        "other features": make_task(features="others"),
        "other collection": make_task(collection="small"),
        "other seed": make_task(seed=8),
    }.items():
        scripted.forget()
        run(task, train)
        assert held_out(scripted, 0) == held_out(scripted, 1) == held_out(scripted, 2)
        found[key] = held_out(scripted, 0)[0]
    assert found["this"] == found["other predictor"] == found["other features"]
    assert found["this"] != found["other collection"] != found["other seed"] != found["this"]


def test_a_value_is_the_mean_squared_error_over_all_networks(scripted):
    """Folds of unequal size: the mean of the folds' errors is another number."""
    train = make_sample(11)
    scripted.forget({0: 0.25, 1: 0.0})
    study, _ = run(make_task(folds=3, trials=2), train)
    accuracy = dict(zip(train.rows.tolist(), train.target, strict=True))
    for number, shift in ((0, 0.25), (1, 0.0)):
        errors = []
        for held, seen in zip(*held_out(scripted, number), strict=True):
            predicted = np.mean([accuracy[row] for row in seen]) + shift
            errors += [(accuracy[row] - predicted) ** 2 for row in held]
        assert len(errors) == 11
        assert study.trials[number].value == pytest.approx(np.mean(errors), rel=1e-12)


@pytest.mark.parametrize("name", ["linear", "catboost", "dnn"])
def test_values_are_those_of_predictors_fitted_by_hand(name):
    train, task = make_sample(29), make_task(name, folds=3, trials=2)
    study, _ = run(task, train)
    state = int(seeds.generator(7, "search.random_state", "tiny", name, "stats").integers(2**31))
    limits = {"catboost": {"iterations": 20, "random_state": state}, "dnn": {"max_epochs": 4, "random_state": state}}
    order = seeds.generator(7, "search.folds", "tiny").permutation(29)
    for trial in study.trials:
        settings = {key.removesuffix("_adam").removesuffix("_sgd"): value for key, value in trial.params.items()}
        squares = np.full(29, np.nan)
        for held in map(np.sort, np.array_split(order, 3)):
            seen = np.setdiff1d(order, held)
            model = predictors.REGISTRY[name](**settings, **limits.get(name, {}))
            model.fit(train.features.iloc[seen], train.target[seen])
            squares[held] = (model.predict(train.features.iloc[held]) - train.target[held]) ** 2
        assert trial.value == pytest.approx(squares.mean(), rel=1e-9)


def test_the_best_trial_has_the_least_error(scripted):
    scripted.forget({0: 0.2, 1: 0.05, 2: 0.4})
    study, _ = run(make_task(), make_sample(20))
    assert study.best_trial.number == 1
    assert study.best_value == min(trial.value for trial in study.trials)


def test_the_first_trial_has_the_usual_settings_and_the_others_are_all_different(scripted):
    study, told = run(make_task(trials=6), make_sample(20))
    settings = [trial.params["setting"] for trial in study.trials]
    assert settings[0] == scripted.start["setting"]
    assert len(set(settings)) == 6
    assert [trial.number for trial in told] == list(range(6))
    assert [trial.params for trial in told] == [trial.params for trial in study.trials]


def test_settings_are_drawn_for_each_task_apart_and_are_the_same_again(scripted):
    tasks = [make_task(), make_task("dnn"), make_task(features="b"), make_task(collection="b"), make_task(seed=8)]
    drawn = [run(task, make_sample(20))[0].trials[1].params["setting"] for task in tasks]
    assert len(set(drawn)) == len(tasks)
    assert run(make_task(), make_sample(20))[0].trials[1].params["setting"] == drawn[0]


def test_a_bad_trial_is_cut_short_after_its_first_fold_but_none_of_the_first_three(scripted):
    """Trials 1, 2 and 4 are wrong by far; a trial that is cut short never counts as the best."""
    scripted.forget({1: 9.0, 2: 8.0, 4: 7.0})
    study, _ = run(make_task(trials=6, folds=3), make_sample(20))
    assert [trial.state for trial in study.trials] == [COMPLETE, COMPLETE, COMPLETE, COMPLETE, PRUNED, COMPLETE]
    assert [sum(number == trial for number, _ in scripted.fits) for trial in range(6)] == [3, 3, 3, 3, 1, 3]
    assert [sorted(trial.intermediate_values) for trial in study.trials] == [[0, 1, 2]] * 4 + [[0], [0, 1, 2]]


def test_folds_divide_no_group():
    groups = np.array([4, 4, 0, 0, 0, 9, 9, 2, 7, 7])
    folds = draw_folds(10, 3, 7, "tiny", groups)
    assert sorted(np.concatenate(folds).tolist()) == list(range(10))
    held = [set(groups[fold]) for fold in folds]
    assert sum(map(len, held)) == 5
    assert all(held)
