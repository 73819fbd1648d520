"""Two processes that train or predict together, forked instead of launched."""

import socket

from tests.helpers.forked import Forked


def run_pair(*arguments, expect=0, **how):
    """Runs the program in two processes, as a launcher does; returns what each wrote to stdout and stderr.

    Args:
        *arguments: Of the command line.
        expect: The exit code of both; None: any.
        **how: As for `Forked`; `cwd` may be a list with a folder for each.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    folders = how.pop("cwd", None) or [None, None]
    local = [0, 0] if folders[0] else [0, 1]
    processes = []
    for rank in (0, 1):
        variables = {
            "RANK": rank, "WORLD_SIZE": 2, "LOCAL_RANK": local[rank], "LOCAL_WORLD_SIZE": 1 + local[1],
            "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "OMP_NUM_THREADS": 1,
        }  # fmt: skip
        environment = {name: str(value) for name, value in variables.items()} | how.get("environment", {})
        processes.append(Forked(*arguments, **how | {"environment": environment, "cwd": folders[rank]}))
    told = [process.communicate() for process in processes]
    codes = [process.returncode for process in processes]
    assert expect is None or codes == [expect] * 2, (codes, told)
    return told, codes
