"""What a process may use of a machine's cores, how it waits on them, and what it has used of its memory."""

import os
import sys
from functools import cache

import psutil

# A waiting thread checks this many times whether the others are done, for some 40 microseconds, before it sleeps. With
# more, it keeps the core from another process that every operation then waits for. With fewer, threads sleep between
# the small operations of `tiny`, which costs time on an idle machine (`benchmarks/spinning.py`).
SPINS = 4000


def usable_cores() -> int:
    """Cores that this process may run on, which can be fewer than the machine has."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on macOS
        return os.cpu_count() or 1


@cache
def cpu_has_bf16() -> bool:
    """Whether the CPU multiplies bf16 numbers faster than single precision: by AMX, or AVX-512 with BF16."""
    import torch  # the command sets up its threads before it loads torch

    try:
        found = torch.cpu.get_capabilities()
    except (AttributeError, RuntimeError):  # older versions of PyTorch
        return False
    return bool(found.get("amx_bf16") or found.get("avx512_bf16"))


def wait_asleep() -> None:
    """Lets the threads of OpenMP go to sleep soon when they wait for each other.

    It has to be called before PyTorch is loaded, and concerns the GNU library of OpenMP, which PyTorch brings along on
    Linux. Where `OMP_WAIT_POLICY` or `GOMP_SPINCOUNT` is set, it does nothing.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", str(SPINS))


def peak_resident_bytes() -> int:
    """The most memory that this process has had so far."""
    try:
        import resource
    except ImportError:  # Windows
        return int(psutil.Process().memory_info().peak_wset)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 2**10
