import platform
import subprocess
import sys
from types import SimpleNamespace

import pytest

from convlora import allocator

# Frees every second of forty tensors of 12 MB, and prints how many of them still count to the process.
_SCRIPT = """
import os, sys
if sys.argv[1] == "tuned":
    from convlora.allocator import return_large_blocks
    return_large_blocks()
import psutil, torch
for _ in range(3):
    torch.ones(7 << 20)  # 28 MB: the C library learns to keep blocks of up to this size
before = psutil.Process().memory_info().rss
held = [torch.ones(3 << 20) for _ in range(40)]
held = held[::2]
print((psutil.Process().memory_info().rss - before) / (12 << 20))
"""


def blocks_held(mode):
    environment = {"PATH": "/usr/bin:/bin"}
    done = subprocess.run(
        [sys.executable, "-c", _SCRIPT, mode], capture_output=True, text=True, check=True, env=environment
    )
    return float(done.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only the GNU C library keeps large blocks")
def test_freed_tensors_leave_the_process():
    assert blocks_held("default") > 30, "without it, freed blocks stay"
    assert blocks_held("tuned") < 24


@pytest.mark.parametrize(("available", "saves"), [(4 << 30, True), (16 << 30, False)])
def test_time_counts_more_where_memory_is_ample(available, saves, monkeypatch):
    calls = []
    monkeypatch.setattr(allocator, "return_large_blocks", lambda: calls.append(1))
    monkeypatch.setattr(allocator.psutil, "virtual_memory", lambda: SimpleNamespace(available=available))
    allocator.save_memory_if_short()
    assert bool(calls) is saves
