"""Lies here so that pytest puts tests/ on the path: `from builders import make_shard` works in every test.

Test files run side by side, one a core. A library that starts a thread for every core in each of them waits more than
it works, so all keep to one thread unless a test asks for more; set before any of them is imported.
"""

import os

import pytest

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(variable, "1")


LONGEST = ("test_end_to_end.py", "test_signals.py", "test_pipeline.py", "test_runs.py", "test_forecast.py")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the files that take longest: at the end they would keep one core busy and the other idle."""
    order = {name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: order.get(item.path.name, len(order)))
