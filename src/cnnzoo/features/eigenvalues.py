"""Eigenvalues of many small symmetric matrices at once, with operations that are the same on every processor.

LAPACK's last bits depend on the processor, through BLAS. Here all matrices go through the same few steps together, each
step a NumPy operation that IEEE 754 fixes over whole arrays; the matrices lie along the last axis. A matrix has the
same eigenvalues, to the last bit, alone and among others.

Sources: Householder's tridiagonalisation, Golub and Van Loan, "Matrix Computations", 8.3.1; QL without square roots,
Parlett, "The Symmetric Eigenvalue Problem", 8.15 (Pal, Walker and Kahan; LAPACK's dsterf).

Shape letters: B matrices, n rows and columns, A matrices that are not done yet.
"""

import numpy as np
from numpy.typing import NDArray

from cnnzoo.core.arithmetic import fold
from cnnzoo.features.exact_products import exponents_of

Doubles = NDArray[np.float64]

TILE = 1 << 17
"""Entries of the matrices that are made tridiagonal together: they stay in a core's cache (measured)."""
LEAST = 16
"""Fewest matrices, however large, that are made tridiagonal together: arrays of fewer columns are slow."""
NEGLIGIBLE = 2.0**-106
"""Squares of off-diagonal entries up to this share of the squared largest entry are taken as none."""
NOTHING = 2.0**-200
"""What they are replaced by: above 0, so that no quotient is undefined."""
SWEEPS = 60
"""Most sweeps for one eigenvalue; two or three are usual."""


def eigenvalues(matrices: Doubles) -> Doubles:
    """Return the eigenvalues of symmetric finite matrices (B, n, n), ascending, (B, n).

    Rounding: to about n * 1e-16 of a matrix's largest one. One that SWEEPS sweeps do not find is NaN; no
    known matrix needs so many.
    """
    count, size, _ = matrices.shape
    exponents = exponents_of(matrices)
    diagonal, squares = np.empty((size, count)), np.full((size, count), NOTHING)
    step = max(LEAST, TILE // size**2)
    for start in range(0, count, step):
        tile = slice(start, start + step)
        scaled = matrices[tile].transpose(1, 2, 0) * np.ldexp(1.0, -exponents[tile])  # (n, n, B)
        _make_tridiagonal(np.ascontiguousarray(scaled), diagonal[:, tile], squares[:, tile])
    for place in range(size - 1):
        _make_diagonal(diagonal[place:], squares[place:])
    return np.sort(np.ascontiguousarray(np.ldexp(diagonal, exponents).T), axis=1)


def _make_tridiagonal(matrices: Doubles, diagonal: Doubles, squares: Doubles) -> None:
    """Fill the diagonals (n, B) and the squares of what is beside them, all but the last row; destroys (n, n, B)."""
    size = len(matrices)
    for place in range(size - 2):
        diagonal[place] = matrices[place, place]
        rest = matrices[place + 1 :, place + 1 :]
        squares[place] = _reflect(rest, matrices[place + 1 :, place])
    if size > 1:
        diagonal[-2] = matrices[-2, -2]
        squares[-2] = matrices[-1, -2] * matrices[-1, -2]
    diagonal[-1] = matrices[-1, -1]


def _reflect(rest: Doubles, column: Doubles) -> Doubles:
    """Apply to `rest` (m, m, B), from both sides, the reflection that leaves `column` (m, B) its first entry alone.

    Returns that entry's square (B,). `column` becomes the reflection's vector.
    """
    square = fold(column * column)
    norm = np.sqrt(square)
    size = norm * (norm + np.abs(column[0]))  # half the squared norm of the vector
    some = square > NOTHING**4
    factor = np.where(some, 1 / np.where(some, size, 1), 0)
    column[0] += np.copysign(norm, column[0])
    image = factor * fold(rest * column[:, None])
    image -= (factor / 2 * fold(column * image)) * column
    change = column[:, None] * image
    rest -= change + change.transpose(1, 0, 2)
    return square


def _make_diagonal(diagonal: Doubles, squares: Doubles) -> None:
    """Make the first off-diagonal entry of tridiagonal matrices negligible: the first of `diagonal` is an eigenvalue.

    `diagonal` (n, B) and `squares` (n, B) of the entries beside it, the last row unused, become those of similar
    matrices.
    """
    np.maximum(squares, NOTHING, out=squares)
    for _ in range(SWEEPS):
        (left,) = np.nonzero(squares[0] > NEGLIGIBLE)
        if len(left) == 0:
            return
        if len(left) == diagonal.shape[1]:
            _sweep(diagonal, squares)
            continue
        some, beside = diagonal[:, left], squares[:, left]  # (n, A)
        _sweep(some, beside)
        diagonal[:, left], squares[:, left] = some, beside
    diagonal[0, squares[0] > NEGLIGIBLE] = np.nan


def _sweep(diagonal: Doubles, squares: Doubles) -> None:
    """Make one step of QL, from the last row to the first, with Wilkinson's shift (A,).

    What a row needs of the row before it is computed in the loop, all else at once for all rows.
    """
    beside = np.sqrt(squares[0])
    half = (diagonal[1] - diagonal[0]) / (2 * beside)
    shift = diagonal[0] - beside / (half + np.copysign(np.sqrt(half * half + 1), half))
    shifted = diagonal - shift
    sums, sines = np.empty_like(diagonal), np.empty_like(diagonal)  # sines and cosines of the rotations are squared
    cosine, product = np.empty_like(shift), np.empty_like(shift)
    gammas = shifted.copy()
    p = np.maximum(gammas[-1] * gammas[-1], NOTHING)
    for row in range(len(diagonal) - 2, -1, -1):
        r, sine, gamma = sums[row], sines[row], gammas[row]
        np.add(p, squares[row], out=r)
        np.divide(p, r, out=cosine)
        np.divide(squares[row], r, out=sine)
        gamma *= cosine
        gamma -= np.multiply(sine, gammas[row + 1], out=product)
        np.multiply(gamma, gamma, out=p)
        np.maximum(p, NOTHING, out=p)
        p /= cosine
    diagonal[1:] = gammas[1:] + (diagonal[:-1] - gammas[:-1])
    diagonal[0] = shift + gammas[0]
    squares[1:-1] = sines[1:-1] * sums[:-2]
    squares[0] = sines[0] * p
    np.maximum(squares, NOTHING, out=squares)
