"""What annotation tools import: the masks of all images in one file, and the labels in another."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

from convlora.data.classes.class_table import ClassTable
from convlora.errors import InputError, shown
from convlora.inference.files import cvat_files, label_studio_files
from convlora.inference.files.pieces import read_piece
from convlora.links import is_link
from convlora.locking import only_one

_TOOLS: dict[str, ModuleType] = {"cvat": cvat_files, "labelstudio": label_studio_files}
NAMES = tuple(name for tool in _TOOLS.values() for name in (tool.NAME, tool.LABELS_NAME))
_LOCK = ".annotations.lock"


def check_annotations(output: Path, classes: ClassTable, images: Sequence[str], tool: str) -> None:
    """Checks before a prediction that the files may be written.

    Args:
        output: The folder of the results.
        classes: The classes.
        images: Names of the images that are about to be predicted, without suffix.
        tool: `"cvat"` or `"labelstudio"`.

    Raises:
        InputError: If a file is none of ours, or knows images that are not predicted now, which would be lost; or if a
            name cannot be written.
    """
    module = _TOOLS[tool]
    for name in (*classes.names, *images):
        module.check_text(name)
    masks, labels = output / module.NAME, output / module.LABELS_NAME
    known: list[str] = []
    for path in (masks, labels):
        try:
            if is_link(path):
                raise ValueError("a link")
            if not path.exists():
                continue
            if path == masks:
                known = module.read_images(path)
            else:
                module.check_labels(path)
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise InputError(f"{path} exists and was not made by convlora. Choose another --output.") from error
    lost = sorted({Path(name).stem for name in known} - set(images))
    if lost:
        raise InputError(
            f"{masks} has masks of images that are not predicted now, such as {shown(lost[0])}. Choose another "
            "--output, or predict all of them together."
        )


def write_annotations(
    output: Path,
    classes: ClassTable,
    images: Sequence[str],
    pieces: Sequence[Path],
    tool: str,
    run: str,
    image_url: str | None,
) -> dict[str, str]:
    """Writes the files, sorted by the names of the images; returns their paths by what they are called.

    Args:
        output: The folder of the results.
        classes: The classes.
        images: Names of all images that were to be predicted, without suffix.
        pieces: Pieces of each segmented image, with runs, see `convlora.inference.files.pieces`.
        tool: `"cvat"` or `"labelstudio"`.
        run: What the run is called.
        image_url: As of `convlora.inference.files.extras.Extras`.

    Raises:
        InputError: As [`check_annotations`]; or a piece is none of ours.
    """
    module = _TOOLS[tool]
    with only_one(output, _LOCK, wait=True):
        check_annotations(output, classes, images, tool)
        ordered = [piece for _, piece in sorted((str(next(read_piece(piece))["image"]), piece) for piece in pieces)]
        try:
            module.write_masks(output / module.NAME, classes, ordered, run, image_url)
        except InputError:
            raise
        except (ValueError, KeyError, TypeError, IndexError) as error:
            raise InputError(
                f"What {output} keeps of an interrupted prediction was not made by convlora. Predict without --resume."
            ) from error
        module.write_labels(output / module.LABELS_NAME, classes)
    return {tool: str(output / module.NAME), module.LABELS_KEY: str(output / module.LABELS_NAME)}
