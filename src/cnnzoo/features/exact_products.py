"""Products of batches of matrices by BLAS whose bits depend on neither the processor nor the library.

BLAS adds in an order of its own, so its last bits differ from processor to processor. Here each matrix is split into
two matrices of so few bits that all sums of their products are whole numbers below 2^53: exact, whatever the order and
with or without fused multiply-adds. The four exact products are added in the order written here.

Source: Ozaki, Ogita, Oishi and Rump, "Error-free transformations of matrix multiplication by using fast routines of
matrix multiplication and its applications" (2012). Two parts hold 2 b bits below the largest entry of a matrix, where
b = (53 - log2 n) / 2 for sums of n terms: 44 bits at n = 144, and the rest is rounded away. So the error is that of
entries rounded to 2^-44 of the matrix's largest one.

Shape letters: B matrices, m rows, n terms of a sum, k columns.
"""

import math
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

Doubles = NDArray[np.float64]
Integers = NDArray[np.int32]

SMALLEST_EXPONENT = -900
"""Entries of a matrix are taken relative to at least 2 to this power: what is below 2^-944 counts as 0."""
TILE = 1 << 16
"""Entries of the matrices that are multiplied together: they stay in a core's cache (twice as fast, measured)."""


def product(left: Doubles, right: Doubles) -> Doubles:
    """Return left @ right (B, m, k) of finite matrices (B, m, n) and (B, n, k)."""
    result = np.empty((len(left), left.shape[1], right.shape[2]))
    for tile in _tiles(left):
        result[tile] = _product(left[tile], right[tile])
    return result


def gram(matrices: Doubles) -> Doubles:
    """Return the products of the transposed of finite matrices (B, m, n) and themselves, (B, n, n), symmetric."""
    result = np.empty((len(matrices), matrices.shape[2], matrices.shape[2]))
    for tile in _tiles(matrices):
        result[tile] = _gram(matrices[tile])
    return result


def _tiles(matrices: Doubles) -> Iterator[slice]:
    step = max(1, TILE // math.prod(matrices.shape[1:]))
    return (slice(start, start + step) for start in range(0, len(matrices), step))


def _product(left: Doubles, right: Doubles) -> Doubles:
    rows, columns = left.shape[1], right.shape[2]
    bits = _bits(left.shape[2])
    left_parts, left_exponents = _split(left, bits)
    right_parts, right_exponents = _split(right, bits)
    stacked = np.concatenate(left_parts, axis=1) @ np.concatenate(right_parts, axis=2)  # (B, 2 m, 2 k), exact
    high, low = stacked[:, :rows], stacked[:, rows:]
    cross = high[:, :, columns:] + low[:, :, :columns]  # exact
    return _sum(high[:, :, :columns], cross, low[:, :, columns:], left_exponents + right_exponents, bits)


def _gram(matrices: Doubles) -> Doubles:
    bits = _bits(matrices.shape[1])
    (high, low), exponents = _split(matrices, bits)
    flipped = high.transpose(0, 2, 1)
    mixed = flipped @ low
    cross = mixed + mixed.transpose(0, 2, 1)  # exact
    return _sum(flipped @ high, cross, low.transpose(0, 2, 1) @ low, 2 * exponents, bits)


def _bits(terms: int) -> int:
    """Return how many bits the parts have: products of parts are below 2^(2 bits), their sums at most 2^53."""
    return (53 - math.ceil(math.log2(max(1, terms)))) // 2


def _split(matrices: Doubles, bits: int) -> tuple[tuple[Doubles, Doubles], Integers]:
    """Return whole numbers `high` and `low`, at most 2^bits, and exponents e (B,).

    matrices = 2^(e - bits) * (high + 2^-bits low), to rounding.
    """
    exponents = exponents_of(matrices)
    scaled = matrices * np.ldexp(1.0, bits - exponents)[:, None, None]
    high = np.rint(scaled)
    scaled -= high
    scaled *= 2.0**bits
    return (high, np.rint(scaled, out=scaled)), exponents


def exponents_of(matrices: Doubles) -> Integers:
    """Return the exponents e (B,) by which no entry of a matrix (B, m, n) is larger than 2^e, and one at least half."""
    largest = np.maximum(matrices.max(axis=(1, 2), initial=0), -matrices.min(axis=(1, 2), initial=0))
    return np.maximum(np.frexp(largest)[1], SMALLEST_EXPONENT)


def _sum(high: Doubles, cross: Doubles, low: Doubles, exponents: Integers, bits: int) -> Doubles:
    whole = (low * 2.0**-bits + cross) * 2.0**-bits + high
    return np.asarray(np.ldexp(whole, (exponents - 2 * bits)[:, None, None]))
