"""Products of batches of matrices by BLAS whose bits depend on neither the processor nor the library.

BLAS adds in an order of its own, so its last bits differ from processor to processor. Here each matrix is split into
two matrices of so few bits that all sums of their products are whole numbers of at most 2^53: exact, whatever the order
and with or without fused multiply-adds. The exact products are added in the order written here.

Source: Ozaki, Ogita, Oishi and Rump, "Error-free transformations of matrix multiplication by using fast routines of
matrix multiplication and its applications" (2012). Two parts hold 2 b bits below the largest entry of a matrix, where
b = (53 - log2 n) / 2 for sums of n terms: 44 bits at n = 144, and the rest is rounded away.

Shape letters: B matrices, m rows, n terms of a sum, k columns.
"""

import math

import numpy as np
from numpy.typing import NDArray

Doubles = NDArray[np.float64]
Integers = NDArray[np.int32]

SMALLEST_EXPONENT = -900
"""Entries of a matrix are taken relative to at least 2 to this power: what is below 2^-944 counts as 0."""


def product(left: Doubles, right: Doubles) -> tuple[Doubles, Integers]:
    """Return p (B, m, k) and e (B,) of finite matrices (B, m, n) and (B, n, k): left @ right = 2^e * p.

    Nothing overflows, however many products follow each other. Rounding: to about 2^-43 of the product of their largest
    entries; that of the two low parts is left out.
    """
    bits = _bits(left.shape[2])
    high, low, exponents = _split(left, bits)
    right_high, right_low, right_exponents = _split(right, bits)
    result = high @ right_low
    result += low @ right_high  # exact
    result *= 2.0**-bits
    result += high @ right_high
    return np.asarray(result), exponents + right_exponents - 2 * bits


def gram(matrices: Doubles) -> Doubles:
    """Return X^T X, (B, n, n), of finite matrices X (B, m, n) with entries between 1e-150 and 1e150 or 0.

    It is that of matrices whose entries are rounded to about 2^-43 of the largest one, so its eigenvalues are no worse
    than those of a sum in double precision.
    """
    bits = _bits(matrices.shape[1])
    high, low, exponents = _split(matrices, bits)
    flipped = high.transpose(0, 2, 1)
    cross = flipped @ low
    cross = cross + cross.transpose(0, 2, 1)  # exact
    whole = (low.transpose(0, 2, 1) @ low * 2.0**-bits + cross) * 2.0**-bits + flipped @ high
    scale = np.ldexp(1.0, exponents - bits)[:, None, None]
    return np.asarray(whole * scale * scale)


def exponents_of(matrices: Doubles) -> Integers:
    """Return e (B,): the smallest with all entries of a matrix (B, m, n) below 2^e, but at least SMALLEST_EXPONENT."""
    largest = np.maximum(matrices.max(axis=(1, 2), initial=0), -matrices.min(axis=(1, 2), initial=0))
    return np.asarray(np.maximum(np.frexp(largest)[1], SMALLEST_EXPONENT))


def _bits(terms: int) -> int:
    """Return how many bits the parts have: products of parts are at most 2^(2 bits), their sums 2^53."""
    return (53 - math.ceil(math.log2(max(1, terms)))) // 2


def _split(matrices: Doubles, bits: int) -> tuple[Doubles, Doubles, Integers]:
    """Return whole numbers `high` (up to 2^bits) and `low` (up to half as much), and exponents e (B,).

    matrices = 2^(e - bits) * (high + 2^-bits * low), to rounding.
    """
    exponents = exponents_of(matrices)
    low = matrices * np.ldexp(1.0, bits - exponents)[:, None, None]
    high = np.rint(low)
    low -= high
    low *= 2.0**bits
    return high, np.rint(low, out=low), exponents
