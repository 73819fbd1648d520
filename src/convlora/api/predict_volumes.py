"""Segmenting volumes with a finished run, into a folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

from accelerate import PartialState
from accelerate.utils import gather_object

from convlora.data.reading.volumes.kept import Stored
from convlora.data.reading.volumes.slicing import Slicing
from convlora.errors import InputError
from convlora.inference.files.shares import add_shares, check_shares
from convlora.inference.files.volumes import plan_volumes, segment_volumes
from convlora.inference.segmenter import Segmenter
from convlora.reporting import Reporter

_PATIENCE = timedelta(days=30)


def refuse_for_volumes(options: Mapping[str, Any]) -> None:
    """Refuses what is asked for beside the labels.

    Args:
        options: By the name of the option; those that are given have another value than None and False.

    Raises:
        InputError: If something is.
    """
    for name, value in options.items():
        if value is not None and value is not False:
            raise InputError(f"{name} has no effect on volumes: only their labels are written. Leave it out.")


def predict_volumes(
    run: str,
    volumes: Sequence[Stored],
    output: Path,
    slicing: Slicing,
    batch_size: int | None,
    reporter: Reporter,
    segmenter: Segmenter,
) -> dict[str, Any]:
    """Segments volumes and writes their labels into a folder. Several processes share them.

    Args:
        run: What the run is called.
        volumes: What to segment.
        output: Folder for the results.
        slicing: How the run reads volumes.
        batch_size: Slices at a time; None: 8 on a GPU, 1 on a CPU.
        reporter: Receives progress.
        segmenter: The model.

    Returns:
        As `convlora.api.predict.predict`, with a volume in place of each image.

    Raises:
        InputError: If results would replace what is not ours.
    """
    jobs = plan_volumes(volumes, output)
    processes = PartialState(cpu=segmenter.device.type == "cpu", timeout=_PATIENCE)
    names = [job.name for job in jobs]
    if processes.is_main_process:
        check_shares(output, segmenter.classes, names)
    processes.wait_for_everyone()
    own = jobs[processes.process_index :: processes.num_processes]
    reporter.predict_begin(_slices(own))
    found = gather_object(list(segment_volumes(segmenter, own, slicing, batch_size, reporter)))
    reporter.predict_end()
    if not processes.is_main_process:
        return {}
    results = {result["image"]: result for result in found}
    ordered = [results[str(job.stored.path)] for job in jobs]
    shares = {job.name: one["shares"] for job, one in zip(jobs, ordered, strict=True) if "error" not in one}
    add_shares(output, segmenter.classes, shares, names)
    return {
        "run": run,
        "output": str(output),
        "images": [result for result in ordered if "error" not in result],
        "failed": [result for result in ordered if "error" in result],
    }


def _slices(jobs: Sequence[Any]) -> int:
    count = 0
    for job in jobs:
        try:
            count += job.stored.facts().shape[0]
        except InputError:  # said when it is its turn
            continue
    return count
