"""Probe images and features against golden files (`golden.py` tells how to write them again, and what that means)."""

import golden
import numpy as np
import pandas as pd
import pytest

from cnnzoo import features
from cnnzoo.features import probe_images

# float32 features; `share`, `agreement` and `rank` magnify rounding (see test_probes.py).
RTOL, ATOL = 1e-5, 1e-6
SHARP_ATOL = 1e-3


def test_probe_images_are_those_that_saved_predictors_were_trained_on():
    expected = pd.read_csv(golden.IMAGES, sep=" ").set_index(["side", "family", "variant", "pattern"])
    found = golden.describe_images()
    assert list(found.index) == list(expected.index)
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("side", [*golden.SIDES, 63])
def test_no_pixel_of_a_probe_image_lies_between_two_levels(side, monkeypatch):
    """So rounding to levels hides the last bits of sine, exponential and Fourier transform on every processor."""
    rounded = []
    monkeypatch.setattr(probe_images.np, "round", lambda levels: rounded.append(levels) or np.rint(levels))
    probe_images.probe_images.__wrapped__(side)
    (levels,) = rounded
    assert np.abs(levels - np.floor(levels) - 0.5).min() > 1e-6


def test_features_are_those_that_saved_predictors_were_trained_on():
    expected = pd.read_csv(golden.FEATURES, sep=" ").set_index(["set", "column"])
    found = golden.describe_networks()
    assert list(found.index) == list(expected.index), "columns or their order"
    sharp = expected.index.get_level_values("column").str.contains("share|agreement|rank")
    allowed = RTOL * np.abs(expected.to_numpy()) + np.where(sharp, SHARP_ATOL, ATOL)[:, None]
    wrong = (np.abs(found.to_numpy() - expected.to_numpy()) > allowed).any(axis=1)
    assert list(found.index[wrong]) == []


def test_columns_of_weights_and_hyperparameters_keep_names_and_order():
    (weights,), (hyper,) = features.parse("weights"), features.parse("hyper")
    assert hyper.columns() == [
        "config.learning_rate",
        "config.l2reg",
        "config.init_std",
        "config.dropout",
        "config.train_fraction",
        "config.activation",
        "config.optimizer",
        "config.w_init",
    ]
    columns = weights.columns(golden.LAYOUT)
    assert columns[:5] == ["conv2d/bias:0", "conv2d/bias:1", "conv2d/bias:2", "conv2d/bias:3", "conv2d/kernel:0"]
    assert columns[39:45] == [
        "conv2d/kernel:35",
        "conv2d_1/bias:0",
        "conv2d_1/bias:1",
        "conv2d_1/bias:2",
        "conv2d_1/bias:3",
        "conv2d_1/kernel:0",
    ]
    assert columns[-1] == "dense/kernel:39"
    assert features.CATEGORIES == {
        "config.activation": ("relu", "tanh"),
        "config.optimizer": ("sgd", "adam", "rmsprop"),
        "config.w_init": ("he_normal", "glorot_normal", "orthogonal", "RandomNormal", "TruncatedNormal"),
    }
