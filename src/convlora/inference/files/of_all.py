"""The files that hold something of all images: tables, `coco.json`, and those for annotation tools."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from convlora.data.classes.class_table import ClassTable
from convlora.inference.files import annotation_files, coco_file, objects_table, ranking
from convlora.inference.files.extras import Extras

_NAMES = (coco_file.NAME, objects_table.NAME, ranking.NAME, *annotation_files.NAMES)
STEMS = {Path(name).stem for name in _NAMES}


def check_files_of_all(output: Path, classes: ClassTable, images: Sequence[str], extras: Extras) -> None:
    """Checks before a prediction that its objects can be added to what is in a folder.

    Args:
        output: The folder of the results.
        classes: The classes.
        images: Names of the images that are about to be predicted, without suffix.
        extras: What is wanted.

    Raises:
        InputError: If a file is none of ours, or objects of other classes would be lost.
    """
    if extras.objects:
        objects_table.check_table(output)
    if extras.polygons == "coco":
        coco_file.check_coco(output, classes, images)
    if extras.rank is not None:
        ranking.check_ranking(output)
    if extras.labels is not None:
        annotation_files.check_annotations(output, classes, images, extras.labels)


def write_files_of_all(
    output: Path,
    classes: ClassTable,
    images: Sequence[str],
    pieces: Sequence[Path],
    extras: Extras,
    results: Sequence[Mapping[str, Any]] = (),
    run: str = "",
) -> dict[str, Any]:
    """Writes the files that are wanted; returns their paths by what they are called in a description.

    A ranking is described by the images in its order, too, as `most_uncertain`.

    Args:
        output: The folder of the results.
        classes: The classes.
        images: Names of all images that were to be predicted, without suffix.
        pieces: Pieces of each segmented image, see `convlora.inference.files.pieces`.
        extras: What is wanted.
        results: Results of each segmented image, as from `convlora.inference.files.jobs.run_jobs`.
        run: What the run is called, for annotation tools.

    Raises:
        InputError: As [`check_files_of_all`]; another prediction may have written there since.
    """
    written: dict[str, Any] = {}
    if extras.objects and pieces:
        objects_table.add_objects(output, pieces)
        written["objects"] = str(output / objects_table.NAME)
    if extras.polygons == "coco" and pieces:
        coco_file.add_coco(output, classes, images, pieces)
        written["coco"] = str(output / coco_file.NAME)
    if extras.rank is not None and results:
        ranking.add_ranking(output, results)
        written["ranking"] = str(output / ranking.NAME)
        written["most_uncertain"] = ranking.most_uncertain(results)
    if extras.labels is not None and pieces:
        written |= annotation_files.write_annotations(
            output, classes, images, pieces, extras.labels, run, extras.image_url
        )
    return written
