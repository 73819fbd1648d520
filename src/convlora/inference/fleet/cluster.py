"""Ray: the cluster, and the stream of work through it."""

from __future__ import annotations

import importlib.util
import logging
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

from convlora.errors import InputError, RunError
from convlora.inference.fleet.listing import chunks
from convlora.inference.fleet.work import Chunk, Done, Task

INSTALL = "pip install 'convlora[ray]'"
_CORES = 4  # of a process without a GPU, where it is not said how many processes there are


def check_installed() -> None:
    """Checks that Ray is there.

    Raises:
        InputError: If it is not.
    """
    if importlib.util.find_spec("ray") is None:
        raise InputError(f"--engine ray needs Ray. Install it: {INSTALL}.")


@dataclass(frozen=True)
class Share:
    """What each process of a prediction gets.

    Attributes:
        device: `"cpu"` or `"cuda"`.
        processes: How many there are.
        cores: CPU cores of each.
    """

    device: str
    processes: int
    cores: int


@contextmanager
def cluster() -> Iterator[dict[str, float]]:
    """Is connected to a cluster: the one of this program, of `RAY_ADDRESS` or of this machine, or a new one.

    A new one is on this machine alone, and ends afterwards.

    Yields:
        What the cluster has, by name.

    Raises:
        RunError: If the cluster of `RAY_ADDRESS` cannot be reached.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # or a new cluster tells its makers about itself
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # a future default that Ray warns of
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "error")
    import ray

    was_there = ray.is_initialized()
    if not was_there:
        try:
            ray.init(include_dashboard=None, logging_level=logging.ERROR, log_to_driver=False)
        except (ConnectionError, RuntimeError, ValueError) as error:
            text = str(error).splitlines()
            raise RunError(
                f"Ray cannot be reached or started ({text[0] if text else type(error).__name__}). Check RAY_ADDRESS, "
                "and 'ray status' on the machine it names."
            ) from error
    try:
        yield ray.cluster_resources()
    finally:
        if not was_there:
            ray.shutdown()


def share_of(resources: dict[str, float], device: str, processes: int | None) -> Share:
    """Divides a cluster.

    Args:
        resources: What it has.
        device: `"auto"`, `"cpu"` or `"cuda"`.
        processes: How many are wanted; None: one for each GPU, or for every four cores.

    Raises:
        InputError: If it has no such device, or fewer cores or GPUs than processes.
    """
    gpus, cores = int(resources.get("GPU", 0)), int(resources.get("CPU", 0))
    if device == "cuda" and not gpus:
        raise InputError("--device cuda was asked for, but the Ray cluster has no GPU. Use --device auto or cpu.")
    on_gpu = gpus > 0 and device != "cpu"
    most, what = (gpus, "GPUs") if on_gpu else (cores, "CPU cores")
    if processes is not None and processes > most:
        raise InputError(f"--workers is {processes}, but the Ray cluster has {most} {what}. Give at most {most}.")
    if on_gpu:
        return Share("cuda", processes or gpus, 1)
    processes = max(1, cores // _CORES) if processes is None else processes
    return Share("cpu", processes, max(1, min(_CORES, cores // processes)))


def run(task: Task, given: Sequence[str], suffixes: Sequence[str], share: Share) -> Iterator[Done]:
    """Has all images segmented.

    Args:
        task: How.
        given: Image files, folders and patterns, as paths or URIs.
        suffixes: As of `convlora.inference.fleet.listing.chunks`.
        share: What each process gets.

    Yields:
        What became of each chunk, in the order in which they are done.
    """
    import ray
    from ray.data import ActorPoolStrategy, read_datasource

    from convlora.inference.fleet.source import ChunkSource
    from convlora.inference.fleet.worker import Worker

    with _settings():
        listed: Callable[[], Iterator[Chunk]] = partial(chunks, given, task.output, suffixes)
        images = read_datasource(ChunkSource(listed), override_num_blocks=1, num_cpus=0)
        outcomes = images.map_batches(
            Worker,
            fn_constructor_args=(task,),
            batch_size=1,
            compute=ActorPoolStrategy(size=share.processes, max_tasks_in_flight_per_actor=2),
            num_cpus=share.cores,
            num_gpus=1 if share.device == "cuda" else 0,
        )  # Ray Data starts processes that ended again, and gives them their chunks again, as often as need be
        try:
            for row in outcomes.iter_rows():
                yield Done.of(str(row["done"]))
        except ray.exceptions.RayError as error:
            text = str(error).strip().splitlines()
            raise RunError(
                f"The Ray cluster could not go on ({text[-1] if text else type(error).__name__}). What is done stays: "
                "go on with --resume."
            ) from error


_SETTINGS: dict[str, Any] = {
    "enable_progress_bars": False,
    "print_on_execution_start": False,
    "target_max_block_size": 1,  # so that each chunk is a task of its own, and is sent on at once
}


@contextmanager
def _settings() -> Iterator[None]:
    """Ours for Ray Data, without its chatter; afterwards those of the caller's program."""
    from ray.data import DataContext

    context, logger = DataContext.get_current(), logging.getLogger("ray.data")
    before, level = {name: getattr(context, name) for name in _SETTINGS}, logger.level
    for name, value in _SETTINGS.items():
        setattr(context, name, value)
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        for name, value in before.items():
            setattr(context, name, value)
        logger.setLevel(level)
