"""How cohorts are divided among workers."""

import pytest

from builders import make_recipes
from cnnzoo.cluster.placement import WHOLE, Division

EACH = 100


def passes(recipes):
    return EACH * len(recipes)


def divide(division, sizes, workers, begun=()):
    cohorts = [tuple(make_recipes(size)) for size in sizes]
    return cohorts, division.parts(cohorts, passes, workers, dict(begun))


@pytest.mark.parametrize("division", [Division(8, 1), Division(2, 500), WHOLE])
@pytest.mark.parametrize("workers", [0, 1, 7, 4096])
def test_parts_hold_every_network_once_in_order(division, workers):
    cohorts, parts = divide(division, (40, 7, 1), workers)
    for index, cohort in enumerate(cohorts):
        own = sorted((part for part in parts if part.cohort == index), key=lambda part: part.first)
        assert [recipe for part in own for recipe in part.recipes] == list(cohort)
        assert [part.first for part in own] == [sum(len(p.recipes) for p in own[:at]) for at in range(len(own))]
    assert [part.passes for part in parts] == [EACH * len(part.recipes) for part in parts]


def test_the_longest_part_comes_first():
    _, parts = divide(Division(4, 1), (40, 7, 90), 2)
    assert [part.passes for part in parts] == sorted((part.passes for part in parts), reverse=True)


def test_there_are_enough_parts_for_each_worker():
    _, parts = divide(Division(8, 1), (64, 64), 4)
    assert len(parts) == 8 * 4


def test_parts_are_not_so_small_that_their_start_counts():
    _, parts = divide(Division(8, 10 * EACH), (64,), 1000)
    assert [len(part.recipes) for part in parts] == [10] * 6 + [4]


def test_one_network_is_never_divided():
    _, parts = divide(Division(8, 1), (3,), 4096)
    assert [len(part.recipes) for part in parts] == [1, 1, 1]


def test_whole_cohorts_stay_whole():
    _, parts = divide(WHOLE, (40, 7, 1), 4096)
    assert [len(part.recipes) for part in parts] == [40, 7, 1]


def test_a_cohort_that_was_begun_stays_divided_as_it_is():
    _, parts = divide(Division(8, 1), (64, 64), 4, {1: 48})
    assert [len(part.recipes) for part in parts if part.cohort == 1] == [48, 16]
    assert [len(part.recipes) for part in parts if part.cohort == 0] == [4] * 16
