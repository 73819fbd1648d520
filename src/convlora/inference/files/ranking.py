"""`ranking.csv` beside predictions: which images are most worth labelling, the first first."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from convlora.errors import InputError, cell
from convlora.links import is_link, open_own
from convlora.locking import only_one
from convlora.storage import replacing_file

NAME = "ranking.csv"
HEADER = ("rank", "image", "uncertainty", "mean_uncertainty")
_LOCK = ".ranking.lock"
Scores = tuple[float | None, float | None]  # of an image, see `convlora.inference.uncertain.Uncertainty`


def check_ranking(output: Path) -> None:
    """Checks before a prediction that images can be added to what is in a folder.

    Raises:
        InputError: If there is a file of that name which is none of ours.
    """
    _earlier(output / NAME)


def add_ranking(output: Path, results: Sequence[Mapping[str, Any]]) -> None:
    """Writes the file; the images that stand there already and are not predicted anew are ranked with the others.

    Args:
        output: The folder of the results.
        results: Results of each image, as from `convlora.inference.files.jobs.run_jobs`.

    Raises:
        InputError: As [`check_ranking`].
    """
    with only_one(output, _LOCK, wait=True):
        new = {Path(result["image"]).stem for result in results}
        ranked = {name: scores for name, scores in _earlier(output / NAME).items() if Path(name).stem not in new}
        ranked |= {cell(Path(result["image"]).name): _scores(result) for result in results}
        lines = sorted(ranked.items(), key=lambda one: (_place(one[1]), one[0]))
        with replacing_file(output / NAME) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(HEADER)
            writer.writerows(
                [rank, name, *("" if score is None else f"{score:.6f}" for score in scores)]
                for rank, (name, scores) in enumerate(lines, start=1)
            )


def most_uncertain(results: Sequence[Mapping[str, Any]]) -> list[str]:
    """The images of a prediction, those to label first in front."""
    return [result["image"] for result in sorted(results, key=lambda one: (_place(_scores(one)), one["image"]))]


def _scores(result: Mapping[str, Any]) -> Scores:
    return result.get("uncertainty"), result.get("mean_uncertainty")


def _place(scores: Scores) -> tuple[float, float]:
    """What sorts images; those without any data come last."""
    first, second = (1.0 if score is None else -round(score, 6) for score in scores)
    return first, second


def _earlier(path: Path) -> dict[str, Scores]:
    """The images in an earlier file; none if there is none."""
    if not path.exists() and not is_link(path):
        return {}
    try:
        with open_own(path, "r") as file:
            lines = csv.reader(file)
            if tuple(next(lines, ())) != HEADER:
                raise _not_ours(path)
            return {name: (_number(first), _number(second)) for _, name, first, second in lines}
    except (OSError, ValueError, csv.Error) as error:  # which InputError is as well
        raise _not_ours(path) from error


def _number(text: str) -> float | None:
    if text == "":
        return None
    value = float(text)
    if not 0 <= value <= 1:  # nan neither
        raise ValueError("no share")
    return value


def _not_ours(path: Path) -> InputError:
    return InputError(f"{path} exists and was not made by convlora. Choose another --output.")
