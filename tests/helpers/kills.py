"""Kills a training run with SIGKILL again and again, lets it go on each time, and compares it with one left in peace.

    python -m tests.helpers.kills CONFIG.yaml FOLDER KILLS [SEED]

The first kills come in the middle of a step, of the optimizer's update, of an evaluation and of a checkpoint. Of the
others half come at a random moment, half just before a random operation on a file of the run folder, so that every
moment of writing gets its turn. The children are forked from a process that has imported everything and
computed nothing, which saves seconds per attempt. Prints one JSON object.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import random
import signal
import sys
import time
from collections import Counter
from pathlib import Path

import torch
from safetensors.torch import load_file

from convlora.cli.main import run as convlora
from convlora.metrics.binary import BinaryScores
from convlora.training import run as _imported_once  # noqa: F401
from convlora.training.checkpoint import load_state
from convlora.training.trainer import SegmentationTrainer

_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT
_OPERATIONS = ("os.rename", "os.remove", "os.rmdir", "os.mkdir", "shutil.rmtree", "os.truncate")
_PARTS = {  # what is called in the middle of each part of a run, and how often until the kill
    "in a step": (SegmentationTrainer, "compute_loss", 5),
    "in an update": (torch.optim.AdamW, "step", 5),
    "in an evaluation": (BinaryScores, "update", 5),
    "in a checkpoint": (SegmentationTrainer, "_write_random_state", 2),
}


def attempt(config, output, resume, *, before_event=None, after_seconds=None, after_call=None, account=None):
    """Trains in a child, which may be killed; returns how it ended: "done", "killed" or an exit code."""
    child = os.fork()
    if child == 0:
        count_events(output, before_event, account)
        if after_call is not None:
            kill_after_call(*after_call)
        for stream in (1, 2):
            os.dup2(os.open(output.parent / "output.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND), stream)
        code = 70
        try:
            convlora(["train", "--config", str(config), "--output", str(output), *(["--resume"] if resume else [])])
        except SystemExit as error:
            code = error.code or 0
        finally:
            os._exit(code)
    if after_seconds is not None:
        time.sleep(after_seconds)
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)
    status = os.waitpid(child, 0)[1]
    if os.WIFSIGNALED(status):
        return "killed"
    return "done" if os.WEXITSTATUS(status) == 0 else os.WEXITSTATUS(status)


def count_events(output, kill_before, account):
    """Writes down which file each operation in the run folder is about, and kills the process before one of them."""
    seen, inside = [0], str(output) + os.sep
    record = os.open(account, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)

    def hook(event, arguments):
        writes = event in _OPERATIONS
        if event == "open":
            writes = isinstance(arguments[2], int) and arguments[2] & _WRITES
        if not writes or not arguments or not isinstance(arguments[0], (str, os.PathLike)):
            return
        path = os.fspath(arguments[0])
        if not path.startswith(inside):
            return
        seen[0] += 1
        os.write(record, f"{path[len(inside) :]}\n".encode())
        if seen[0] == kill_before:
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)


def kill_after_call(owner, name, calls):
    """Kills the process when a method has been called so many times."""
    method, seen = getattr(owner, name), [0]

    @functools.wraps(method)
    def counted(*arguments, **options):
        result = method(*arguments, **options)
        seen[0] += 1
        if seen[0] == calls:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    setattr(owner, name, counted)


def kind(path):
    """What a file of the run folder is, for the account."""
    first = path.split("/")[0]
    known = ("checkpoints", "adapter", "log", "metrics", "images", "config", "classes", "lock", "confusion")
    return next((name for name in known if name in first), first)


def same(one, other):
    """Whether two finished runs ended with the same weights, optimizer, history and scores, bit for bit."""
    differences = []
    weights = [load_file(run / "adapter" / "adapter_model.safetensors") for run in (one, other)]
    if weights[0].keys() != weights[1].keys() or any((weights[0][k] != weights[1][k]).any() for k in weights[0]):
        differences.append("weights")
    last = [next((run / "checkpoints").glob("checkpoint-*")) for run in (one, other)]
    states = [str(load_state(path / "optimizer_state.safetensors")) for path in last]
    if states[0] != states[1] or last[0].name != last[1].name:
        differences.append("optimizer")
    weights = [load_file(path / "adapter_model.safetensors") for path in last]
    if any((weights[0][k] != weights[1][k]).any() for k in weights[0]):
        differences.append("last weights")
    metrics = [json.loads((run / "metrics.json").read_text()) for run in (one, other)]
    differences += [key for key in ("val", "test", "history", "best_epoch") if metrics[0][key] != metrics[1][key]]
    logs = [(run / "log.jsonl").read_text().splitlines() for run in (one, other)]
    without_time = [[{**json.loads(line), "seconds": 0} for line in lines] for lines in logs]
    if without_time[0] != without_time[1]:
        differences.append("log")
    left = [{path.relative_to(run).as_posix() for path in run.rglob("*")} for run in (one, other)]
    return differences + sorted(left[0] ^ left[1])


def main(config, folder, kills, seed=0):
    """Kills runs until so many kills have happened; every run is compared when it is done."""
    rng, account = random.Random(seed), folder / "events.txt"
    folder.mkdir(parents=True, exist_ok=True)
    reference = folder / "reference"
    begin = time.perf_counter()
    assert attempt(config, reference, False, account=account) == "done", (folder / "output.txt").read_text()
    seconds, events = time.perf_counter() - begin, len(account.read_text().splitlines())
    moments, runs, attempts, failures = Counter(), 0, 0, []
    parts = list(_PARTS)
    while parts or sum(moments.values()) < kills:
        output, ending = folder / f"run-{runs}", "killed"
        part = parts.pop(0) if parts else None
        while ending == "killed":
            resume = (output / "config.yaml").exists()
            if part is not None and not resume:
                how = {"after_call": _PARTS[part]}
            elif sum(moments.values()) >= kills:
                how = {}
            elif rng.random() < 0.5:
                how = {"after_seconds": rng.uniform(0, 1.1 * seconds)}
            else:
                how = {"before_event": rng.randint(1, events)}
            ending = attempt(config, output, resume, account=account, **how)
            attempts += 1
            if ending == "killed":
                lines = account.read_text().splitlines()
                last = kind(lines[-1]) if lines else ""
                at = part if "after_call" in how else f"{'before' if 'before_event' in how else 'after'} {last}"
                moments[at.strip()] += 1
        if ending != "done":
            failures.append(f"run {runs} ended with {ending}: {(folder / 'output.txt').read_text()[-500:]}")
        else:
            differences = same(reference, output)
            if differences:
                failures.append(f"run {runs} differs in {', '.join(differences)}")
        runs += 1
    sys.stdout.write(
        json.dumps(
            {"kills": sum(moments.values()), "runs": runs, "attempts": attempts, "moments": moments,
             "seconds_undisturbed": round(seconds, 2), "events": events, "failures": failures}
        )
    )  # fmt: skip


def program(arguments):
    """The command line of this module."""
    config, folder, *numbers = arguments
    main(Path(config), Path(folder), *map(int, numbers))


if __name__ == "__main__":
    program(sys.argv[1:])
