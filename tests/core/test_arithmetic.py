"""The fixed elementary functions, against the libraries whose last bits depend on the processor."""

import math

import numpy as np
import pytest
from scipy.special import ndtri

from cnnzoo.core import arithmetic
from processors import OTHERS, run_on


def test_logarithm_is_within_one_ulp():
    random = np.random.default_rng(0)
    x = np.concatenate([np.exp(random.uniform(-700, 700, 100_000)), random.uniform(0.5, 2, 100_000), [1.0, 5e-324]])
    expected = np.log(x)
    assert np.all(np.abs(arithmetic.log(x) - expected) <= np.spacing(np.abs(expected)))


def test_exponential_is_within_one_ulp():
    for x in [*np.random.default_rng(0).uniform(-700, 700, 2_000), 0.0, -1.0, math.log(2) / 2]:
        assert abs(float(arithmetic.exp(x)) - math.exp(x)) <= np.spacing(math.exp(x))
    x = np.random.default_rng(1).uniform(-700, 700, (200, 500))
    assert np.all(np.abs(arithmetic.exp(x) - np.exp(x)) <= np.spacing(np.exp(x)))


def test_logarithm_of_one_plus_x_is_within_two_ulp():
    random = np.random.default_rng(0)
    tiny = 10.0 ** random.uniform(-320, 300, 100_000)
    x = np.concatenate([tiny, -tiny[tiny < 0.9], random.uniform(-0.99, 9, 100_000), [0.0, 1.0, -0.5, 2.0**53, 1e308]])
    expected = np.log1p(x)
    assert np.all(np.abs(arithmetic.log1p(x) - expected) <= 2 * np.spacing(np.abs(expected)))


def test_functions_know_their_borders_without_warnings():
    x = np.array([-np.inf, -1000, -745, 0, 710, 1000, np.inf, np.nan])
    with np.errstate(over="raise", invalid="raise", divide="raise"):
        np.testing.assert_array_equal(arithmetic.exp(x), [0, 0, 5e-324, 1, np.inf, np.inf, np.inf, np.nan])
        np.testing.assert_array_equal(
            arithmetic.log([0.0, -0.0, -1, -np.inf, np.inf, np.nan]), [-np.inf, -np.inf, np.nan, np.nan, np.inf, np.nan]
        )
        np.testing.assert_array_equal(arithmetic.log1p([0.0, np.inf, np.nan]), [0, np.inf, np.nan])


@pytest.mark.parametrize("count", [1, 2, 3, 7, 144, 1000])
def test_fold_sums_over_any_axis_in_an_order_that_depends_on_its_length_alone(count):
    terms = np.random.default_rng(0).standard_normal((5, count, 4))
    sums = arithmetic.fold(terms, axis=1)
    np.testing.assert_allclose(sums, terms.sum(axis=1), atol=1e-12)
    for other in (arithmetic.fold(terms.transpose(2, 1, 0), axis=1).T, arithmetic.fold(np.moveaxis(terms, 1, 0))):
        np.testing.assert_array_equal(other, sums)
    np.testing.assert_array_equal(arithmetic.fold(terms[3:4, :, 2:3], axis=-2), sums[3:4, 2:3])


def test_normal_quantiles_are_those_of_scipy():
    random = np.random.default_rng(0)
    p = np.concatenate([random.random(100_000), 10.0 ** random.uniform(-300, 0, 10_000), [0.075, 0.925, 2.0**-54]])
    np.testing.assert_allclose(arithmetic.normal_quantile(p), ndtri(p), rtol=3e-15, atol=1e-16)


@pytest.mark.parametrize("shape", [(1, 1), (9, 3), (144, 16), (200, 64)])
def test_orthonormal_columns_are_the_q_of_a_positive_triangle(shape):
    matrix = np.random.default_rng(0).standard_normal(shape)
    q, r = np.linalg.qr(matrix)
    np.testing.assert_allclose(arithmetic.orthonormal_columns(matrix), q * np.sign(np.diag(r)), atol=1e-13)


def test_orthonormal_columns_stay_so_where_the_matrix_is_nearly_singular():
    matrix = np.random.default_rng(0).standard_normal((50, 10))
    matrix[:, 1:] = matrix[:, :1] + 1e-7 * matrix[:, 1:]
    q = arithmetic.orthonormal_columns(matrix)
    np.testing.assert_allclose(q.T @ q, np.eye(10), atol=1e-14)


# What decides the bytes of recipes and of initial weights.
DIGEST = """
import hashlib
from builders import make_recipe
from cnnzoo.config import Range
from cnnzoo.network.layout import Architecture, layout_of
from cnnzoo.training.initializers import INITIALIZERS, initial_weights
from cnnzoo.zoo.recipes import quantile
digest = hashlib.sha256()
for w_init in INITIALIZERS:
    recipe = make_recipe(0, w_init=w_init, init_std=0.1)
    digest.update(initial_weights(recipe, "tiny", layout_of(Architecture(num_units=24))).tobytes())
learning_rates = Range(log_uniform=[5e-4, 5e-2])
digest.update(repr([quantile(learning_rates, n / 1000) for n in range(1000)]).encode())
print(digest.hexdigest())
"""
GOLDEN = "de2302079d3ffa857f30dc06020f61eaacbd892b700420b322a40eadf2abbc28"


@pytest.mark.parametrize("processor", [{}, *OTHERS.values()], ids=["this", *OTHERS])
def test_recipes_and_initial_weights_have_the_golden_bits_on_any_processor(processor):
    assert run_on(processor, "-W", "ignore", "-c", DIGEST).strip() == GOLDEN
