"""Initial weights against the formulas of Keras (tf.keras.initializers, TensorFlow 2.x)."""

from math import prod, sqrt

import numpy as np
import pytest
from scipy import stats

from builders import make_recipe
from cnnzoo.network.layout import Architecture, layout_of
from cnnzoo.training.initializers import initial_weights

LAYOUT = layout_of(Architecture())
WIDE = layout_of(Architecture(num_units=96))
"""Large kernels: sharp statistics."""
INIT_STD = 0.05
KERNELS = [variable.name for variable in WIDE.variables if variable.is_kernel]


def fans(shape):
    return prod(shape[:-1]), prod(shape[:-2]) * shape[-1]


# The scale that Keras gives the untruncated normal, as a function of fan_in and fan_out; then whether it truncates.
KERAS = {
    "he_normal": (lambda fan_in, _: sqrt(2 / fan_in) / 0.87962566103423978, True),
    "glorot_normal": (lambda fan_in, fan_out: sqrt(2 / (fan_in + fan_out)) / 0.87962566103423978, True),
    "RandomNormal": (lambda *_: INIT_STD, False),
    "TruncatedNormal": (lambda *_: INIT_STD, True),
}


def kernel(name, w_init, layout=WIDE, network=0, **changes):
    recipe = make_recipe(network, w_init=w_init, **{"init_std": INIT_STD, **changes})
    return layout.split(initial_weights(recipe, "tiny", layout))[name]


@pytest.mark.parametrize("name", KERNELS)
@pytest.mark.parametrize("w_init", KERAS)
def test_kernels_follow_the_distribution_of_keras(w_init, name):
    values = kernel(name, w_init).astype(np.float64)
    scale, is_truncated = KERAS[w_init]
    sigma = scale(*fans(values.shape))
    expected = stats.truncnorm(-2, 2, scale=sigma) if is_truncated else stats.norm(scale=sigma)
    assert stats.kstest(values.ravel(), expected.cdf).pvalue > 1e-4
    assert abs(values.mean()) < 4.5 * expected.std() / sqrt(values.size)
    assert values.std() == pytest.approx(expected.std(), rel=4.5 / sqrt(2 * values.size))
    assert np.abs(values).max() <= 2 * sigma * (1 + 1e-6) or not is_truncated


def test_variance_scaling_meets_the_std_that_it_is_named_for():
    """The correction by 0.8796 makes up for the truncation: the std is sqrt(2 / fan_in) after it."""
    values = kernel("sequential/conv2d_1/kernel:0", "he_normal")
    assert values.std() == pytest.approx(sqrt(2 / (9 * 96)), rel=0.01)
    assert stats.truncnorm(-2, 2).std() == pytest.approx(0.87962566103423978, abs=1e-12)


@pytest.mark.parametrize("layout", [LAYOUT, WIDE, layout_of(Architecture(num_units=3, num_layers=2))])
def test_orthogonal_kernels_have_orthonormal_columns_or_rows(layout):
    for variable in layout.variables:
        if variable.is_kernel:
            matrix = kernel(variable.name, "orthogonal", layout).reshape(-1, variable.shape[-1]).astype(np.float64)
            rows, columns = matrix.shape
            product = matrix.T @ matrix if rows >= columns else matrix @ matrix.T
            np.testing.assert_allclose(product, np.eye(min(rows, columns)), atol=1e-6)


def test_orthogonal_matrices_are_uniform_over_the_group():
    """Without the sign correction QR favours one sign of the diagonal."""
    diagonals = [
        np.diag(kernel("sequential/dense/kernel:0", "orthogonal", LAYOUT, network)[:10]) for network in range(200)
    ]
    share = np.mean(np.array(diagonals) > 0)
    assert abs(share - 0.5) < 4.5 * 0.5 / sqrt(2000)


@pytest.mark.parametrize("w_init", [*KERAS, "orthogonal"])
def test_biases_start_at_zero_and_kernels_do_not(w_init):
    row = initial_weights(make_recipe(0, w_init=w_init), "tiny", LAYOUT)
    assert row.dtype == np.float32
    assert not row[~LAYOUT.kernel_mask].any()
    assert row[LAYOUT.kernel_mask].all()


@pytest.mark.parametrize("w_init", [*KERAS, "orthogonal"])
def test_init_std_scales_the_two_normal_initialisers_and_no_other(w_init):
    rows = [initial_weights(make_recipe(0, w_init=w_init, init_std=std), "tiny", LAYOUT) for std in (0.1, 0.2)]
    if w_init in ("RandomNormal", "TruncatedNormal"):
        np.testing.assert_allclose(rows[1], 2 * rows[0], rtol=1e-6)
    else:
        np.testing.assert_array_equal(rows[0], rows[1])


def test_weights_are_a_function_of_seed_collection_and_network_alone():
    def row(network=0, collection="tiny", **changes):
        return initial_weights(make_recipe(network, w_init="he_normal", **changes), collection, LAYOUT)

    np.testing.assert_array_equal(row(), row())
    np.testing.assert_array_equal(row(), row(learning_rate=0.5, optimizer="adam", dropout=0.1, train_fraction=0.5))
    others = [row(network=1), row(collection="other"), row(random_seed=8)]
    for other in others:
        correlation = np.corrcoef(row()[LAYOUT.kernel_mask], other[LAYOUT.kernel_mask])[0, 1]
        assert abs(correlation) < 4.5 / sqrt(LAYOUT.kernel_mask.sum())


def test_layers_of_one_network_draw_apart():
    row = LAYOUT.split(initial_weights(make_recipe(0, w_init="RandomNormal"), "tiny", LAYOUT))
    first, second = row["sequential/conv2d_1/kernel:0"].ravel(), row["sequential/conv2d_2/kernel:0"].ravel()
    assert abs(np.corrcoef(first, second)[0, 1]) < 4.5 / sqrt(first.size)
