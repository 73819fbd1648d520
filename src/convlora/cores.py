"""The cores of a CPU that a process may use."""

import os


def usable_cores() -> int:
    """Cores that this process may run on, which can be fewer than the machine has."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on macOS
        return os.cpu_count() or 1
