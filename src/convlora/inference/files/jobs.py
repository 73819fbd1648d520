"""Predictions for many files."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from PIL import Image

from convlora.data.reading.read import read_known, read_picture
from convlora.data.reading.rows import reference_of
from convlora.devices import background_threads, default_batch
from convlora.errors import InputError
from convlora.inference.background import in_background
from convlora.inference.bands import Answer, Wanted
from convlora.inference.files.extra_files import open_extras
from convlora.inference.files.extras import Extras
from convlora.inference.files.outcome import Outcome
from convlora.inference.files.plan import Job, check_name
from convlora.inference.files.shares import add_shares, check_shares
from convlora.inference.files.tiled_job import segment_in_windows
from convlora.inference.segmenter import SeenImage, Segmenter
from convlora.inference.uncertain import Uncertainty
from convlora.inference.windows import Tiles
from convlora.pictures.overlay import picture, save_png
from convlora.pictures.palette import class_colours, indexed_image
from convlora.storage import make_folder

_NOTING = threading.Lock()  # of several writers one alone notes what is done
_KEPT = 1 << 24  # pixels of an image that waits for its overlay; a larger one is read again


class Account(Protocol):
    """Keeps account of what is done."""

    def add(self, job: Job, result: dict[str, Any]) -> None:
        """An image is done; its files are there."""


def run_jobs(
    segmenter: Segmenter,
    jobs: Collection[Job],
    *,
    batch_size: int | None = None,
    tiles: Tiles | None = None,
    plain: bool = False,
    extras: Extras | None = None,
    progress: Callable[[int], None] | None = None,
    windows: Callable[[int, int], None] | None = None,
    done: Account | None = None,
) -> Iterator[dict[str, Any]]:
    """Segments images and writes the results, yielding a description of each.

    An image that cannot be read, or whose result cannot have its name, does not stop the others. At the end
    `shares.json` is written beside the results, unless `done` keeps account of the images; then the caller checks and
    writes it for all of them.

    Args:
        segmenter: The model.
        jobs: What to do.
        batch_size: Images at a time, or windows; fewer where memory runs out. Default: 8 on a GPU, 1 on a CPU.
        tiles: How to cut images into windows; default: each is seen at once.
        plain: Whether results are grey, without the colours of the classes.
        extras: What is wanted beside the semantic maps; the caller writes the files of all images.
        progress: Called with the number of images just done.
        windows: Called with the number of windows of an image that are done, and of all.
        done: Keeps account of the images that are done.

    Yields:
        For each image: `image`, `mask`, `overlay`, `probabilities`, `polygons` (if made), `size` (height, width),
        `shares`, the share of its pixels of each class, those without data aside, the number of `objects` (if they
        were looked for), and `uncertainty` and `mean_uncertainty` (if asked for); or `image` and `error`.
    """
    extras = Extras() if extras is None else extras
    if batch_size is None:
        batch_size = default_batch(segmenter.device)
    results: list[dict[str, Any]] = []
    if done is None and jobs:
        check_shares(next(iter(jobs)).mask.parent, segmenter.classes, (job.mask.stem for job in jobs))
    finish = partial(_finish, segmenter, done)
    described: Iterator[dict[str, Any]]
    if tiles is None:
        described = _whole(segmenter, jobs, batch_size, plain, extras, finish)
    else:
        cut = ((job, _in_windows(segmenter, job, tiles, batch_size, plain, extras, windows)) for job in jobs)
        described = (finish(job, outcome) for job, outcome in cut)
    for result in described:
        if progress is not None:
            progress(1)
        if "error" not in result:
            results.append(result)
        yield result
    if done is None and jobs:
        add_shares(next(iter(jobs)).mask.parent, segmenter.classes, shares_of(results), (job.mask.stem for job in jobs))


def shares_of(results: Sequence[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """The shares of what [`run_jobs`] yielded, by the names under which `shares.json` knows the images."""
    return {Path(result["mask"]).stem: result["shares"] for result in results if "shares" in result}


def _finish(segmenter: Segmenter, done: Account | None, job: Job, outcome: Outcome | InputError) -> dict[str, Any]:
    """Describes an image, and has it noted at once: the next one may take long, or never come."""
    if isinstance(outcome, InputError):
        return {"image": str(job.image), "error": str(outcome)}
    total = max(1, outcome.counts.sum())
    result: dict[str, Any] = {
        "image": str(job.image),
        **{name: str(path) for name, path in job.results().items()},
        "size": list(outcome.size),
        "shares": {name: float(n / total) for name, n in zip(segmenter.classes.names, outcome.counts)},
        **({"objects": outcome.objects} if outcome.objects is not None else {}),
        **({} if outcome.uncertainty is None else outcome.uncertainty._asdict()),
    }
    if done is not None:
        with _NOTING:
            done.add(job, result)
    return result


def _whole(
    segmenter: Segmenter,
    jobs: Collection[Job],
    batch_size: int,
    plain: bool,
    extras: Extras,
    finish: Callable[[Job, Outcome | InputError], dict[str, Any]],
) -> Iterator[dict[str, Any]]:
    on_cpu = segmenter.device.type == "cpu"
    threads, ahead = background_threads(segmenter.device, len(jobs)), batch_size if on_cpu else 2 * batch_size
    # Beside a CPU's network one thread writes, and none reads: Ctrl-C would wait for a disk that does not answer.
    seen = in_background(partial(_see, segmenter), jobs, 0 if on_cpu else threads, ahead)
    segmented = _segmented(segmenter, seen, batch_size, extras.wanted)
    # Probabilities of many classes take gigabytes. Memory may hold those of one image only.
    writers = 0 if on_cpu and any(extras.wanted) else threads
    write = partial(_write, segmenter, plain, extras)
    return in_background(lambda item: finish(*write(item)), segmented, writers, ahead)


def _see(segmenter: Segmenter, job: Job) -> tuple[Job, SeenImage | InputError]:
    try:
        check_name(job)
        image = segmenter.see(job.image)
    except InputError as error:
        return job, error
    is_kept = job.overlay is not None and image.size[0] * image.size[1] <= _KEPT  # or the next ones fill the memory
    return job, image if is_kept else image._replace(whole=None)


def _segmented(
    segmenter: Segmenter, seen: Iterator[tuple[Job, SeenImage | InputError]], batch_size: int, wanted: Wanted
) -> Iterator[tuple[Job, SeenImage | InputError, Callable[[], Answer]]]:
    on_cpu = segmenter.device.type == "cpu"
    while batch := list(islice(seen, batch_size)):
        outputs = segmenter.outputs([image.pixels for _, image in batch if not isinstance(image, InputError)])
        for job, image in batch:
            if isinstance(image, InputError):
                yield job, image, _no_answer
                continue
            output, index = next(outputs)
            answer = partial(segmenter.answer_of, output, index, image.size, wanted)
            # Of a small network, enlarging its answer takes a CPU as long as making it: that is done by the writer.
            yield job, image, answer if on_cpu else partial(_as_it_is, answer())


def _as_it_is(answer: Answer) -> Answer:
    return answer


def _no_answer() -> Answer:
    raise ValueError("an image that cannot be read has no answer")


def _write(
    segmenter: Segmenter,
    plain: bool,
    extras: Extras,
    segmented: tuple[Job, SeenImage | InputError, Callable[[], Answer]],
) -> tuple[Job, Outcome | InputError]:
    job, image, answer_now = segmented
    if isinstance(image, InputError):
        return job, image
    answer = answer_now()
    classes, nodata = segmenter.classes, segmenter.value_without_class
    try:
        known = read_known(job.image, segmenter.intensity) if nodata is not None else None
        whole = read_picture(job.image, segmenter.intensity) if job.overlay and image.whole is None else image.whole
        make_folder(job.mask.parent)
        objects, uncertainty = _write_extras(segmenter, job, image, answer, known, extras) if extras else (None, None)
    except InputError as error:  # the file has changed meanwhile
        return job, error
    semantic_map = answer.semantic_map
    kept = semantic_map
    if known is not None and nodata is not None:
        kept = semantic_map[known]
        semantic_map = np.where(known, semantic_map, segmenter.map_type(nodata))
    save_png(indexed_image(semantic_map, class_colours(classes), plain), job.mask)
    if job.overlay is not None and whole is not None:
        if known is not None:
            semantic_map = np.where(known, semantic_map, np.uint16(classes.ignore_index))
        save_png(picture(whole, semantic_map, classes), job.overlay)
    return job, Outcome(image.size, _count(kept, classes.num_classes), objects, uncertainty)


def _count(classes: np.ndarray, number: int) -> np.ndarray:
    """Pixels of each of so many classes."""
    if classes.dtype == np.uint8:  # which NumPy would copy as eight times as many bytes
        return np.array(Image.fromarray(np.atleast_2d(classes)).histogram()[:number])
    return np.bincount(classes.ravel(), minlength=number)


def _write_extras(
    segmenter: Segmenter, job: Job, image: SeenImage, answer: Answer, known: np.ndarray | None, extras: Extras
) -> tuple[int | None, Uncertainty | None]:
    reference = reference_of(job.image) if isinstance(job.image, Path) else None
    with open_extras(job, image.size, segmenter.classes, extras, reference) as files:
        files.add(answer, known)
    return files.objects, files.uncertainty


def _in_windows(
    segmenter: Segmenter,
    job: Job,
    tiles: Tiles,
    batch_size: int,
    plain: bool,
    extras: Extras,
    windows: Callable[[int, int], None] | None,
) -> Outcome | InputError:
    make_folder(job.mask.parent)  # what is wrong with the folder is wrong for every image
    try:
        check_name(job)
        return segment_in_windows(
            segmenter, job, tiles, batch_size=batch_size, plain=plain, extras=extras, progress=windows
        )
    except InputError as error:
        return error
    except MemoryError:
        return InputError(f"{job.image} is too wide for the memory. Give a smaller --tile-size, or cut it into pieces.")
