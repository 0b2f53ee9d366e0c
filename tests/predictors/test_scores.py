"""Scores against scikit-learn and SciPy; ceilings and p-values against brute force; intervals against their meaning."""

import itertools

import numpy as np
import pytest
from scipy.stats import kendalltau
from sklearn.metrics import mean_absolute_error, mean_squared_error, r2_score

from cnnzoo.predictors import scores


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


def test_two_networks_can_be_ranked():
    assert scores.kendall_tau([0.1, 0.2], [0.3, 0.4]) == pytest.approx(1)
    assert scores.kendall_tau([0.1, 0.2], [0.4, 0.3]) == pytest.approx(-1)


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


@pytest.mark.parametrize("decimals", [0, 1, 8])
@pytest.mark.parametrize("networks", [1, 2, 3, 40])
def test_tau_of_all_resamples_at_once_is_that_of_each(networks, decimals):
    """Few values: many resamples have ties, a constant target (no tau) or constant predictions (tau 0)."""
    rng = np.random.default_rng(networks)
    target, predicted = (np.round(rng.normal(size=networks), decimals) for _ in range(2))
    found = scores.bootstrap(target, predicted, 150, np.random.default_rng(2))["kendall_tau"]
    rows = np.random.default_rng(2).integers(0, networks, (150, networks))
    expected = [scores.kendall_tau(target[r], predicted[r]) for r in rows]
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-14)


def test_resamples_do_not_depend_on_how_many_are_computed_at_once(sample, monkeypatch):
    at_once = scores.bootstrap(*sample, 130, np.random.default_rng(4))
    monkeypatch.setattr(scores, "BLOCK", 50 * len(sample[0]))
    found = scores.bootstrap(*sample, 130, np.random.default_rng(4))
    for name, values in at_once.items():
        np.testing.assert_array_equal(found[name], values)


def test_of_networks_in_groups_whole_groups_are_drawn(sample):
    target, predicted = sample
    groups = np.arange(len(target)) // 3 * 7  # the last one is smaller if three do not divide them
    found = scores.bootstrap(target, predicted, 60, np.random.default_rng(6), groups)
    rng, names = np.random.default_rng(6), np.unique(groups)
    for resample in range(60):
        drawn = names[rng.integers(0, len(names), len(names))]
        rows = [row for group in drawn for row in range(len(target)) if groups[row] == group]
        assert found["r2"][resample] == pytest.approx(r2_score(target[rows], predicted[rows]), rel=1e-9)
        assert found["mae"][resample] == pytest.approx(mean_absolute_error(target[rows], predicted[rows]), rel=1e-9)
        assert found["kendall_tau"][resample] == pytest.approx(kendalltau(target[rows], predicted[rows]).statistic)


def test_copies_of_a_network_do_not_narrow_the_interval(sample):
    alone, copied = (np.repeat(np.stack(sample), times, axis=1) for times in (1, 9))
    names = np.repeat(np.arange(len(sample[0])), 9)
    widths = [
        np.ptp(scores.interval(scores.bootstrap(*pair, 150, np.random.default_rng(3), groups)["mae"], 0.9))
        for pair, groups in ((alone, None), (copied, names), (copied, None))
    ]
    assert widths[1] == pytest.approx(widths[0], rel=0.25)
    assert widths[2] < 0.5 * widths[0]


def test_groups_of_one_draw_what_networks_draw(sample):
    plain, alone = (
        scores.bootstrap(*sample, 50, np.random.default_rng(4), groups) for groups in (None, np.arange(len(sample[0])))
    )
    for name, values in plain.items():
        np.testing.assert_array_equal(alone[name], values)


def test_equal_generators_draw_the_same_networks_so_differences_are_paired(sample):
    target, predicted = sample
    noise = np.random.default_rng(8).normal(0, 0.01, len(target))
    first, second = (scores.bootstrap(target, p, 100, np.random.default_rng(9)) for p in (predicted, predicted + noise))
    rows = np.random.default_rng(9).integers(0, len(target), (100, len(target)))
    plain = [r2_score(target[r], predicted[r]) - r2_score(target[r], predicted[r] + noise[r]) for r in rows]
    gain = first["r2"] - second["r2"]
    np.testing.assert_allclose(gain, plain, atol=1e-12)
    low, high = scores.interval(gain, 0.9)
    assert (low, high) == pytest.approx(tuple(np.percentile(plain, [5, 95])))
    widths = [np.ptp(scores.interval(draws["r2"], 0.9)) for draws in (first, second)]
    assert high - low < 0.5 * min(widths), "the networks' own luck must cancel"


def test_an_interval_leaves_out_undefined_resamples():
    assert scores.interval(np.array([np.nan, 1.0, 2.0, 3.0]), 0.5) == (1.5, 2.5)
    assert np.isnan(scores.interval(np.array([np.nan]), 0.5)).all()


@pytest.mark.parametrize("predicted", [(0.2, 0.1, 0.4, 0.3, 0.5), (0.5, 0.1, 0.2, 0.2, 0.3), (0.5, 0.4, 0.3, 0.2, 0.1)])
def test_the_p_value_is_the_share_of_all_pairings_that_score_as_high(predicted):
    target = (0.1, 0.2, 0.2, 0.7, 0.9)
    every = [r2_score(order, predicted) for order in itertools.permutations(target)]
    exact = np.mean(np.array(every) >= r2_score(target, predicted) - 1e-9)
    found = scores.permutation_p_value(target, predicted, 4000, np.random.default_rng(0))
    assert found == pytest.approx(exact, abs=4 * np.sqrt(exact * (1 - exact) / 4000) + 1 / 4001)


def test_p_values_of_unrelated_predictions_are_uniform_and_those_of_good_ones_the_smallest_possible(sample):
    rng = np.random.default_rng(3)
    found = [scores.permutation_p_value(rng.normal(size=30), rng.normal(size=30), 99, rng) for _ in range(200)]
    assert np.mean(np.array(found) <= 0.1) == pytest.approx(0.1, abs=0.085)  # four sigma of 200 draws
    assert np.mean(np.array(found) <= 0.5) == pytest.approx(0.5, abs=0.14)
    assert scores.permutation_p_value(*sample, 99, rng) == pytest.approx(1 / 100)


def test_constant_predictions_are_no_better_than_chance_and_a_constant_target_has_no_p_value():
    rng = np.random.default_rng(0)
    assert scores.permutation_p_value([0.1, 0.2, 0.7], [0.3, 0.3, 0.3], 50, rng) == 1
    assert np.isnan(scores.permutation_p_value([0.1, 0.1, 0.1], [0.1, 0.2, 0.3], 50, rng))


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
