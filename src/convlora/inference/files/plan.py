"""Which images to segment and what the results are called."""

from __future__ import annotations

import glob
import os
import struct
import tempfile
import unicodedata
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations
from pathlib import Path

from PIL.PngImagePlugin import PngImageFile

from convlora.data.reading.images import IMAGE_SUFFIXES, is_array_file, is_image_file
from convlora.data.reading.rows import INSTALL, has_rasterio, reference_of
from convlora.data.reading.stored import ImageSource
from convlora.data.reading.tiff.header import SOFTWARE_TAG, is_georeferenced, is_tiff, read_tags
from convlora.errors import InputError
from convlora.inference.files.extras import Extras
from convlora.inference.files.pieces import piece_of
from convlora.links import is_plain_file
from convlora.measuring.own_geojson import GEOJSON_SUFFIX, is_own_geojson
from convlora.ordinary import ordinary
from convlora.paths import are_same_file, expanded
from convlora.storage import SOFTWARE

_IN_UTF_16 = os.name == "nt"
GEO_SUFFIX = ".tif"  # of results that say where on earth they lie


@dataclass(frozen=True)
class Job:
    """One image to segment and where the results go.

    Attributes:
        image: The image, a file or whatever else holds it.
        mask: Where its semantic map goes.
        overlay: Where the picture of both goes, if one is wanted.
        probabilities: Where the probabilities go, if they are wanted.
        polygons: Where the outlines of its objects go, if they have a file of their own.
        piece: Where what is known of its objects is kept until it goes into the files of all images.
    """

    image: ImageSource
    mask: Path
    overlay: Path | None
    probabilities: Path | None = None
    polygons: Path | None = None
    piece: Path | None = None

    def results(self) -> dict[str, Path]:
        """The files for people, by the names under which results are described."""
        found = {name: getattr(self, name) for name in ("mask", "overlay", "probabilities", "polygons")}
        return {name: path for name, path in found.items() if path is not None}

    def files(self) -> list[Path]:
        """All files that are written for this image alone."""
        return [*self.results().values(), *([] if self.piece is None else [self.piece])]


def collect_images(patterns: Sequence[str]) -> list[Path]:
    """Lists the images meant by files, folders and glob patterns, each once, in the order given.

    Raises:
        InputError: If one of them names no image.
    """
    found: dict[Path, None] = {}
    for pattern in patterns:
        path = expanded(pattern)
        # Path.is_dir and Path.is_file raise for names that are too long.
        if os.path.isdir(path):  # noqa: PTH112
            images = sorted(entry for entry in path.iterdir() if is_image_file(entry))
            images = images or sorted(entry for entry in path.iterdir() if is_array_file(entry))
            if not images:
                raise InputError(
                    f"The folder {path} holds no images ({', '.join(sorted(IMAGE_SUFFIXES))}). Name a folder that "
                    f"does, or a pattern such as '{glob.escape(str(path))}/**/*.jpg'."
                )
        elif os.path.isfile(path):  # noqa: PTH113
            images = [path]
        else:
            images = sorted(Path(name) for name in glob.glob(str(path), recursive=True) if _is_image(Path(name)))  # noqa: PTH207
            if not images:
                raise InputError(
                    f"'{pattern}' is no file or folder, and no image matches it as a pattern. {_remedy(pattern)}"
                )
        found.update(dict.fromkeys(images))
    return list(found)


def check_output(patterns: Sequence[str], output: str) -> None:
    """Refuses to write results into a folder whose images are asked for: a later call would take them for images.

    Args:
        patterns: Files, folders and patterns as they were given, also URIs.
        output: Folder of the results, or its URI.

    Raises:
        InputError: If it is one of the folders.
    """
    for one in patterns:
        folder = expanded(one)
        is_same = (
            one.rstrip("/") == output.rstrip("/")
            if "://" in one
            else os.path.isdir(folder) and are_same_file(folder, expanded(output))  # noqa: PTH112
        )
        if is_same:
            raise InputError(
                f"{one} is the folder of the images and of the results, so the next call would take the masks for "
                "images. Choose another --output."
            )


def _is_image(path: Path) -> bool:
    return is_image_file(path) or is_array_file(path)


def _remedy(pattern: str) -> str:
    if "[" not in pattern:
        return "Check the path."
    escaped = pattern.replace("[", "[[]")
    return f"Brackets in it stand for one of the signs between them; if they are part of a name, write '{escaped}'."


def is_own_result(path: Path) -> bool:
    """Whether a file is an earlier result, which may be replaced, and not, say, a mask drawn by hand."""
    if path.suffix == GEOJSON_SUFFIX:
        return is_own_geojson(path)
    if is_tiff(path):
        made_by = read_tags(path).get(SOFTWARE_TAG, "")
    else:
        try:
            # Image.open would refuse results of very large images for their size.
            with PngImageFile(ordinary(path)) as image:
                made_by = image.info.get("Software", "")
        except (OSError, SyntaxError, ValueError, IndexError, TypeError, struct.error):  # no PNG, or a damaged one
            return False
    return str(made_by).startswith(SOFTWARE)


