"""Checking a data set."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from convlora.data.checking.check import check_data as check_source
from convlora.data.checking.fitness import unfit_for_training
from convlora.data.checking.reach import CELL, Reach, describe_size, describe_sizes
from convlora.data.checking.report import CheckReport
from convlora.data.sources.opening import ALL, open_data
from convlora.errors import InputError
from convlora.models.configuration import IMAGE_MULTIPLE, checked_size
from convlora.reporting import Logged, Reporter
from convlora.training.group_problems import group_problems


def check_data(
    data: str | os.PathLike[str],
    *,
    image_size: int | Sequence[int] | None = None,
    detail: str = "auto",
    reporter: Reporter | None = None,
) -> dict[str, Any]:
    """Reads every image and mask once and lists each problem with its file, as `convlora data check` does.

    Args:
        data: Your data set, as for [`train`][convlora.train].
        image_size: Side of a square, or (height, width), to tell of what it can reach at best. None: common sizes.
        detail: The setting `model.detail` that is meant: `"none"`, `"half"` or `"full"`. `"auto"` is `"half"`.
        reporter: Receives progress; default: it is logged.

    Returns:
        `ok`: whether you can train on it; `problems`, each with `severity` ("error" or "warning"), `kind`, `message`
        and the file; `classes`; the images (`counts`) and pixels (`class_pixels`) of each split; `bands`: the
        numbers of bands that images have; `reachable`: the IoU that image sizes can reach at best, and `advice`, the
        same as a sentence; and the `volumes` of each split.

    Raises:
        InputError: If there are no data, or no such size. Problems of single files raise nothing.
    """
    reporter = Logged() if reporter is None else reporter
    size, cell = _size(image_size), _cell(detail)
    source = open_data(os.fspath(data))
    report = check_source(source, full=True, progress=reporter.track, in_windows=None)
    report.problems += unfit_for_training(source, report)
    report.problems += group_problems(source)
    sentence, reached = (None, []) if report.errors else _reach(report, size, cell)
    reachable = [{"image_size": list(one.size), "iou": one.iou} for one in reached]
    return {"data": os.fspath(data), **report.to_dict(), "reachable": reachable, "advice": sentence}


def _size(image_size: int | Sequence[int] | None) -> tuple[int, int] | None:
    if image_size is None:
        return None
    try:
        height, width = checked_size(image_size if isinstance(image_size, int) else list(image_size), IMAGE_MULTIPLE)
    except (TypeError, ValueError) as error:
        raise InputError(f"--image-size: {error}") from error
    return height, width


def _cell(detail: str) -> int:
    """Side of the cells that masks are drawn in."""
    detail = "half" if detail == "auto" else detail  # without pretrained weights for `full`
    if detail not in CELL:
        raise InputError(f"--detail must be one of auto, {', '.join(CELL)}, got '{detail}'.")
    return CELL[detail]


def _reach(report: CheckReport, size: tuple[int, int] | None, cell: int) -> tuple[str | None, Sequence[Reach]]:
    """What image sizes can reach at best on the images to train on: a sentence, and the figures."""
    samples = report.splits.get("train") or report.splits.get(ALL, [])
    if report.classes is None or not samples:
        return None, []
    if size is None:
        return describe_sizes(samples, report.classes, cell)
    return describe_size(samples, report.classes, size, cell)
