"""Data-free probing against torch's network and plain formulas, and under changes of order."""

import tracemalloc

import numpy as np
import pandas as pd
import pytest
from permutations import networks, permute_classes, permute_hidden_units
from plain_probes import plain_descriptions, run

from cnnzoo import features, predictors
from cnnzoo.core.errors import CnnzooError
from cnnzoo.features.parts import FAMILIES, VARIANTS
from cnnzoo.features.probe_images import PATTERNS, probe_images
from cnnzoo.features.probes import describe_hidden, describe_logits
from cnnzoo.network.layout import Architecture, Layout, layout_of

LAYOUT = layout_of(Architecture())
IMAGES = len(FAMILIES) * PATTERNS * len(VARIANTS)

# Logits are float32 sums in another order; `sharp` answers magnify the smallest differences that count 20,000 times.
RTOL, ATOL = 1e-4, 2e-3
SOFT_ATOL = 1e-4


def probe(weights: np.ndarray, activation: str = "relu", layout: Layout = LAYOUT, threads: int = 1) -> pd.DataFrame:
    metrics = pd.DataFrame({"config.activation": [activation] * len(weights)})
    return features.describe("probes", weights, layout, metrics, threads)


def probe_each(weights: np.ndarray, activations: list[str], layout: Layout = LAYOUT, threads: int = 1) -> pd.DataFrame:
    return features.describe("probes", weights, layout, pd.DataFrame({"config.activation": activations}), threads)


def mixed_networks(count: int, layout: Layout = LAYOUT) -> np.ndarray:
    """Return networks whose answers depend much on the activation."""
    rng = np.random.default_rng(3)
    scales = rng.uniform(0.3, 1, (count, 1)).astype(np.float32)
    return rng.standard_normal((count, layout.size), dtype=np.float32) * scales


def assert_same(first: pd.DataFrame, second: pd.DataFrame) -> None:
    pd.testing.assert_index_equal(first.columns, second.columns)
    difference = np.abs(first - second)
    allowed = RTOL * np.abs(second) + [ATOL if "share" in c or "agreement" in c else SOFT_ATOL for c in first.columns]
    wrong = first.columns[(difference > allowed).any(axis=0)]
    assert list(wrong) == [], difference[wrong].max()


def test_images_are_a_fixed_set_of_distinct_grey_images():
    images = probe_images(28)
    assert images.shape == (len(FAMILIES), PATTERNS, len(VARIANTS), 28, 28)
    assert images.dtype == np.float32
    assert np.abs(images).max() <= 1
    assert len(np.unique(images.reshape(IMAGES, -1), axis=0)) == IMAGES
    np.testing.assert_allclose((images + 1) * 127.5, np.round((images + 1) * 127.5), atol=1e-3)
    np.testing.assert_allclose(images[:, :, 1], -images[:, :, 0], atol=1e-6)
    np.testing.assert_array_equal(images[:, :, 2, 2:, 2:], images[:, :, 0, :-2, :-2])
    with pytest.raises(ValueError, match="read-only"):
        images[0] = 0
    probe_images.cache_clear()
    np.testing.assert_array_equal(probe_images(28), images)


@pytest.mark.parametrize("activation", ["relu", "tanh"])
def test_moving_hidden_units_changes_nothing(activation):
    weights = networks(LAYOUT)
    moved = permute_hidden_units(weights, LAYOUT, np.random.default_rng(1))
    assert_same(probe(moved, activation), probe(weights, activation))


@pytest.mark.parametrize("activation", ["relu", "tanh"])
def test_moving_classes_changes_nothing(activation):
    weights = networks(LAYOUT)
    moved = permute_classes(weights, LAYOUT, np.random.default_rng(2))
    assert_same(probe(moved, activation), probe(weights, activation))


@pytest.mark.parametrize("classes", [10, 3, 2])
def test_every_description_is_its_plain_formula(classes):
    rng = np.random.default_rng(classes)
    logits = (3 * rng.standard_normal((2, IMAGES, classes))).astype(np.float32)
    maps = rng.standard_normal((2, IMAGES, 4, 7)).astype(np.float32)
    maps[1, :, :, 3:5] = 0
    found = describe_logits(logits) | describe_hidden(maps)
    for network in range(2):
        expected = plain_descriptions(logits[network].astype(np.float64), maps[network].astype(np.float64))
        assert found.keys() == expected.keys()
        for name, value in expected.items():
            assert found[name][network] == pytest.approx(value, rel=1e-6, abs=1e-7), name


