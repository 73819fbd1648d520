"""What is known of the objects of one image, kept in a hidden file until it goes into the files of all images.

A prediction that is interrupted keeps the files of the images that are done, so that none is missing in the end.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from convlora.errors import InputError
from convlora.links import open_own
from convlora.measuring.objects import Objects, object_mask
from convlora.measuring.row_runs import row_runs
from convlora.measuring.scale import PlainScale
from convlora.measuring.spans import of_owner, run_lengths
from convlora.measuring.table import COLUMNS, rows_of
from convlora.storage import replacing_file
from convlora.untrusted import UnreadableError, parse_json

_BEGIN = ".objects-"


def piece_of(output: Path, stem: str) -> Path:
    """Where that of an image is kept; any name of an image fits."""
    return output / f"{_BEGIN}{hashlib.blake2b(os.fsencode(stem), digest_size=16).hexdigest()}.jsonl"


def forget_pieces(output: Path) -> None:
    """Removes all of them. For one process alone."""
    for path in output.glob(f"{_BEGIN}*.jsonl"):
        path.unlink(missing_ok=True)


def write_piece(
    path: Path, image: Path, objects: Objects, names: Sequence[str], scale: PlainScale, with_runs: bool = False
) -> None:
    """Writes one: a line for the image, and one for each object.

    Args:
        path: Where it goes.
        image: The image's file.
        objects: With their spans if their masks are wanted.
        names: Names of the classes.
        scale: What pixels stand for.
        with_runs: Whether the mask inside the box of each is kept as runs along its rows, too.
    """
    with replacing_file(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        head = {"image": image.name, "folder": image.absolute().parent.name, "size": objects.size}
        file.write(json.dumps(head) + "\n")
        for index, row in enumerate(rows_of(objects, names, scale)):
            if objects.spans is not None:
                row = row | {"counts": _compressed(objects, index)}
            if with_runs:
                row = row | {"runs": row_runs(object_mask(objects, index))}
            file.write(json.dumps(row) + "\n")


def _compressed(objects: Objects, index: int) -> str:
    """The mask of one object as COCO's compressed run lengths."""
    from pycocotools import mask as coco_mask

    height, width = objects.size
    assert objects.spans is not None  # noqa: S101 - asked by the caller
    counts = run_lengths(of_owner(objects.spans, index), objects.size)
    encoded = coco_mask.frPyObjects({"counts": counts, "size": [height, width]}, height, width)
    return str(encoded["counts"].decode("ascii"))


def read_piece(path: Path) -> Iterator[dict[str, Any]]:
    """The image, and then its objects.

    Raises:
        InputError: If it is a link, or holds something else.
    """
    with open_own(path, "r") as file:
        for number, line in enumerate(file):
            try:
                entry = parse_json(line)
            except UnreadableError as error:
                raise _not_ours(path) from error
            keys = {"image", "size"} if number == 0 else set(COLUMNS)
            if not isinstance(entry, dict) or not keys <= entry.keys():
                raise _not_ours(path)
            yield entry


def _not_ours(path: Path) -> InputError:
    return InputError(f"{path} was not made by convlora. Remove it, and predict without --resume.")
