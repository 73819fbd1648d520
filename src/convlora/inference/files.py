"""Which images to segment and what the results are called."""

from __future__ import annotations

import glob
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from convlora.data.images import IMAGE_SUFFIXES, is_image_file
from convlora.data.stored import ImageSource
from convlora.errors import InputError

SOFTWARE = "convlora"  # written into every result


@dataclass(frozen=True)
class Job:
    """One image to segment and where the results go.

    Attributes:
        image: The image, a file or whatever else holds it.
        mask: Where its semantic map goes.
        overlay: Where the picture of both goes, if one is wanted.
    """

    image: ImageSource
    mask: Path
    overlay: Path | None


def collect_images(patterns: Sequence[str]) -> list[Path]:
    """Lists the images meant by files, folders and glob patterns, each once, in the order given.

    Raises:
        InputError: If one of them names no image.
    """
    found: dict[Path, None] = {}
    for pattern in patterns:
        path = Path(pattern).expanduser()
        if path.is_dir():
            images = sorted(entry for entry in path.iterdir() if is_image_file(entry))
            if not images:
                raise InputError(
                    f"The folder {path} holds no images ({', '.join(sorted(IMAGE_SUFFIXES))}). Name a folder that "
                    f"does, or a pattern such as '{path}/**/*.jpg'."
                )
        elif path.is_file():
            images = [path]
        else:
            images = sorted(Path(name) for name in glob.glob(str(path), recursive=True) if is_image_file(Path(name)))  # noqa: PTH207
            if not images:
                raise InputError(
                    f"'{pattern}' is no file or folder, and no image matches it as a pattern. Check the path."
                )
        found.update(dict.fromkeys(images))
    return list(found)


def is_own_result(path: Path) -> bool:
    """Whether a file is an earlier result, which may be replaced, and not, say, somebody's ground truth."""
    try:
        with Image.open(path) as image:
            return str(image.info.get("Software", "")).startswith(SOFTWARE)
    except OSError:
        return False


def plan(images: Sequence[Path], output: Path, with_overlay: bool) -> list[Job]:
    """Decides on the names of the results: `STEM.png`, and `STEM_overlay.png`.

    Raises:
        InputError: If two images would have the same name, or a result would replace an image.
    """
    owners: dict[Path, Path] = {}
    jobs = []
    for image in images:
        job = Job(image, output / f"{image.stem}.png", output / f"{image.stem}_overlay.png" if with_overlay else None)
        for target in (job.mask, job.overlay):
            if target is None:
                continue
            if target in owners:
                raise InputError(
                    f"{owners[target]} and {image} would both be written to {target}. "
                    "Predict them into different folders."
                )
            if target.resolve() == image.resolve():
                raise InputError(f"The result for {image} would replace it. Choose another --output.")
            if target.exists() and not is_own_result(target):
                raise InputError(f"{target} exists and was not made by convlora. Choose another --output.")
            owners[target] = image
        jobs.append(job)
    return jobs
