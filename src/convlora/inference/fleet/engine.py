"""A prediction with the machines of a Ray cluster, seen from the one where it was asked for."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from convlora.data.classes.class_table import ClassTable
from convlora.errors import InputError, RunError
from convlora.inference.files.jobs import shares_of
from convlora.inference.files.of_all import STEMS, check_files_of_all, write_files_of_all
from convlora.inference.files.plan import collect_images
from convlora.inference.files.resuming import PRESENCE
from convlora.inference.files.shares import add_shares, check_shares
from convlora.inference.fleet.cluster import Share, cluster, run, share_of
from convlora.inference.fleet.places import check_store, is_remote, join, remove_folder, stem
from convlora.inference.fleet.tables import check_output, send_tables, tables_of
from convlora.inference.fleet.work import ACCOUNT, Done, Task
from convlora.links import check_own
from convlora.locking import among_others
from convlora.paths import expanded
from convlora.reporting import Reporter
from convlora.storage import sweep


def predict_on_cluster(
    task: Task,
    given: Sequence[str],
    classes: ClassTable,
    *,
    device: str,
    workers: int | None,
    resume: bool,
    reporter: Reporter,
) -> dict[str, Any]:
    """Segments images with a Ray cluster; the files are those that one process writes.

    Args:
        task: How; its device is decided here.
        given: Image files, folders and patterns, as paths or URIs.
        classes: Classes of the run.
        device: `"auto"`, `"cpu"` or `"cuda"`.
        workers: How many processes hold the model; None: one for each GPU, or for every four cores.
        resume: Whether to keep what an interrupted prediction with the same settings has finished.
        reporter: Receives progress and messages.

    Returns:
        `images`, `failed`, and if wanted `objects`, as `convlora.predict`.

    Raises:
        InputError: If something given is at fault.
        RunError: If the cluster or an object store fails.
    """
    given = [_absolute(one) for one in given]
    for one in given:
        check_given(one)
    with _output(task.output, resume) as forget, cluster() as resources:
        with tables_of(task.output) as folder:
            check_shares(folder, classes, ())
            check_files_of_all(folder, classes, (), task.extras)
        share = share_of(resources, device, workers)
        outcome = _collect(replace(task, device=share.device), given, share, reporter)
        names = [stem(result["image"]) for result in (*outcome.images, *outcome.failed)]
        with tables_of(task.output) as folder:
            add_shares(folder, classes, shares_of(outcome.images), names)
            of_all = write_files_of_all(folder, classes, names, outcome.pieces, task.extras)
            send_tables(folder, task.output)
        shutil.rmtree(outcome.scratch, ignore_errors=True)
        forget({one + suffix for one in names for suffix in suffixes_of(task)}, not outcome.failed)
    if outcome.kept:
        reporter.message(f"{outcome.kept:,} of {len(names):,} images were done before.")
    of_all = {name: join(task.output, Path(path).name) for name, path in of_all.items()}
    return {"images": outcome.images, "failed": outcome.failed, **of_all}


def check_given(one: str) -> None:
    """Checks quickly that something given can be there, before a cluster is started; listing says more.

    Raises:
        InputError: If it cannot.
    """
    if is_remote(one):
        check_store(one)
    elif not os.path.isdir(one):  # noqa: PTH112 - Path.is_dir raises for names that are too long
        collect_images([one])


@dataclass
class _Outcome:
    """What became of all images.

    Attributes:
        images: Results in the order of the images.
        failed: Likewise of those that could not be segmented.
        kept: How many were done before.
        pieces: Files with the objects of each image.
        scratch: Where these are.
    """

    images: list[dict[str, Any]]
    failed: list[dict[str, Any]]
    kept: int
    pieces: list[Path]
    scratch: Path


def _collect(task: Task, given: list[str], share: Share, reporter: Reporter) -> _Outcome:
    scratch = Path(tempfile.mkdtemp(prefix="convlora-"))
    outcomes: list[Done] = []
    noted: Counter[str] = Counter()
    said: dict[str, str] = {}
    pieces: list[Path] = []
    reporter.predict_begin(None)
    try:
        for done in run(task, given, suffixes_of(task), share):
            if done.fatal is not None:
                why, is_input = done.fatal
                raise (InputError if is_input else RunError)(why)
            for kind, text, number in done.notes:
                if kind:
                    noted[kind] += number
                    said.setdefault(kind, text)
                else:
                    reporter.message(f"Note: {text}")
            for text in done.pieces.values():  # not in memory: there may be many objects
                pieces.append(scratch / f"{len(pieces)}.jsonl")
                pieces[-1].write_text(text, encoding="utf-8")
            done.pieces = {}
            reporter.predict_step(len(done.results) + len(done.kept))
            outcomes.append(done)
    except BaseException:
        shutil.rmtree(scratch, ignore_errors=True)
        raise
    reporter.predict_end()
    for kind, text in said.items():
        more = f" The same goes for {noted[kind] - 1:,} more." if noted[kind] > 1 else ""
        reporter.message(f"Note: {text}{more}")
    outcomes.sort(key=lambda one: one.number)
    results = [result for one in outcomes for result in _in_order(one)]
    images = [result for result in results if "error" not in result]
    failed = [result for result in results if "error" in result]
    return _Outcome(images, failed, sum(len(one.kept) for one in outcomes), pieces, scratch)


def _in_order(done: Done) -> list[dict[str, Any]]:
    return sorted([*done.kept, *done.results], key=lambda result: str(result["image"]))


def suffixes_of(task: Task) -> tuple[str, ...]:
    """What the names of results end with behind the stem of an image."""
    return ("", *(["_overlay"] if task.overlay else []), *(["_probabilities"] if task.extras.probabilities else []))


@contextmanager
def _output(output: str, resume: bool) -> Iterator[Callable[[set[str], bool], None]]:
    """Makes the folder of the results ready.

    Yields:
        What is called in the end, with the stems of all results: it removes what processes that were killed left, and
        the account if there is nothing left to do.
    """
    if is_remote(output):
        check_store(output)
        check_output(output)
        account = join(output, ACCOUNT)
        if not resume:
            remove_folder(account)
        yield lambda _, is_all: remove_folder(account) if is_all else None
        return
    folder = Path(output)
    with among_others(folder, PRESENCE) as presence:
        check_own(folder, ACCOUNT.__eq__)
        with presence.alone() as is_alone:
            if is_alone:
                sweep(folder / ACCOUNT)
                sweep(folder, STEMS)
                if not resume:
                    shutil.rmtree(folder / ACCOUNT, ignore_errors=True)
            elif not resume:
                raise InputError(f"Another prediction is writing to {folder}. Wait for it, or choose another --output.")

        def forget(stems: set[str], is_all: bool) -> None:
            with presence.alone() as is_alone:
                if is_alone:
                    sweep(folder, stems)
                    if is_all:
                        shutil.rmtree(folder / ACCOUNT, ignore_errors=True)

        yield forget


def _absolute(one: str) -> str:
    """A path that means the same in other processes; a local one stays as it was given if it is absolute."""
    return one if is_remote(one) else str(expanded(one).absolute())
