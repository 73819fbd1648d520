"""What a check of a data set found."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from convlora.data.checking.volumes import VolumeFacts
from convlora.data.classes.class_table import ClassTable
from convlora.data.problem import Problem
from convlora.data.sample import Sample
from convlora.errors import InputError


@dataclass(frozen=True)
class ImageSizes:
    """The range of image sizes; all sizes are (height, width) in pixels.

    Args:
        smallest: The size of fewest pixels.
        largest: The size of most pixels.
        different: How many different sizes there are.
    """

    smallest: tuple[int, int]
    largest: tuple[int, int]
    different: int

    @classmethod
    def of(cls, sizes: Iterable[tuple[int, int]]) -> "ImageSizes | None":
        """Summarises sizes, or returns `None` if there are none."""
        distinct = sorted(set(sizes), key=lambda size: (size[0] * size[1], size))
        return cls(distinct[0], distinct[-1], len(distinct)) if distinct else None


@dataclass
class CheckReport:
    """What a check found.

    Args:
        problems: Findings, those of pairing first, then in the order of splits and samples.
        classes: The classes, or `None` if the masks cannot be explained.
        counts: Number of samples per split.
        class_pixels: Pixels per class index, by split; filled by the full check only.
        ignored_pixels: Pixels with the ignore value, by split; filled by the full check only.
        image_sizes: The range of image sizes, or `None` if no image could be read.
        bands: Numbers of bands that images have, alpha not counted, in order; grey images have one.
        skipped: Files left out, each with its split and the reason, if that was asked for.
        splits: The samples that the report is about.
        values: Pixels per value on disk of the mask of each sample that was read, by the `id` of the sample.
        volumes: The volumes of each split whose slices are samples.
    """

    problems: list[Problem]
    classes: ClassTable | None
    counts: dict[str, int]
    class_pixels: dict[str, list[int]] = field(default_factory=dict)
    ignored_pixels: dict[str, int] = field(default_factory=dict)
    image_sizes: ImageSizes | None = None
    bands: list[int] = field(default_factory=list)
    skipped: list[Problem] = field(default_factory=list)
    splits: dict[str, list[Sample]] = field(default_factory=dict)
    values: dict[int, Counter[int]] = field(default_factory=dict)
    volumes: dict[str, list[VolumeFacts]] = field(default_factory=dict)

    @property
    def errors(self) -> list[Problem]:
        """The problems that must be solved before training."""
        return [problem for problem in self.problems if problem.severity == "error"]

    @property
    def warnings(self) -> list[Problem]:
        """The problems that may be meant as they are."""
        return [problem for problem in self.problems if problem.severity == "warning"]

    def raise_errors(self, limit: int = 3, remedy: str = "convlora data check lists all of them") -> None:
        """Raises the first errors as one message.

        Args:
            limit: How many errors to spell out.
            remedy: What is said where there are more.

        Raises:
            InputError: There is at least one error.
        """
        if not self.errors:
            return
        shown = _remedy_once([problem.message for problem in self.errors[:limit]])
        more = len(self.errors) - limit
        rest = f" (and {more} more{'; ' if remedy else ''}{remedy})" if more > 0 else ""
        raise InputError(shown + rest)

    def to_dict(self) -> dict[str, Any]:
        """Returns the report as plain JSON types."""
        sizes = self.image_sizes
        return {
            "ok": not self.errors,
            "problems": [problem.to_dict() for problem in self.problems],
            "classes": self.classes.to_dict() if self.classes else None,
            "counts": dict(self.counts),
            "class_pixels": {split: list(pixels) for split, pixels in self.class_pixels.items()},
            "ignored_pixels": dict(self.ignored_pixels),
            "bands": list(self.bands),
            "image_sizes": {
                "smallest": list(sizes.smallest),
                "largest": list(sizes.largest),
                "different": sizes.different,
            }
            if sizes
            else None,
            "volumes": {split: [one.to_dict() for one in some] for split, some in self.volumes.items()},
        }


def _remedy_once(messages: list[str]) -> str:
    """Messages in a row; a remedy that the one before names, too, is not said again."""
    told, before = [], None
    for message in messages:
        fault, _, remedy = message.partition(". ")
        told.append(f"{fault}." if remedy and remedy == before else message)
        before = remedy
    return " ".join(told)
