"""Threads that wait, and memory, on all systems."""

import os
import platform
import re
import subprocess
import sys

import psutil
import pytest

from convlora import cores

# PyTorch is loaded by the command, and OpenMP then tells what it goes by.
_COMMAND = [sys.executable, "-m", "convlora.cli.main", "inspect", "tiny"]


# What it does first, without what else it loads.
_ITS_START = [sys.executable, "-c", "from convlora.cores import wait_asleep; wait_asleep(); import torch"]


def spins_in_use(command, **variables):
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("OMP_", "GOMP_"))}
    environment = {**kept, "OMP_DISPLAY_ENV": "VERBOSE", "OMP_NUM_THREADS": "1", **variables}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    return int(re.search(r"GOMP_SPINCOUNT = '(\d+)'", done.stderr)[1])


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only there PyTorch brings GNU's OpenMP")
def test_the_command_has_threads_sleep_that_wait():
    assert spins_in_use(_COMMAND) == cores.SPINS


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only there PyTorch brings GNU's OpenMP")
@pytest.mark.parametrize(("variables", "spins"), [({"OMP_WAIT_POLICY": "PASSIVE"}, 0), ({"GOMP_SPINCOUNT": "77"}, 77)])
def test_what_the_user_set_wins(variables, spins):
    assert spins_in_use(_ITS_START, **variables) == spins


def test_the_peak_of_memory_without_the_module_resource(monkeypatch):
    """As on Windows, where psutil knows it."""

    class Process:
        def memory_info(self):
            return type("", (), {"peak_wset": 123456})

    here = cores.peak_resident_bytes()
    assert psutil.Process().memory_info().rss / 2 < here < psutil.virtual_memory().total
    monkeypatch.setitem(sys.modules, "resource", None)
    monkeypatch.setattr(psutil, "Process", Process)
    assert cores.peak_resident_bytes() == 123456


def test_no_module_needs_what_only_unix_has():
    """Everything is imported with what Windows lacks taken away, after the libraries that have their own ways."""
    code = """
import contextlib, importlib, os, pkgutil, signal, sys
for name in ("accelerate", "datasets", "filelock", "kornia", "peft", "pooch", "psutil", "pycocotools.mask", "rasterio",
             "ray.data", "requests", "rich.progress", "safetensors.torch", "torch.utils.data",
             "transformers.models.sam.modeling_sam", "typer"):
    with contextlib.suppress(ImportError):
        importlib.import_module(name)
for name in ("resource", "fcntl", "pwd", "grp", "termios", "pty", "tty", "syslog"):
    sys.modules[name] = None
for name in ("O_NONBLOCK", "O_NOFOLLOW", "O_DIRECTORY", "fork", "setsid", "getuid", "killpg", "mkfifo",
             "register_at_fork", "sched_getaffinity", "geteuid", "fchmod", "getpgid", "statvfs"):
    if hasattr(os, name):
        delattr(os, name)
for name in ("SIGALRM", "SIGKILL", "SIGHUP", "SIGUSR1", "setitimer", "alarm", "pthread_kill", "ITIMER_REAL"):
    delattr(signal, name)
import convlora
for module in pkgutil.walk_packages(convlora.__path__, "convlora."):
    importlib.import_module(module.name)
"""
    subprocess.run([sys.executable, "-c", code], check=True)
