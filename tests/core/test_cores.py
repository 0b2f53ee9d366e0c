import os

import pytest

from cnnzoo.core.cores import divide_cores, usable_cores


@pytest.mark.parametrize(
    ("threads", "jobs", "expected"),
    [(1, 5, (1, 1)), (2, 12, (2, 1)), (16, 12, (12, 2)), (4, 1, (1, 4)), (7, 3, (3, 3)), (6, 3, (3, 2))],
)
def test_cores_are_divided_among_jobs_and_none_is_left_over(threads, jobs, expected):
    assert divide_cores(threads, jobs) == expected


def test_no_number_means_all_cores():
    assert divide_cores(0, 10**6) == (usable_cores(), 1)


def test_cores_are_those_that_this_process_may_use(monkeypatch):
    """A scheduler such as SLURM gives a job a share of the machine's cores."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 3, 5}, raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    assert usable_cores() == 3
    assert divide_cores(0, 2) == (2, 2)


def test_cores_are_all_of_them_where_the_system_knows_no_shares(monkeypatch):
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    assert usable_cores() == 64
