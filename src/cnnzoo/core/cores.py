"""How many CPU cores there are to use."""

import os


def usable_cores() -> int:
    """Return the number of cores this process may run on: its affinity mask where the system has one."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def divide_cores(threads: int, jobs: int) -> tuple[int, int]:
    """Return how many of `jobs` to run at a time on `threads` cores (0: all), and the threads of each, rounded up."""
    cores = threads or usable_cores()
    workers = min(cores, jobs)
    return workers, -(-cores // workers)
