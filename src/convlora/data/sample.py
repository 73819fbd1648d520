"""One image with its mask, and names that tell the samples of a split apart."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from convlora.data.reading.stored import ImageSource


@dataclass(frozen=True)
class Sample:
    """An image and the mask that belongs to it.

    Args:
        image: The image file, or where else the image is.
        mask: The mask file, or where else the mask is, or `None` when the data holds images only.
        name: What outputs made from this sample are called; unique within a split.
    """

    image: ImageSource
    mask: ImageSource | None
    name: str


def size_mismatch_message(sample: Sample, image_size: tuple[int, int], mask_size: tuple[int, int]) -> str:
    """Says that a mask does not fit its image; sizes are (height, width) in pixels."""
    (image_height, image_width), (mask_height, mask_width) = image_size, mask_size
    remedy = "Give both the same size."
    if image_size == mask_size[::-1]:
        remedy = "One of them is turned, perhaps by the orientation that EXIF states; save both upright."
    return (
        f"{sample.mask} is {mask_width}x{mask_height} pixels (width x height), but its image {sample.image} is "
        f"{image_width}x{image_height}. {remedy}"
    )


def unique_names(images: Sequence[Path], root: Path) -> list[str]:
    """Names each image by its stem, and by more of its path where stems repeat.

    Args:
        images: The images of one split.
        root: Folder to which the longer names are relative.

    Returns:
        One name per image, all different, none holding a path separator.

    Example:
        >>> unique_names([Path("d/a/1.png"), Path("d/b/1.png"), Path("d/b/2.png")], Path("d"))
        ['a__1', 'b__1', '2']
    """
    repeats = Counter(image.stem for image in images)
    wanted = [image.stem if repeats[image.stem] == 1 else _long_name(image, root) for image in images]
    taken: set[str] = set()
    names = []
    for name in wanted:
        candidate, number = name, 2
        while candidate in taken:
            candidate, number = f"{name}__{number}", number + 1
        taken.add(candidate)
        names.append(candidate)
    return names


def _long_name(image: Path, root: Path) -> str:
    relative = image.relative_to(root) if image.is_relative_to(root) else image.relative_to(image.anchor)
    return "__".join(part for part in relative.with_suffix("").parts if part != "..")
