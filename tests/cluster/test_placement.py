"""How cohorts are divided among workers."""

import pytest
from inline import Sized

from builders import make_recipes
from cnnzoo.cluster.placement import WHOLE, Division

EACH = 100


def passes(recipes):
    return EACH * len(recipes)


def divide(division, sizes, workers, begun=()):
    cohorts = [tuple(make_recipes(size)) for size in sizes]
    return cohorts, division.parts(cohorts, passes, workers, dict(begun))


@pytest.mark.parametrize("division", [Division(0), Division(50), Division(), WHOLE, Sized(size=3)])
@pytest.mark.parametrize("workers", [0, 1, 7, 300])
def test_parts_hold_every_network_once_in_order(division, workers):
    cohorts, parts = divide(division, (40, 7, 1), workers, {1: [4, 3]})
    for index, cohort in enumerate(cohorts):
        own = sorted((part for part in parts if part.cohort == index), key=lambda part: part.first)
        assert [recipe for part in own for recipe in part.recipes] == list(cohort)
        assert [part.first for part in own] == [sum(len(p.recipes) for p in own[:at]) for at in range(len(own))]
    assert [part.passes for part in parts] == [EACH * len(part.recipes) for part in parts]


@pytest.mark.parametrize(("sizes", "workers"), [((256, 256, 100), 16), ((1000,), 7), ((640, 64), 64)])
def test_handed_out_in_order_they_keep_all_workers_busy_to_the_end(sizes, workers):
    _, parts = divide(Division(0), sizes, workers)
    ends = [0] * workers
    for part in parts:
        ends[ends.index(min(ends))] += part.passes
    assert max(ends) - min(ends) <= EACH
    assert len(parts) < sum(sizes), "networks of a cohort train side by side as long as nobody waits"


def test_parts_are_not_so_small_that_their_start_counts():
    _, parts = divide(Division(2 * EACH), (64,), 1000)
    assert min(len(part.recipes) for part in parts[:-1]) == 10


def test_one_network_is_never_divided():
    _, parts = divide(Division(0), (3,), 4096)
    assert [len(part.recipes) for part in parts] == [1, 1, 1]


def test_whole_cohorts_stay_whole_and_the_longest_comes_first():
    _, parts = divide(WHOLE, (7, 40, 1), 4096)
    assert [len(part.recipes) for part in parts] == [40, 7, 1]


def test_a_cohort_that_was_begun_stays_divided_as_it_is_and_comes_first():
    _, parts = divide(Division(0), (64, 64), 4, {1: [16, 47, 1]})
    assert [(part.first, len(part.recipes)) for part in parts[:3]] == [(16, 47), (0, 16), (63, 1)]
    assert {part.cohort for part in parts[:3]} == {1}
    assert sum(len(part.recipes) for part in parts[3:]) == 64
