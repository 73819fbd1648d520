"""Telling forms apart, and reading each by its own reader."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from convlora.data.sources.formats.found import Found, Reading


@dataclass(frozen=True)
class Format:
    """A form of data sets.

    Args:
        name: As for `--format`.
        title: What it is called in sentences.
        sign: By what it is recognised, after "because".
        module: Where its functions are.
        test: The function that tells whether a folder has it.
        reader: The function that reads it.
    """

    name: str
    title: str
    sign: str
    module: str
    test: str
    reader: str

    def fits(self, root: Path) -> bool:
        """Whether a folder, or a file, has this form."""
        return bool(self._function(self.test)(root))

    def read(self, root: Path, reading: Reading) -> Found:
        """Reads it.

        Raises:
            InputError: It is not this form, or damaged.
        """
        found: Found = self._function(self.reader)(root, reading)
        return found

    def _function(self, name: str) -> Callable[..., Any]:
        module = importlib.import_module(f"{__package__}.{self.module}")
        function: Callable[..., Any] = getattr(module, name)
        return function


# The first that fits is taken: those come first that say by a file of their own what they are.
FORMATS = (
    Format("supervisely", "a Supervisely project", "meta.json lies beside folders with ann and img", "supervisely",
           "is_supervisely", "read_supervisely"),
    Format("nnunet", "a raw data set of nnU-Net", "dataset.json lies beside imagesTr and labelsTr", "mask_folders",
           "is_nnunet", "read_nnunet"),
    Format("labelstudio", "Label Studio's JSON export", "a JSON file lists tasks with annotations", "labelstudio",
           "is_labelstudio", "read_labelstudio"),
    Format("cvat", "CVAT for images", "an XML file holds CVAT's annotations", "cvat", "is_cvat", "read_cvat"),
    Format("roboflow", "Roboflow's semantic masks", "_classes.csv lies beside images and masks", "pairs",
           "is_roboflow", "read_roboflow"),
    Format("voc", "Pascal VOC", "there is a folder SegmentationClass", "voc", "is_voc", "read_voc"),
    Format("yolo", "YOLO segmentation", "there are label files of polygons", "yolo", "is_yolo", "read_yolo"),
    Format("mmseg", "MMSegmentation's folders", "images and masks lie in two folders with the same splits",
           "mask_folders", "is_mmseg", "read_mmseg"),
    Format("labelme", "LabelMe", "JSON files hold shapes of images", "labelme", "is_labelme", "read_labelme"),
    Format("instances", "masks of numbered objects", "masks are called like their images, with _masks behind, as "
           "Cellpose does", "instances", "is_instances", "read_instances"),
    Format("pairs", "pairs of image and mask side by side", "masks are called like their images, with an end such as "
           "_mask", "pairs", "is_pairs", "read_pairs_beside"),
    # Boxes may lie beside images that have masks, so they count only where nothing else fits.
    Format("yolo", "YOLO segmentation", "label files lie beside images", "yolo", "is_beside", "read_yolo"),
)  # fmt: skip
BY_NAME = {one.name: one for one in reversed(FORMATS)}


def recognise(root: Path) -> Format | None:
    """The form of a folder or file, or None."""
    return next((one for one in FORMATS if one.fits(root)), None)
