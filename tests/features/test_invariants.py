"""Spectra, channels and products against plain NumPy, and under a change of the order of hidden units."""

import numpy as np
import pytest
from permutations import networks, permute_hidden_units

from cnnzoo import features
from cnnzoo.network.layout import Architecture, Layout, layout_of

LAYOUT = layout_of(Architecture())
LAYOUTS = {
    "published": LAYOUT,
    "narrow": layout_of(Architecture(num_units=4)),
    "one layer": layout_of(Architecture(num_layers=1)),
}
SETS = {"published": "0,1,2,3", "narrow": "0,1,2,3", "one layer": "0,1"}

# float32 features of float64 arithmetic; singular values from Gram matrices are exact to 1e-8 of the largest.
RTOL, ATOL = 3e-7, 3e-7


def plain(kind: str, row: np.ndarray, layout: Layout) -> np.ndarray:
    """The sets written down again for one network and all of its layers, with NumPy's own decomposition."""
    tensors = layout.split(row.astype(np.float64))
    biases = [tensors[bias.name] for bias, _ in layout.layers]
    kernels = [tensors[kernel.name] for _, kernel in layout.layers]
    whole = [kernel.reshape(-1, kernel.shape[-1]) for kernel in kernels]
    summed = [kernel.sum(axis=(0, 1)) if kernel.ndim == 4 else kernel for kernel in kernels]
    values: list[np.ndarray] = []
    if kind == "wspectra":
        for kernel, matrix, flat in zip(kernels, whole, summed, strict=True):
            values.append(spectrum(matrix))
            if kernel.ndim == 4:
                values.append(spectrum(flat))
    elif kind == "wchannels":
        for bias, kernel, matrix in zip(biases, kernels, whole, strict=True):
            incoming = np.moveaxis(kernel, -2, 0).reshape(kernel.shape[-2], -1)
            values += [bias, np.linalg.norm(matrix, axis=0), np.linalg.norm(incoming, axis=1), matrix.mean(axis=0)]
        values = [np.sort(value) for value in values]
    else:
        chains = [[whole[first], summed[first + 1]] for first in range(len(whole) - 1)]
        if len(whole) > 2:
            chains.append([whole[0], *summed[1:]])
        for chain in chains:
            rank = min(size for matrix in chain for size in matrix.shape)
            values.append(spectrum(np.linalg.multi_dot(chain))[:rank])
    return np.concatenate(values)


def spectrum(matrix: np.ndarray) -> np.ndarray:
    return np.log1p(np.linalg.svd(matrix, compute_uv=False))


def describe(kind: str, weights: np.ndarray, layout: Layout = LAYOUT, layers: str = "0,1,2,3", **how) -> np.ndarray:
    return features.compute(weights, layout, features.parse(f"{kind}-layers:{layers}"), **how)[0]


@pytest.mark.parametrize("shape", LAYOUTS)
@pytest.mark.parametrize("kind", ["wspectra", "wchannels", "wproducts"])
def test_sets_are_the_plain_formulas(kind, shape):
    layout = LAYOUTS[shape]
    weights = networks(layout)
    found = describe(kind, weights, layout, SETS[shape])
    expected = np.stack([plain(kind, row, layout) for row in weights])
    np.testing.assert_allclose(found, expected, rtol=RTOL, atol=ATOL)
    (part,) = features.parse(f"{kind}-layers:{SETS[shape]}")
    assert len(set(part.columns(layout))) == found.shape[1]


@pytest.mark.parametrize("kind", ["wspectra", "wchannels", "wproducts"])
def test_moving_hidden_units_changes_nothing(kind):
    weights = networks(LAYOUT)
    moved = permute_hidden_units(weights, LAYOUT, np.random.default_rng(1))
    assert not np.array_equal(weights, moved)
    np.testing.assert_allclose(describe(kind, moved), describe(kind, weights), rtol=RTOL, atol=ATOL)


def test_moving_the_units_of_one_layer_alone_does_change_the_products():
    weights = networks(LAYOUT)
    moved = weights.copy()
    _, kernel = LAYOUT.layers[1]
    flipped = LAYOUT.split(weights)[kernel.name][..., ::-1]
    moved[:, kernel.start : kernel.end] = flipped.reshape(len(weights), -1)
    assert not np.allclose(describe("wproducts", moved), describe("wproducts", weights), atol=0.01)
    np.testing.assert_allclose(describe("wspectra", moved), describe("wspectra", weights), rtol=RTOL, atol=ATOL)


def test_huge_weights_give_finite_numbers():
    weights = networks(LAYOUT)
    weights[0] = 1e37
    weights[1] = 1e-37
    for kind in ("wspectra", "wproducts"):
        found = describe(kind, weights)
        assert np.isfinite(found).all()
        assert np.isclose(found[0, 0], np.log(12) + 37 * np.log(10) if kind == "wspectra" else found[0, 0])


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_row_that_is_not_finite_in_a_layer_has_nan_there_and_leaves_the_others_alone(bad):
    weights = networks(LAYOUT)
    spoilt = weights.copy()
    spoilt[5, 1000] = bad  # in conv2d_1/kernel
    for kind, first, last in (("wspectra", 10, 42), ("wproducts", 0, 25)):
        clean, found = describe(kind, weights), describe(kind, spoilt)
        assert np.isnan(found[5, first:last]).all()
        unchanged = np.ones(found.shape, dtype=bool)
        unchanged[5] = False
        np.testing.assert_array_equal(found[unchanged], clean[unchanged])


def test_rows_do_not_depend_on_blocks_or_threads(monkeypatch):
    weights = networks(LAYOUT, 40)
    for kind in ("wspectra", "wchannels", "wproducts"):
        whole = describe(kind, weights)
        with monkeypatch.context() as patch:
            patch.setattr("cnnzoo.features.streaming.BLOCK_ROWS", 7)
            np.testing.assert_array_equal(describe(kind, weights, threads=3), whole)
