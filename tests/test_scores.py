"""Scores against scikit-learn and SciPy; the ceiling of tau against brute force; intervals against their meaning."""

import itertools

import numpy as np
import pytest
from scipy.stats import kendalltau
from sklearn.metrics import mean_absolute_error, mean_squared_error, r2_score

from cnnzoo import scores


@pytest.fixture
def sample() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(3)
    target = np.round(rng.uniform(0.1, 0.99, 400), 2)  # with ties
    return target, np.clip(target + rng.normal(0, 0.05, 400), 0, 1)


def test_scores_are_those_of_scikit_learn_and_scipy(sample):
    target, predicted = sample
    found = scores.score(target, predicted)
    assert found["r2"] == pytest.approx(r2_score(target, predicted), rel=1e-12)
    assert found["mse"] == pytest.approx(mean_squared_error(target, predicted), rel=1e-12)
    assert found["mae"] == pytest.approx(mean_absolute_error(target, predicted), rel=1e-12)
    assert found["kendall_tau"] == pytest.approx(kendalltau(target, predicted).statistic, rel=1e-12)


def test_a_constant_prediction_ranks_nothing_and_a_constant_target_has_no_scores():
    assert scores.kendall_tau([1.0, 2, 3], [0.5, 0.5, 0.5]) == 0
    assert np.isnan(scores.kendall_tau([1.0, 1, 1], [1.0, 2, 3]))
    assert np.isnan(scores.r2([1.0, 1, 1], [1.0, 2, 3]))
    assert np.isnan(scores.kendall_tau_ceiling([1.0, 1, 1]))


@pytest.mark.parametrize(
    "target", [(1, 2, 3, 4), (1, 1, 2, 3), (1, 1, 2, 2, 3), (1, 1, 1, 1, 2), (5, 1, 5, 1, 5, 2)], ids=str
)
def test_the_ceiling_is_the_best_tau_of_all_rankings_without_ties(target):
    best = max(kendalltau(target, ranking).statistic for ranking in itertools.permutations(range(len(target))))
    assert scores.kendall_tau_ceiling(target) == pytest.approx(best, rel=1e-12)


def test_intervals_are_those_of_a_plain_bootstrap(sample):
    target, predicted = sample
    found = scores.intervals(target, predicted, 200, 0.9, np.random.default_rng(5))
    rng = np.random.default_rng(5)
    rows = rng.integers(0, len(target), (200, len(target)))
    plain = {
        "r2": [r2_score(target[r], predicted[r]) for r in rows],
        "mse": [mean_squared_error(target[r], predicted[r]) for r in rows],
        "mae": [mean_absolute_error(target[r], predicted[r]) for r in rows],
        "kendall_tau": [kendalltau(target[r], predicted[r]).statistic for r in rows],
    }
    for name, values in plain.items():
        assert found[name] == pytest.approx(tuple(np.percentile(values, [5, 95])), rel=1e-9), name


def test_intervals_repeat_with_their_generator_and_hold_the_score(sample):
    target, predicted = sample
    first, again = (scores.intervals(target, predicted, 300, 0.95, np.random.default_rng(1)) for _ in range(2))
    assert first == again
    for name, (low, high) in first.items():
        assert low < scores.score(target, predicted)[name] < high


def test_intervals_cover_the_true_score_about_as_often_as_they_say():
    rng = np.random.default_rng(11)
    truth = 0.04  # variance of the noise = the true mean squared error
    hits = 0
    for _ in range(60):
        target = rng.normal(size=80)
        low, high = scores.intervals(target, target + rng.normal(0, 0.2, 80), 100, 0.9, rng)["mse"]
        hits += low <= truth <= high
    assert 43 <= hits <= 59  # 0.90 nominal, a little less for 80 networks; within five sigma of a binomial


def test_unequal_lengths_are_refused():
    with pytest.raises(ValueError, match="equally long"):
        scores.score([0.1, 0.2], [0.1])
