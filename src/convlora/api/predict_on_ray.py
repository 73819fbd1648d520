"""Segmenting files with the machines of a Ray cluster, into a folder or an object store."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from convlora.errors import InputError, shown
from convlora.inference.files.resuming import fingerprint
from convlora.inference.fleet.cluster import check_installed
from convlora.inference.fleet.engine import predict_on_cluster
from convlora.inference.fleet.places import is_remote
from convlora.inference.fleet.work import Task
from convlora.inference.thresholds import check_threshold
from convlora.models.bundled import absolute
from convlora.paths import expanded
from convlora.reporting import Reporter
from convlora.runs.hub import is_on_hub, resolve_run
from convlora.runs.reading import read_classes, read_settings

ENGINES = ("local", "ray")
_DEVICES = ("auto", "cpu", "cuda")


def check_engine(
    engine: str, workers: int | None, places: Sequence[str], of_all: Mapping[str, bool], device: str
) -> None:
    """Checks that an engine can do what is asked for.

    Args:
        engine: `"local"` or `"ray"`.
        workers: How many processes are wanted.
        places: Images and output as they were given.
        of_all: Options that write one file of all images, and whether they are given.
        device: As of `convlora.predict`.

    Raises:
        InputError: If it cannot, or it is not installed.
    """
    if engine not in ENGINES:
        raise InputError(f"--engine must be local or ray, got '{shown(engine, 40)}'.")
    if engine == "local":
        if workers is not None:
            raise InputError("--workers has no effect without --engine ray. Add it, or leave out --workers.")
        remote = [place for place in places if is_remote(place)]
        if remote:
            raise InputError(f"{shown(remote[0])} is in an object store. Add --engine ray, or copy it to this machine.")
        return
    if workers is not None and workers < 1:
        raise InputError(f"--workers is {workers}, but must be at least 1.")
    wanted = [option for option, is_given in of_all.items() if is_given]
    if wanted:
        raise InputError(
            f"{wanted[0]} makes one file of all images, which --engine ray does not write. Leave it out, or use "
            "--engine local."
        )
    if device not in _DEVICES:
        raise InputError(
            f"--device {shown(device, 40)} names a device of this machine. With --engine ray give auto, cpu or cuda: "
            "Ray gives each process a GPU of its own."
        )
    check_installed()


def predict_on_ray(
    task: Task, given: Sequence[str], how: Sequence[object], workers: int | None, resume: bool, reporter: Reporter
) -> dict[str, Any]:
    """What `convlora.predict` does with the engine `"ray"`.

    Args:
        task: How; its run and output as they were given.
        given: Images, as they were given.
        how: Whatever decides on the results.
        workers: How many processes are wanted.
        resume: Whether to keep what is done.
        reporter: Receives progress and messages.

    Raises:
        InputError: If something given is at fault.
        RunError: If the cluster or an object store fails.
    """
    folder = resolve_run(task.run)
    read_settings(folder)
    classes = read_classes(folder)
    check_threshold(task.threshold, classes)
    task = replace(
        task,
        run=task.run if is_on_hub(task.run) else absolute(str(folder)),
        output=task.output.rstrip("/") if is_remote(task.output) else str(Path(expanded(task.output)).absolute()),
        made_by=fingerprint(folder, *how),
        token=uuid.uuid4().hex,
    )
    result = predict_on_cluster(
        task, given, classes, device=task.device, workers=workers, resume=resume, reporter=reporter
    )
    return {"run": str(folder if not is_on_hub(task.run) else task.run), "output": task.output, **result}
