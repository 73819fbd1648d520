"""The program in a process of its own, forked from one that has loaded the libraries.

A new Python loads PyTorch and transformers for seconds before it does anything. Here a server of `multiprocessing` does
that once for each process of tests, and computes nothing: what it forks is as if freshly started, has a process
number, a group, signals and limits of its own, and can be killed. What a launcher or the start of Python itself does
is tested with real ones, under the marker `processes`.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from convlora.cli.main import run as program

_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(["tests.helpers.preloaded"])


class Forked:
    """A process, with the part of `subprocess.Popen` that tests use.

    Args:
        *arguments: Of the command line.
        prepare: Called first in the process; a function of a module, or a `partial` of one.
        environment: Variables to set; what libraries read when they are loaded is settled already.
        cwd: Where it works.
        target: What is called with the arguments in the place of the program.
        own_group: Whether it begins a group, as what a launcher starts.
    """

    def __init__(
        self,
        *arguments: object,
        prepare: Callable[[], object] | None = None,
        environment: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        target: Callable[[Sequence[str]], object] = program,
        own_group: bool = False,
    ) -> None:
        self._told = tempfile.TemporaryDirectory()
        self._streams = [Path(self._told.name) / name for name in ("out", "err")]
        how = (self._streams, dict(os.environ | dict(environment or {})), cwd or Path.cwd(), own_group)
        self._process = _context.Process(target=_child, args=(*how, prepare, target, list(map(str, arguments))))
        self._process.start()
        self.pid = self._process.pid

    def send_signal(self, number: int) -> None:
        """Sends it a signal; none, if it has ended."""
        if self._process.is_alive():
            os.kill(self.pid, number)

    @property
    def returncode(self) -> int | None:
        """Its exit code, negative for the signal that ended it; None while it works."""
        return self._process.exitcode

    def communicate(self, timeout: float = 120) -> tuple[str, str]:
        """Waits for its end, and returns what it wrote to stdout and stderr."""
        self._process.join(timeout)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()
            raise TimeoutError(f"not done after {timeout} seconds: {self._streams[1].read_text()[-3000:]}")
        return tuple(path.read_text() for path in self._streams)


def run(*arguments: object, expect: int | None = 0, timeout: float = 120, **how) -> tuple[str, str]:
    """Runs the program to its end, which has to be with this exit code; returns stdout and stderr."""
    process = Forked(*arguments, **how)
    out, err = process.communicate(timeout)
    assert expect is None or process.returncode == expect, err[-3000:]
    return out, err


def _child(streams, environment, cwd, own_group, prepare, target, arguments) -> None:
    for number, path in enumerate(streams, start=1):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND), number)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(cwd)
    if own_group:
        os.setsid()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # which is ignored by what a shell has in the background
    sys.argv = ["convlora", *arguments]
    if prepare is not None:
        prepare()
    target(arguments)
