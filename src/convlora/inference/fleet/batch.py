"""Images on their way in, and their results on the way out, beside the device."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from convlora.errors import InputError
from convlora.inference.background import in_background
from convlora.inference.files.left_out import parts_left_out
from convlora.inference.files.plan import Job, coordinates_lost, plan
from convlora.inference.files.resuming import state_of
from convlora.inference.fleet.account import Account
from convlora.inference.fleet.places import is_remote, join, read_file, reason, write_file
from convlora.inference.fleet.work import Task
from convlora.untrusted import read_text

_THREADS, _AHEAD = 8, 16  # an object store answers late, and many at a time
RESULTS = ("mask", "overlay", "probabilities", "polygons")


class Image(NamedTuple):
    """An image that is to be segmented.

    Attributes:
        name: Path or URI.
        key: Stands for it as it is now.
    """

    name: str
    key: str


class Batch(Collection[Job]):
    """Jobs that are made while others are done; the results go where they belong.

    Args:
        task: How images are segmented.
        images: The images.
        scratch: A folder for what is here for a while only.
        account: Is told what is done.

    Attributes:
        results: As of `convlora.inference.files.jobs.run_jobs`, with the names that were given.
        pieces: What is known of the objects of each image, by its name.
        notes: What is to be said, by kind: a sentence.
        noted: Number of images that are noted.
    """

    def __init__(self, task: Task, images: Sequence[Image], scratch: Path, account: Account) -> None:
        self.results: list[dict[str, Any]] = []
        self.pieces: dict[str, str] = {}
        self.notes: dict[str, str] = {}
        self.noted: Counter[str] = Counter()
        self._task, self._images, self._scratch, self._account = task, images, scratch, account
        self._is_remote = is_remote(task.output)
        self._folder = scratch / "out" if self._is_remote else Path(task.output)
        self._given: dict[str, Image] = {}  # by the path here
        self._uploads: list[tuple[Job, dict[str, Any], Future[None]]] = []
        self._pool = ThreadPoolExecutor(_THREADS)

    def __len__(self) -> int:
        return len(self._images)

    def __contains__(self, job: object) -> bool:
        return any(job == one for one in self)

    def __iter__(self) -> Iterator[Job]:
        threads = _THREADS if any(is_remote(image.name) for image in self._images) else 0
        numbered = list(enumerate(self._images))
        for image, job, notes in in_background(self._prepared, numbered, threads, _AHEAD):
            for kind, note in notes.items():
                self.notes.setdefault(kind, note)
                self.noted[kind] += 1
            if isinstance(job, Job):
                self._given[str(job.image)] = image
                yield job
            else:
                self.results.append({"image": image.name, "error": job})

    def _prepared(self, numbered: tuple[int, Image]) -> tuple[Image, Job | str, dict[str, str]]:
        number, image = numbered
        path, task = Path(image.name), self._task
        if is_remote(image.name):
            path = self._scratch / "in" / str(number) / image.name.rpartition("/")[2]
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                read_file(image.name, path)
            except OSError as error:
                return image, f"{image.name} could not be read: {reason(error)}.", {}
        tiled = task.tiles is not None
        try:
            by_points = task.extras.check_sizes([path])
            (job,) = plan([path], self._folder, task.overlay, tiled, task.extras)
            if any(self._place(one) == image.name for one in job.results().values()):
                raise InputError(f"The result for {image.name} would replace it. Choose another --output.")
        except InputError as error:
            return image, self._told(str(error), path, image), {}
        if job.piece is not None:
            job = replace(job, piece=self._scratch / f"objects-{number}.jsonl")
        said = {"coordinates": coordinates_lost([job], tiled), "points": by_points, "parts": parts_left_out([path])}
        notes = {kind: self._told(note, path, image) for kind, note in said.items() if note is not None}
        return image, job, notes

    def add(self, job: Job, result: dict[str, Any]) -> None:
        """Sends the files of an image that is done on their way."""
        future = self._pool.submit(self._send, job)
        self._uploads.append((job, result, future))
        while self._uploads and self._uploads[0][2].done():
            self._settle(*self._uploads.pop(0))

    def failed(self, result: dict[str, Any]) -> None:
        """An image could not be segmented."""
        path = Path(result["image"])
        image = self._given[str(path)]
        self.results.append({"image": image.name, "error": self._told(result["error"], path, image)})
        self._clean(path, image)

    def finish(self) -> None:
        """Waits until all files are where they belong."""
        for upload in self._uploads:
            self._settle(*upload)
        self._uploads = []

    def close(self) -> None:
        """Ends its threads."""
        self._pool.shutdown(cancel_futures=True)

    def _send(self, job: Job) -> None:
        if self._is_remote:
            for path in job.results().values():
                write_file(path, self._place(path))

    def _place(self, path: Path) -> str:
        return join(self._task.output, path.name)

    def _settle(self, job: Job, result: dict[str, Any], sent: Future[None]) -> None:
        path = Path(str(job.image))
        image = self._given[str(path)]
        try:
            sent.result()
        except OSError as error:
            what = f"The result of {image.name} could not be written to {self._task.output}: {reason(error)}."
            self.results.append({"image": image.name, "error": what})
        else:
            made = {one.name: state_of_result(one, self._is_remote) for one in job.results().values()}
            named = result | named_results(self._task.output, image.name, result)
            piece = None if job.piece is None else read_text(job.piece, 1 << 32)
            if piece is not None:
                self.pieces[image.name] = piece
            self.results.append(named)
            self._account.add(image.key, made, named, piece)
        self._clean(path, image)
        if self._is_remote:
            for one in job.results().values():
                one.unlink(missing_ok=True)
        if job.piece is not None:
            job.piece.unlink(missing_ok=True)

    def _clean(self, path: Path, image: Image) -> None:
        if is_remote(image.name):
            shutil.rmtree(path.parent, ignore_errors=True)

    def _told(self, text: str, path: Path, image: Image) -> str:
        """A message with names that mean something to whoever asked."""
        text = text.replace(str(path), image.name)
        return text.replace(str(self._folder), self._task.output) if self._is_remote else text


def state_of_result(path: Path, is_remote: bool) -> str:
    """State of a file of a result, which is in an object store or about to go there; there its size has to do."""
    return str(path.stat().st_size) if is_remote else state_of(path)


def named_results(output: str, image: str, result: dict[str, Any]) -> dict[str, str]:
    """Names of an image and of the files of its result, where these belong."""
    names = {kind: Path(str(result[kind])).name for kind in RESULTS if kind in result}
    if is_remote(output):
        return {"image": image} | {kind: join(output, name) for kind, name in names.items()}
    return {"image": image} | {kind: str(Path(output) / name) for kind, name in names.items()}
