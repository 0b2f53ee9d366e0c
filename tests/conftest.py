"""Lies here so that pytest puts tests/ on the path: `from builders import make_shard` works in every test.

Test files run side by side, one a core. A library that starts a thread for every core in each of them waits more than
it works, so all keep to one thread unless a test asks for more; set before any of them is imported.
"""

import os

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(variable, "1")
