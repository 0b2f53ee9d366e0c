"""Eigenvalues of batches of symmetric matrices against LAPACK's, of matrices that are hard for QL too."""

import numpy as np
import pytest

from cnnzoo.features import eigenvalues as module
from cnnzoo.features.eigenvalues import eigenvalues

SIZES = [1, 2, 3, 9, 10, 16, 33, 128]

# Of the largest eigenvalue: LAPACK's own differ as much from one processor to another.
TOLERANCE = 2e-14


def matrices(size: int) -> dict[str, np.ndarray]:
    random = np.random.default_rng(size)
    normal = random.standard_normal((12, size, size))
    normal += normal.transpose(0, 2, 1)
    orthogonal, _ = np.linalg.qr(random.standard_normal((size, size)))
    few = random.standard_normal((12, size, 3))
    place = np.arange(size)
    beside = np.diag(np.ones(size - 1), 1)
    falling = 10.0 ** -np.minimum(place, 150)
    far = np.zeros((2, size, size))
    far[:, 0, -1] = far[:, -1, 0] = 1
    return {
        "normal": normal,
        "zero": np.zeros((3, size, size)),
        "identity": np.tile(np.eye(size), (2, 1, 1)),
        "diagonal": np.tile(np.diag(place.astype(float)), (2, 1, 1)),
        "flipped identity": np.tile(np.eye(size)[::-1], (2, 1, 1)),
        "ones": np.ones((2, size, size)),
        "rank one": few[:, :, :1] * few[:, None, :, 0],
        "rank three": few @ few.transpose(0, 2, 1),
        "two eigenvalues": ((orthogonal * np.where(place < size // 2, 1, 2)) @ orthogonal.T)[None],
        "huge": normal * 1e300,
        "tiny": normal * 1e-250,
        "falling": normal * falling[:, None] * falling,
        "rising": normal * falling[::-1, None] * falling[::-1],
        "sparse": np.where(np.abs(normal) > 2, normal, 0),
        "one pair": far,
        "Wilkinson": (np.diag(np.abs(place - size // 2).astype(float)) + beside + beside.T)[None],
    }


@pytest.mark.parametrize("kind", matrices(2))
@pytest.mark.parametrize("size", SIZES)
def test_eigenvalues_are_those_of_lapack(size, kind):
    given = matrices(size)[kind]
    given = (given + given.transpose(0, 2, 1)) / 2
    before = given.copy()
    with np.errstate(over="raise", invalid="raise", divide="raise"):
        found = eigenvalues(given)
    expected = np.linalg.eigvalsh(given)
    largest = np.abs(expected).max(axis=1, keepdims=True)
    assert (np.abs(found - expected) <= TOLERANCE * largest).all()
    assert (np.diff(found) >= 0).all()
    np.testing.assert_array_equal(given, before)


@pytest.mark.parametrize("size", [2, 9, 16])
def test_a_matrix_has_the_same_eigenvalues_alone_and_among_others(size):
    given = np.concatenate([each / max(1, np.abs(each).max()) for each in matrices(size).values()])
    alone = np.concatenate([eigenvalues(given[place : place + 1]) for place in range(len(given))])
    np.testing.assert_array_equal(eigenvalues(given), alone)


def test_tiles_change_nothing(monkeypatch):
    given = matrices(9)["normal"]
    whole = eigenvalues(given)
    monkeypatch.setattr(module, "TILE", 2 * 81)
    monkeypatch.setattr(module, "LEAST", 1)
    np.testing.assert_array_equal(eigenvalues(given), whole)
