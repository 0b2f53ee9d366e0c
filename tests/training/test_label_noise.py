import numpy as np
import pytest
from scipy import stats

from builders import make_recipe
from cnnzoo.training.label_noise import noisy_labels

LABELS = np.random.default_rng(0).integers(0, 10, 5000).astype(np.uint8)


def noisy(share, **changes):
    return noisy_labels(LABELS, make_recipe(0, label_noise=share, train_fraction=1.0, **changes), "tiny")


@pytest.mark.parametrize("share", [0.1, 0.333, 1.0])
def test_exactly_the_share_is_wrong(share):
    changed = noisy(share)
    assert (changed != LABELS).sum() == round(share * 5000)
    assert changed.dtype == np.uint8
    assert changed.max() <= 9


def test_wrong_labels_are_any_of_the_other_nine():
    shifts = (noisy(1.0).astype(int) - LABELS) % 10
    assert stats.chisquare(np.bincount(shifts, minlength=10)[1:]).pvalue > 1e-4


def test_a_larger_share_keeps_the_wrong_labels_of_a_smaller_one():
    few, many = noisy(0.2), noisy(0.5)
    assert (many[few != LABELS] == few[few != LABELS]).all()


def test_networks_of_another_seed_have_other_wrong_labels():
    assert (noisy(0.5) != noisy(0.5, random_seed=8)).any()


@pytest.mark.parametrize("share", [None, 0.0])
def test_without_noise_labels_stay(share):
    assert noisy(share) is LABELS
