"""How many CPU cores there are to use."""

import os


def usable_cores() -> int:
    """Return the number of cores this process may run on: its affinity mask where the system has one."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
