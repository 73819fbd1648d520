"""Whether data that were checked can be trained on."""

from __future__ import annotations

from dataclasses import replace

from convlora.data.checking.report import CheckReport
from convlora.data.problem import Problem
from convlora.data.sources.opening import DataSource
from convlora.errors import InputError


def unfit_for_training(source: DataSource, report: CheckReport) -> list[Problem]:
    """What a training run refuses although every file is fine.

    Args:
        source: The data set.
        report: What a check of it found.

    Returns:
        An error if there is nothing to train on, or nothing to validate with; nothing beside other errors.
    """
    if report.errors:
        return []
    try:
        replace(source, notes=[]).train_val(seed=0)
    except InputError as error:
        return [Problem("no-training-data", str(source.root), str(error))]
    if report.classes is None:
        message = f"The classes of {source.root} cannot be told, because no mask was read. Add masks."
        return [Problem("no-training-data", str(source.root), message)]
    return []
