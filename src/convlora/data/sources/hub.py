"""Data sets of Hugging Face's library `datasets` with an image column and a mask column."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from convlora.data.sample import Sample
from convlora.errors import InputError
from convlora.untrusted import read_bytes

if TYPE_CHECKING:
    from datasets import Dataset

IMAGE_COLUMNS = ("image", "images", "img", "pixel_values", "input_image")
MASK_COLUMNS = (
    "mask", "masks", "label", "labels", "annotation", "annotations", "segmentation", "segmentation_mask",
    "semantic_segmentation", "semantic_mask", "semantic_map", "ground_truth", "gt",
)  # fmt: skip
SPLIT_NAMES = {
    "train": "train", "training": "train", "validation": "val", "valid": "val", "val": "val", "dev": "val",
    "test": "test", "testing": "test",
}  # fmt: skip


@dataclass(frozen=True)
class StoredRow:
    """An image or mask in a column of a data set.

    Args:
        where: The data set and split, for messages.
        column: The column.
        row: The row, from 0.
        dataset: What holds it.
    """

    where: str
    column: str
    row: int
    dataset: Dataset = field(repr=False, compare=False)

    def __str__(self) -> str:
        return f"{self.where}, row {self.row}, column {self.column}"

    def load(self) -> bytes | Image.Image:
        """The bytes of the image file, or an image made of an array.

        Raises:
            InputError: The cell is empty, or names a file that is not there.
        """
        cell = self.dataset[self.row][self.column]
        if isinstance(cell, dict):
            if cell.get("bytes") is not None:
                return bytes(cell["bytes"])
            path = cell.get("path")
            if path and Path(path).is_file():
                return read_bytes(Path(path))
            raise InputError(f"{self} names the file {path}, which does not exist. Save the data set with its images.")
        if cell is None:
            raise InputError(f"{self} is empty. Fill it in or remove the row.")
        array = np.asarray(cell)
        if array.ndim != 2 or array.dtype.kind not in "iub" or array.size == 0 or array.min() < 0:
            raise InputError(f"{self} is not a table of class indices (H, W). Save it as an image or as such a table.")
        return Image.fromarray(array.astype(np.uint8 if array.max() < 256 else np.int32))


def is_saved_dataset(path: Path) -> bool:
    """Whether a folder was written by `save_to_disk`."""
    is_one = (path / "dataset_info.json").is_file() and (path / "state.json").is_file()
    return is_one or (path / "dataset_dict.json").is_file()


def is_hub_id(name: str) -> bool:
    """Whether a name could be one on the Hugging Face Hub, such as `owner/name`."""
    return re.fullmatch(r"[\w-][\w.-]*/[\w.-]+", name) is not None


def read_hub(source: str | Path, need_masks: bool) -> tuple[dict[str, list[Sample]], list[str]]:
    """Lists the samples of a data set saved to disk, or of one on the Hub.

    Args:
        source: The folder, or the id on the Hub.
        need_masks: Whether there must be a column of masks.

    Returns:
        The samples by split (`"all"` if it is not divided), and sentences about splits that are not used.

    Raises:
        InputError: It cannot be loaded, or has no columns of images and masks.
    """
    loaded = _load(source)
    parts = dict(loaded) if isinstance(loaded, dict) else {"all": loaded}
    splits: dict[str, list[Sample]] = {}
    notes: list[str] = []
    for name, whole in parts.items():
        part = whole.with_format(None)  # saved along with the data; it decides what cells are and which there are
        split = "all" if name == "all" else SPLIT_NAMES.get(str(name).lower())
        if split is None or split in splits:
            notes.append(f"The split '{name}' of {source} is not used; the names train, validation and test are.")
            continue
        if split == "test" and len(parts) > 1 and need_masks and _is_without_masks(part, f"{source}"):
            # Test images are often published without masks; that is no reason not to train.
            notes.append(f"The split '{name}' of {source} has no masks and is left out.")
            continue
        image, mask = _columns(part, f"{source}", need_masks)
        splits[split] = _rows(part, f"{source}, split {name}", image, mask)
    return splits, notes


def _load(source: str | Path) -> Any:
    import datasets

    try:
        if isinstance(source, Path):
            return datasets.load_from_disk(str(source))
        return datasets.load_dataset(source)
    except Exception as error:  # the library raises nearly anything, from OSError to errors of pyarrow
        first = (str(error).strip() or type(error).__name__).splitlines()[0]
        if isinstance(source, Path):
            raise InputError(f"{source} looks like a saved Hugging Face data set, but is damaged ({first}).") from error
        raise InputError(
            f"{source} is no file or folder, and cannot be loaded from the Hugging Face Hub ({first}). "
            "Check the spelling and the network."
        ) from error


def _columns(dataset: Dataset, where: str, need_masks: bool) -> tuple[str, str | None]:
    import datasets

    features = dict(dataset.features)
    pictures = [name for name, feature in features.items() if isinstance(feature, datasets.Image)]
    image = next((name for name in IMAGE_COLUMNS if name in pictures), None)
    tables = [name for name, feature in features.items() if name in MASK_COLUMNS and _is_table(feature)]
    mask = next((name for name in MASK_COLUMNS if name in pictures or name in tables), None)
    others = [name for name in pictures if name not in (image, mask)]
    if mask is None and image is not None and len(others) == 1:
        mask = others[0]
    elif image is None and mask is not None and len(others) == 1:
        image = others[0]
    if image is None or (mask is None and need_masks):
        raise InputError(
            f"{where} has no column of {'images' if image is None else 'masks'}; it has: {', '.join(features)}. "
            "Name two columns 'image' and 'mask', of type Image; masks may be of type Array2D too."
        )
    return image, mask


def _is_without_masks(dataset: Dataset, where: str) -> bool:
    _, mask = _columns(dataset, where, need_masks=False)
    if mask is None:
        return True
    column = dataset.data.column(mask)  # not read: the number of empty cells stands beside it
    return bool(column.null_count == len(column))


def _is_table(feature: Any) -> bool:
    """Whether a column may hold class indices `(H, W)`; one label per image is none."""
    import datasets

    if isinstance(feature, datasets.Array2D):
        return True
    return isinstance(feature, datasets.List) and isinstance(feature.feature, datasets.List)


def _rows(dataset: Dataset, where: str, image: str, mask: str | None) -> list[Sample]:
    import datasets

    wanted = [name for name in (image, mask) if name is not None]
    dataset = dataset.select_columns(wanted)
    for name in wanted:
        if isinstance(dataset.features[name], datasets.Image):
            dataset = dataset.cast_column(name, datasets.Image(decode=False))
    return [
        Sample(
            StoredRow(where, image, row, dataset),
            None if mask is None else StoredRow(where, mask, row, dataset),
            f"{row:06d}",
        )
        for row in range(len(dataset))
    ]
