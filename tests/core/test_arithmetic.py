"""The fixed elementary functions, against the libraries whose last bits depend on the processor."""

import math
import os
import subprocess
import sys

import numpy as np
import pytest
from scipy.special import ndtri

from cnnzoo.core import arithmetic


def test_logarithm_is_within_one_ulp():
    random = np.random.default_rng(0)
    x = np.concatenate([np.exp(random.uniform(-700, 700, 100_000)), random.uniform(0.5, 2, 100_000), [1.0, 5e-324]])
    expected = np.log(x)
    assert np.all(np.abs(arithmetic.log(x) - expected) <= np.spacing(np.abs(expected)))


def test_exponential_is_within_one_ulp():
    for x in [*np.random.default_rng(0).uniform(-700, 700, 20_000), 0.0, -1.0, math.log(2) / 2]:
        assert abs(arithmetic.exp(float(x)) - math.exp(x)) <= np.spacing(math.exp(x))


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
import hashlib, sys
sys.path.insert(0, "tests")
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


@pytest.mark.parametrize(
    "processor", [{}, {"NPY_DISABLE_CPU_FEATURES": "AVX2 FMA3 AVX512F AVX512_SKX", "OPENBLAS_CORETYPE": "Nehalem"}]
)
def test_recipes_and_initial_weights_have_the_golden_bits_on_any_processor(processor):
    made = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", DIGEST],
        env=os.environ | processor,
        capture_output=True,
        text=True,
        check=True,
    )
    assert made.stdout.strip() == GOLDEN