@pytest.mark.parametrize("architecture", [Architecture(), Architecture(num_units=4, num_layers=2, num_channels=3)])
@pytest.mark.parametrize("first", ["relu", "tanh"])
def test_columns_are_what_the_torch_module_says_to_the_images_with_the_activation_of_each_network(first, architecture):
    layout = layout_of(architecture)
    weights = mixed_networks(6, layout)
    activations = [first, *["tanh", "relu", "relu", "tanh", "relu"]]
    found = probe_each(weights, activations, layout)
    images = probe_images(28).reshape(-1, 28, 28)
    answers = [run(row, layout, activation, images) for row, activation in zip(weights, activations, strict=True)]
    expected = pd.DataFrame([plain_descriptions(*answer) for answer in answers])
    assert set(found.columns) == set(expected.columns)
    assert_same(found.astype(np.float64), expected[list(found.columns)])


def test_hidden_units_are_described_by_quantiles_over_units():
    maps = np.abs(np.random.default_rng(0).standard_normal((2, IMAGES, 4, 7))).astype(np.float32)
    maps[1, :, :, 3:5] = 0
    found = describe_hidden(maps)
    values = maps.astype(np.float64).reshape(2, -1, 7)
    np.testing.assert_allclose(found["hidden:mean:q50"], np.log1p(np.median(values.mean(axis=1), axis=1)))
    np.testing.assert_allclose(found["hidden:std:q100"], np.log1p(values.std(axis=1).max(axis=1)))
    np.testing.assert_allclose(found["hidden:saturated:q0"], np.minimum(values**2, 1).mean(axis=1).min(axis=1))
    varied = maps.astype(np.float64).mean(axis=2).std(axis=1)
    np.testing.assert_allclose(found["hidden:varied:q75"], np.percentile(np.log1p(varied), 75, axis=1))
    np.testing.assert_allclose(found["hidden:dead"], [0, 2 / 7], atol=1e-12)


def test_a_network_that_says_the_same_to_every_image_varies_in_nothing():
    weights = np.zeros((1, LAYOUT.size), dtype=np.float32)
    weights[0, 4800] = 5.0  # one dense bias
    found = probe(weights).iloc[0]
    assert found["agreement:shifted"] == pytest.approx(1, abs=1e-6)
    assert found["information"] == pytest.approx(0, abs=1e-6)
    assert found["logits:s0"] == pytest.approx(0, abs=1e-6)
    assert found["change:noisy"] == 0
    assert found["hidden:dead"] == 1
    assert found["share0"] == pytest.approx(1)


@pytest.mark.parametrize("activation", ["relu", "tanh"])
def test_diverged_and_huge_networks_have_finite_descriptions_that_predictors_take(activation):
    weights = networks(LAYOUT)
    weights[0, 200] = np.nan
    weights[1] = np.nan
    weights[2, 4900] = np.inf
    weights[3] = 3e38
    weights[4] *= 1e12
    clean = probe(weights[5:], activation)
    found = probe(weights, activation)
    assert np.isfinite(found.to_numpy()).all()
    pd.testing.assert_frame_equal(found[5:].reset_index(drop=True), clean)
    predictor = predictors.REGISTRY["linear"]().fit(found, np.linspace(0.1, 0.9, len(found)))
    assert np.isfinite(predictor.predict(found)).all()


@pytest.mark.slow
def test_networks_are_described_the_same_alone_or_among_others():
    """Blocks of 512 networks on threads, groups of 64; relu and tanh alternate with no period of either."""
    layout = layout_of(Architecture(num_units=2, num_layers=2))
    weights = mixed_networks(530, layout)
    activations = ["tanh" if number * number % 7 in {1, 2} else "relu" for number in range(530)]
    whole = probe_each(weights, activations, layout, threads=3)
    for number in (0, 1, 63, 64, 65, 100, 255, 256, 257, 511, 512, 513, 529):
        alone = probe(weights[number : number + 1], activations[number], layout)
        assert_same(whole[number : number + 1].reset_index(drop=True), alone)
    assert_same(probe_each(weights, activations, layout, threads=1), whole)


def test_memory_does_not_grow_with_the_rows():
    weights = np.tile(networks(LAYOUT, 8), (40, 1))

    def peak(rows: int) -> int:
        tracemalloc.start()
        probe(weights[:rows])
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most

    peak(1)
    table_bytes = 4 * 215 * 320
    assert peak(320) - peak(64) < 4 * table_bytes


def test_what_is_missing_is_named():
    weights = networks(LAYOUT, 2)
    with pytest.raises(CnnzooError, match=r"no column `config.activation`, which `probes` needs"):
        features.describe("probes", weights, LAYOUT, pd.DataFrame(index=range(2)))
    with pytest.raises(CnnzooError, match=r"`config.activation` has 'gelu', expected one of relu, tanh"):
        probe(weights, "gelu")
    with pytest.raises(CnnzooError, match="only be run if their activations are given"):
        features.compute(weights, LAYOUT, features.parse("probes"))
    with pytest.raises(CnnzooError, match="needs two classes at least, got 1"):
        features.parse("probes")[0].columns(layout_of(Architecture(num_classes=1)))