def plan(
    images: Sequence[Path], output: Path, with_overlay: bool, tiled: bool = False, extras: Extras | None = None
) -> list[Job]:
    """Decides on the names of the results: `STEM.png`, `STEM_overlay.png` and so on.

    Args:
        images: What to segment.
        output: The folder of the results.
        with_overlay: Whether pictures are wanted.
        tiled: Whether images are segmented in windows; the result of a GeoTIFF is then one too, `STEM.tif`.
        extras: What else is wanted of each image.

    Raises:
        InputError: If two images would have the same name, also on a disk that ignores case, or a result would replace
            an image or something else that is not ours.
    """
    extras = Extras() if extras is None else extras
    owners: dict[Path, Path] = {}
    alike: dict[str, list[Path]] = defaultdict(list)
    jobs = []
    for image in images:
        suffix = GEO_SUFFIX if tiled and reference_of(image) is not None else ".png"
        shown = output / f"{image.stem}_overlay.png" if with_overlay else None
        job = Job(
            image,
            output / f"{image.stem}{suffix}",
            shown,
            output / f"{image.stem}_probabilities.tif" if extras.probabilities else None,
            output / f"{image.stem}{GEOJSON_SUFFIX}" if extras.polygons == "geojson" else None,
            piece_of(output, image.stem) if extras.makes_pieces else None,
        )
        for name, target in job.results().items():
            stem = target.with_suffix("")  # by which shares.json knows them
            if stem in owners and name != "polygons":  # which have the stem of the mask
                raise InputError(
                    f"{owners[stem]} and {image} would both be written to {target}. "
                    "Predict them into different folders."
                )
            if are_same_file(target, image):
                raise InputError(f"The result for {image} would replace it. Choose another --output.")
            if os.path.lexists(target) and not (is_plain_file(target) and is_own_result(target)):
                raise InputError(f"{target} exists and was not made by convlora. Choose another --output.")
            owners[stem] = image
            if name != "polygons":
                alike[unicodedata.normalize("NFKC", stem.name).casefold()].append(stem)
        jobs.append(job)
    for stems in alike.values():
        for one, other in combinations(stems, 2):
            if _are_one(one, other):
                raise InputError(
                    f"{owners[one]} and {owners[other]} would both be written to {one.name} in {output}, because its "
                    "disk takes their names for the same. Predict them into different folders."
                )
    return jobs


def _are_one(one: Path, other: Path) -> bool:
    """Whether a disk takes two names in a folder for the same, as those of Windows and macOS do with a and A."""
    try:
        with tempfile.TemporaryDirectory(dir=_nearest(one.parent), prefix=".names-") as place:
            (Path(place) / one.name).touch()
            return (Path(place) / other.name).exists()
    except OSError:  # writing there reports what is wrong
        return False


def check_name(job: Job) -> None:
    """Checks that the disk takes the names of the results.

    Raises:
        InputError: If one is too long.
    """
    for path in job.results().values():
        if _length(path.name) > _longest_name(_nearest(path.parent)):
            raise InputError(f"The result of {job.image} would have too long a name, {path.name}. Rename the image.")


def _length(name: str) -> int:
    """How much of what a disk allows a name takes: bytes, but on Windows units of UTF-16."""
    return len(name.encode("utf-16-le", "surrogatepass")) // 2 if _IN_UTF_16 else len(os.fsencode(name))


@lru_cache
def _longest_name(folder: Path) -> int:
    """The longest name that a folder takes, see [`_length`]."""
    try:
        return os.pathconf(folder, "PC_NAME_MAX")
    except (AttributeError, OSError, ValueError):  # not on Windows
        return 255


def _nearest(folder: Path) -> Path:
    """A folder, or the nearest one above it that exists."""
    return next(place for place in (folder, *folder.absolute().parents) if place.is_dir())


def coordinates_lost(jobs: Sequence[Job], tiled: bool) -> str | None:
    """What to say if images lie somewhere on earth and their results will not; None if there are none.

    Args:
        jobs: What [`plan`] made.
        tiled: Whether images are segmented in windows.
    """
    lost = [job for job in jobs if job.mask.suffix != GEO_SUFFIX and _lies_somewhere(job.image)]
    if not lost:
        return None
    if not has_rasterio():
        remedy = f"For a GeoTIFF, install what writes it, {INSTALL}" + ("." if tiled else ", and add --tile.")
    elif not tiled:
        remedy = "Add --tile for a GeoTIFF."
    else:
        remedy = "For a GeoTIFF, convert it to a TIFF in upright RGB or grey."
    others = f" (and {len(lost) - 1} more)" if len(lost) > 1 else ""
    return f"{lost[0].image}{others} has coordinates, but its result is a PNG and has none. {remedy}"


def _lies_somewhere(image: ImageSource) -> bool:
    if not isinstance(image, Path):
        return False
    first, last = image.suffix[1:2], image.suffix[-1:]
    for name in (f"{first}{last}w", f"{image.suffix[1:]}w"):  # of world files
        if os.path.isfile(image.with_suffix(f".{name}")):  # noqa: PTH113 - it may be too long a name
            return True
    return image.suffix.lower() in (".tif", ".tiff") and is_georeferenced(read_tags(image))
