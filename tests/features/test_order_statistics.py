"""Order statistics by every way against a plain sort, on rows that each way's guesses do not fit."""

import numpy as np
import pytest

from cnnzoo.features import order_statistics
from cnnzoo.features.workspace import Workspace

WAYS = [order_statistics.by_sorting, order_statistics.by_partitions, order_statistics.by_runs]
COUNTS = [1, 2, 10, 256, 257, 2304, 4970]


def rows(count: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(count)
    normal = rng.standard_normal((20, count), dtype=np.float32)
    position = np.arange(count)
    return {
        "normal": normal,
        "heavy tails": normal**9,
        "ties": np.round(normal),
        "constant": np.zeros((3, count), dtype=np.float32),
        "ascending": np.tile(position, (3, 1)).astype(np.float32),
        "descending": np.tile(-position, (3, 1)).astype(np.float32),
        "aligned with the runs": np.tile(position % 9 * 7 + position % 20, (3, 1)).astype(np.float32),
        "infinities": np.where(normal > 1, np.inf, np.where(normal < -1, -np.inf, normal)).astype(np.float32),
    }


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("kind", rows(1))
def test_every_way_selects_what_a_sort_does(way, count, kind):
    values = rows(count)[kind]
    ranks = sorted(
        {rank for rank in (0, 1, count // 4, count // 4 + 1, count // 2, count - 2, count - 1) if 0 <= rank < count}
    )
    ordered = np.sort(values, axis=1)
    workspace = Workspace()
    for _ in range(2):  # in memory that was used before
        selected = way(values, ranks, workspace)
        for rank in ranks:
            np.testing.assert_array_equal(selected[rank], ordered[:, rank])


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("count", COUNTS)
def test_percentiles_are_those_of_numpy_by_every_way(way, count, monkeypatch):
    values = rows(count)["normal"]
    values[3, count // 2] = np.nan
    wanted = [0, 0.5, 25, 33.3, 50, 75, 99.9, 100]
    monkeypatch.setattr(order_statistics, "fastest", lambda: way)
    found = order_statistics.percentiles(values, wanted, Workspace())
    expected = np.percentile(values.astype(np.float64), wanted, axis=1)
    assert np.isnan(found[:, 3]).all()
    np.testing.assert_allclose(found, expected, rtol=2e-7, atol=1e-9)
