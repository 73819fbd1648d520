"""A program that fails if a thread that talks to other processes is left when Python ends."""

import os
from pathlib import Path

from convlora.cli import main
from convlora.cli.processes import leave_process_group


def gloo_threads():
    """Names of such threads; none are seen on systems without /proc."""
    names = [file.read_text().strip() for file in Path("/proc/self/task").glob("*/comm")]
    return [name for name in names if "gloo" in name]


def leave():
    before = gloo_threads()
    leave_process_group()
    left = gloo_threads()
    if left or (Path("/proc/self/task").is_dir() and not before):
        os.write(2, f"gloo threads before: {before}, left: {left}\n".encode())
        os._exit(3)


def watch_threads():
    """Has this process look for such threads when the program leaves its group."""
    main.leave_process_group = leave


if __name__ == "__main__":
    watch_threads()
    main.run()
