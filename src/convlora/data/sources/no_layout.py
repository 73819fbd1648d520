"""What to do where a folder is no data set: perhaps one lies in it, or something is missing."""

from __future__ import annotations

import contextlib
from pathlib import Path

from convlora.data.sources.coco_files import any_annotations, find_annotations
from convlora.data.sources.folder import has_masks, is_single_layout, is_split_layout, subfolders
from convlora.data.sources.formats.recognise import recognise
from convlora.data.sources.hub import is_saved_dataset
from convlora.data.sources.listing import list_images
from convlora.data.sources.unused import tables_in
from convlora.errors import InputError

_MOST_LOOKED_INTO = 50  # folders


def inner_data(root: Path, need_masks: bool) -> str | None:
    """What to give where the data lie one folder deeper, as an unpacked archive often has them."""
    for folder in subfolders(root)[:_MOST_LOOKED_INTO]:
        with contextlib.suppress(InputError):
            if (
                find_annotations(folder)
                or any_annotations(folder)
                or is_saved_dataset(folder)
                or tables_in(folder, need_masks)
                or (has_masks(folder) and (is_split_layout(folder) or is_single_layout(folder)))
                or recognise(folder)
            ):
                return f"There is one inside: give {folder}."
    return None


def lonely_images(root: Path) -> str | None:
    """What is missing where a folder holds images and nothing else."""
    with contextlib.suppress(InputError):
        if list_images(root)[0]:
            return (
                f"It holds images, but no masks or annotations of them. Move the images to {root / 'images'}, and put "
                f"a mask for each, of the same name, into {root / 'masks'}."
            )
    return None
