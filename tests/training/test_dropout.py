"""Dropout masks against a second implementation of their definition, in Python integers, and against chance."""

import numpy as np
import pytest
import torch
from scipy import stats

from cnnzoo.network.layout import Architecture
from cnnzoo.training.dropout import MaskPlan, masks, step_key, threshold, words
from cnnzoo.training.engines.base import Cohort
from cnnzoo.training.engines.batched import _Dropout

PUBLISHED = MaskPlan((169, 36, 4), 16)  # 28 pixels: sides 13, 6, 2
ODD = MaskPlan((9, 1), 3)  # an odd number of positions: the last word of a layer is half used
KEY = (0x12345678, 0x9ABCDEF0)
SIGMAS = 4.5
"""Masks are fixed by their keys, so a test passes always or never; this is how unlucky a key may be."""


def word(counter, a, b):
    """The docstring's `word(c; a, b)`, in integers that do not wrap by themselves."""
    bits = 2**32 - 1
    x = (counter * 0x9E3779B9 + a) & bits
    x ^= x >> 16
    x = x * 0x21F0AAAD & bits
    x ^= x >> 15
    x ^= b
    x = x * 0x735A2D97 & bits
    return x ^ x >> 15


def is_kept(plan, network_key, step, rate, place):
    """The docstring's definition of one bit of one mask; `place` is (image, layer, position, channel)."""
    image, layer, position, channel = place
    key = word(step, *network_key), word((step + 2**31) % 2**32, *network_key)
    pairs = [(positions + 1) // 2 for positions in plan.positions]
    offset, total = plan.channels * sum(pairs[:layer]), plan.channels * sum(pairs)
    counter = image * total + offset + (position // 2) * plan.channels + channel
    return word(counter, *key) >> (16 * (position % 2)) & 0xFFFF >= round(rate * 65536)


@pytest.mark.parametrize("plan", [PUBLISHED, ODD])
@pytest.mark.parametrize("step", [0, 1, 2**31 - 1])
def test_masks_equal_their_definition(plan, step):
    kept = masks(plan, step_key(KEY, step), 0.37, images=3)
    for layer, mask in enumerate(kept):
        assert mask.shape == (3, plan.positions[layer], plan.channels)
        for index in np.ndindex(mask.shape):
            assert mask[index] == is_kept(plan, KEY, step, 0.37, (index[0], layer, *index[1:]))


@pytest.mark.parametrize("seed", [1, 2])
def test_words_wrap_like_integers_modulo_2_to_the_32(seed):
    counters = np.random.default_rng(seed).integers(0, 2**32, 200, dtype=np.uint32)
    assert words(counters, KEY).tolist() == [word(int(counter), *KEY) for counter in counters]


@pytest.mark.parametrize("first_step", [0, 2**31 - 4])
@pytest.mark.parametrize("image_size", [28, 32, 11])
def test_torch_masks_equal_the_numpy_definition_bit_for_bit(image_size, first_step):
    rates = np.array([0.0, 0.1, 0.5, 0.7, 0.99])
    keys = np.random.default_rng(3).integers(0, 2**32, (5, 2), dtype=np.uint32)
    ones = np.ones(5)
    architecture = Architecture(num_units=7 if image_size == 11 else 16, num_layers=2 if image_size == 11 else 3)
    cohort = Cohort(architecture, image_size, "sgd", "relu", ones, ones, rates, keys)
    drawn = _Dropout(cohort, torch.device("cpu"))
    for offset, step_keys in enumerate(drawn.step_keys(first_step, steps=4)):
        layers = drawn.masks(step_keys, images=6)
        for network, rate in enumerate(rates):
            key = step_key(tuple(int(k) for k in keys[network]), first_step + offset)
            for mask, kept in zip(layers, masks(cohort.mask_plan, key, rate, images=6), strict=True):
                expected = kept.astype(np.float32) * np.float32(1 / (1 - rate))
                np.testing.assert_array_equal(mask[network].numpy().reshape(kept.shape), expected)


@pytest.mark.parametrize("rate", [0.01, 0.1, 0.25, 0.5, 0.7, 0.99])
def test_kept_share_is_one_minus_the_rate_in_every_layer_position_and_channel(rate):
    images = 4000
    for mask in masks(PUBLISHED, step_key(KEY, 5), rate, images):
        kept = mask.sum(axis=0)  # (positions, channels), each binomial
        z_squared = (kept - images * (1 - rate)) ** 2 / (images * rate * (1 - rate))
        assert stats.chi2.sf(z_squared.sum(), kept.size) > 1e-4
        assert z_squared.max() < 5.5**2


def test_rate_0_keeps_everything_and_a_rate_is_met_to_16_bits():
    assert all(mask.all() for mask in masks(PUBLISHED, KEY, 0.0, 10))
    assert threshold(0.0) == 0
    for rate in np.random.default_rng(4).uniform(0, 0.7, 100):
        assert abs(threshold(rate) / 65536 - rate) <= 0.5 / 65536


def flat(key, step, images=64):
    return np.concatenate([mask.ravel() for mask in masks(PUBLISHED, step_key(key, step), 0.5, images)]) * 2.0 - 1


def assert_uncorrelated(a, b):
    assert abs(np.mean(a * b)) < SIGMAS / np.sqrt(a.size)


@pytest.mark.parametrize("distance", [1, 2, 64, 2**20])
def test_masks_of_different_steps_are_independent(distance):
    for step in range(5):
        assert_uncorrelated(flat(KEY, step), flat(KEY, step + distance))


@pytest.mark.parametrize("other", [(KEY[0] + 1, KEY[1]), (KEY[0], KEY[1] + 1), (KEY[1], KEY[0]), (KEY[0], 0)])
def test_masks_of_different_networks_are_independent(other):
    for step in range(5):
        assert_uncorrelated(flat(KEY, step), flat(other, step))


@pytest.mark.parametrize("layer", [0, 1, 2])
def test_masks_of_neighbouring_images_positions_and_channels_are_independent(layer):
    for step in range(5):
        mask = masks(PUBLISHED, step_key(KEY, step), 0.5, 500)[layer] * 2.0 - 1
        for axis in range(3):
            length = mask.shape[axis]
            for distance in (1, 2, 3):
                head = mask.take(range(length - distance), axis)
                assert_uncorrelated(head, mask.take(range(distance, length), axis))


def test_masks_of_different_layers_are_independent():
    for step in range(5):
        first, second, third = masks(PUBLISHED, step_key(KEY, step), 0.5, 2000)
        assert_uncorrelated(first[:, :36] * 2.0 - 1, second * 2.0 - 1)
        assert_uncorrelated(second[:, :4] * 2.0 - 1, third * 2.0 - 1)


def test_one_unit_is_kept_independently_from_step_to_step():
    """The joint count of a unit's states at successive steps, over all units, is that of independent coin flips."""
    states = np.stack([flat(KEY, step, images=8) > 0 for step in range(8)])  # (8, units)
    patterns = (states * 2 ** np.arange(8)[:, None]).sum(axis=0)
    assert stats.chisquare(np.bincount(patterns, minlength=256)).pvalue > 1e-4


def test_first_images_of_a_minibatch_have_the_same_masks_whatever_its_size():
    for few, many in zip(masks(PUBLISHED, KEY, 0.5, 3), masks(PUBLISHED, KEY, 0.5, 9), strict=True):
        np.testing.assert_array_equal(few, many[:3])
