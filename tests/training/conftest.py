"""One thread for torch: tensors are tiny here, and threads that wait for each other take ten times as long."""

from collections.abc import Iterator

import pytest
import torch


def one_thread() -> Iterator[None]:
    """Give torch one thread for a while."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


# For what a module makes once for all of its tests, and for each test, as training changes the number of threads.
one_thread_in_module = pytest.fixture(one_thread, scope="module", autouse=True)
one_thread_in_test = pytest.fixture(one_thread, autouse=True)
