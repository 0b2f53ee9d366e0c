"""Products of matrices by exact parts, against double precision and against whole numbers of any size."""

from fractions import Fraction

import numpy as np
import pytest

from cnnzoo.features.exact_products import gram, product

SHAPES = [(1, 1, 1), (9, 16, 16), (144, 16, 10), (3, 200, 5), (2, 2304, 2)]


def multiplied(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    matrices, exponents = product(left, right)
    return np.ldexp(matrices, exponents[:, None, None])


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("scale", [1, 1e-130, 1e130])
def test_products_are_those_of_double_precision_to_rounding(shape, scale):
    rows, terms, columns = shape
    random = np.random.default_rng(0)
    left, right = random.standard_normal((5, rows, terms)) * scale, random.standard_normal((5, terms, columns))
    left[1], right[2] = 0, 0
    largest = np.abs(left).max() * np.abs(right).max() * terms
    np.testing.assert_allclose(multiplied(left, right), left @ right, rtol=0, atol=2e-12 * largest)


@pytest.mark.parametrize("shape", [(144, 16), (96, 10), (5, 5), (1, 3)])
@pytest.mark.parametrize("scale", [1, 1e-130, 1e130])
def test_gram_matrices_are_symmetric_products(shape, scale):
    matrices = np.random.default_rng(0).standard_normal((4, *shape)) * scale
    matrices[1] = 0
    found = gram(matrices)
    np.testing.assert_array_equal(found, found.transpose(0, 2, 1))
    largest = np.abs(matrices).max() ** 2 * shape[0]
    np.testing.assert_allclose(found, matrices.transpose(0, 2, 1) @ matrices, rtol=0, atol=2e-12 * largest)


@pytest.mark.parametrize("terms", [1, 2, 3, 144, 2304])
def test_all_bits_that_the_parts_hold_enter_the_result(terms):
    """Of whole numbers that two parts hold, as large as can be, the product is the exact one but for the last sums."""
    bits = (53 - (terms - 1).bit_length()) // 2
    random = np.random.default_rng(terms)
    columns = 2.0**53 // 2 ** (53 - 2 * bits) - random.integers(0, 1 << 20, (1, terms, 3))
    (found,) = gram(columns)
    for i, j in np.ndindex(3, 3):
        exact = sum(int(a) * int(b) for a, b in zip(columns[0, :, i], columns[0, :, j], strict=True))
        assert abs(Fraction(found[i, j]) - exact) <= abs(exact) * Fraction(2, 2**53)


def test_a_matrix_has_the_same_product_alone_and_among_others():
    matrices = np.random.default_rng(0).standard_normal((300, 9, 16))
    factors = np.random.default_rng(1).standard_normal((300, 16, 16)) * np.arange(300)[:, None, None]
    np.testing.assert_array_equal(multiplied(matrices, factors)[7:8], multiplied(matrices[7:8], factors[7:8]))
    np.testing.assert_array_equal(gram(factors)[7:8], gram(factors[7:8]))
