import pytest

from cnnzoo.cores import divide_cores, usable_cores


@pytest.mark.parametrize(
    ("threads", "jobs", "expected"), [(1, 5, (1, 1)), (2, 12, (2, 1)), (16, 12, (12, 2)), (4, 1, (1, 4))]
)
def test_cores_are_divided_among_jobs_and_none_is_left_over(threads, jobs, expected):
    assert divide_cores(threads, jobs) == expected


def test_no_number_means_all_cores():
    assert divide_cores(0, 10**6) == (usable_cores(), 1)
