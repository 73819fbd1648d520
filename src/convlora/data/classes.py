"""What the numbers in the masks mean: class names, the ignore value, and values that stand for a class."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from convlora.errors import InputError

DEFAULT_IGNORE_INDEX = 255
_BINARY_NAMES = ("background", "foreground")
_LARGEST_VALUE = 65535  # masks are 8 or 16 bits deep
_MOST_LISTED = 10


@dataclass(frozen=True)
class ClassTable:
    """The classes of a data set and how the masks encode them.

    Args:
        names: One name per class, background included; the position is the class index.
        ignore_index: Label of pixels that count neither in the loss nor in the metrics; outside 0..K-1.
        label_map: Pairs (value on disk, class index) when the masks are not plain class indices, such as
            `((0, 0), (255, 1))`. A value named here means its class even if it equals `ignore_index`.
    """

    names: tuple[str, ...]
    ignore_index: int = DEFAULT_IGNORE_INDEX
    label_map: tuple[tuple[int, int], ...] | None = None

    @property
    def num_classes(self) -> int:
        """Number of classes K, background included."""
        return len(self.names)

    @cached_property
    def _lookup(self) -> np.ndarray:
        """Class index per value on disk, -1 where the value means nothing; the last entry stands for all others."""
        pairs = dict(self.label_map) if self.label_map else {index: index for index in range(self.num_classes)}
        pairs.setdefault(self.ignore_index, self.ignore_index)
        lookup = np.full(max(255, *pairs) + 2, -1, dtype=np.int64)  # at least every 8-bit value has an entry
        for value, index in pairs.items():
            lookup[value] = index
        return lookup

    def values_outside(self, values: Iterable[int]) -> list[int]:
        """Returns those of `values` that stand neither for a class nor for ignored pixels, sorted."""
        lookup = self._lookup
        return sorted({int(v) for v in values if not 0 <= v < len(lookup) - 1 or lookup[v] < 0})

    def encode(self, mask: np.ndarray, path: Path | str) -> np.ndarray:
        """Turns values as they are on disk into class indices.

        Args:
            mask: Integers (H, W) as read from the file.
            path: The mask file, for the message.

        Returns:
            Class indices and `ignore_index`, (H, W), uint8 where these fit and int64 otherwise.

        Raises:
            InputError: A value stands for no class and is not the ignore value.
        """
        lookup = self._lookup
        if mask.dtype == np.uint8:
            labels = lookup[mask]
        else:
            beyond = len(lookup) - 1
            wide = mask.astype(np.int64)
            labels = lookup[np.where((wide < 0) | (wide > beyond), beyond, wide)]
        if labels.size and labels.min() < 0:
            outside = [int(v) for v in np.unique(mask[labels < 0])]
            raise InputError(self.outside_message(outside, path))
        fits = max(self.num_classes - 1, self.ignore_index) <= np.iinfo(np.uint8).max
        return labels.astype(np.uint8) if fits else labels

    def outside_message(self, outside: Iterable[int], path: Path | str) -> str:
        """Says which values of a mask mean nothing, what would, and what to do."""
        values = list(outside)
        return (
            f"{path} holds {_listed(values)}, which {'is' if len(values) == 1 else 'are'} none of the "
            f"{self.num_classes} classes ({self._meanings()}) and not the ignore value {self.ignore_index}. "
            + (_lossy_advice(values) or "Correct the mask, or name the classes it holds in classes.json.")
        )

    def _meanings(self) -> str:
        pairs = self.label_map or tuple((index, index) for index in range(self.num_classes))
        shown = [f"{value} {self.names[index]}" for value, index in pairs[:_MOST_LISTED]]
        return ", ".join(shown) + (", ..." if len(pairs) > _MOST_LISTED else "")

    def to_dict(self) -> dict[str, Any]:
        """Returns the table as plain JSON types."""
        return {
            "classes": list(self.names),
            "ignore_index": self.ignore_index,
            "label_map": [list(pair) for pair in self.label_map] if self.label_map is not None else None,
        }

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> "ClassTable":
        """Rebuilds a table from what `to_dict` returned; a missing `label_map` means plain indices."""
        names, ignore_index, _ = _validated(fields, "The class table")
        label_map = fields.get("label_map")
        if label_map is None:
            return cls(names, ignore_index)
        try:
            pairs = tuple((int(value), int(index)) for value, index in label_map)
        except (TypeError, ValueError) as error:
            raise InputError("The class table has a label_map that is not a list of [value, class index].") from error
        if any(value < 0 or not 0 <= index < len(names) for value, index in pairs):
            raise InputError(f"The class table has a label_map that leaves the classes 0 to {len(names) - 1}.")
        return cls(names, ignore_index, pairs)


def read_classes_json(path: Path | str) -> tuple[tuple[str, ...], int, bool]:
    """Reads a file such as `{"classes": ["background", "crack"], "ignore_index": 255}`.

    Args:
        path: The file.

    Returns:
        The class names, the ignore value (255 if the file is silent), and whether the file states it.

    Raises:
        InputError: The file is missing, is not JSON, or does not describe at least two different classes.
    """
    try:
        fields = json.loads(Path(path).read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror or error}).") from error
    except ValueError as error:  # JSONDecodeError and UnicodeDecodeError
        raise InputError(f"{path} is not valid JSON ({error}). {_EXAMPLE}") from error
    return _validated(fields, str(path))


_EXAMPLE = 'It should look like {"classes": ["background", "crack"], "ignore_index": 255}.'


def _validated(fields: Any, where: str) -> tuple[tuple[str, ...], int, bool]:
    names = fields.get("classes") if isinstance(fields, dict) else None
    if not isinstance(names, list) or not all(isinstance(name, str) and name.strip() for name in names):
        raise InputError(f'{where} has no list of names called "classes". {_EXAMPLE}')
    if len(names) < 2:
        raise InputError(f"{where} names {len(names)} class(es); name at least two, background included.")
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise InputError(f"{where} names the class {repeated[0]!r} more than once. Give each class its own name.")
    stated = fields.get("ignore_index") is not None
    ignore_index = fields["ignore_index"] if stated else DEFAULT_IGNORE_INDEX
    if not isinstance(ignore_index, int) or isinstance(ignore_index, bool) or not 0 <= ignore_index <= _LARGEST_VALUE:
        raise InputError(f'{where} has "ignore_index": {ignore_index!r}; it must be a whole number up to 65535.')
    if ignore_index < len(names):
        raise InputError(
            f"{where} has {len(names)} classes, so the ignore value {ignore_index} is also a class. "
            f'State an "ignore_index" of {len(names)} or more.'
        )
    return tuple(names), ignore_index, stated


def resolve_classes(values: set[int], classes_json: Path | None, root: Path) -> ClassTable:
    """Decides what the values found in the masks of a data set mean.

    With a classes.json the values are its class indices and its ignore value, except that a two-class set of
    0/255 masks has 255 as its second class. Without one the task is taken to be binary.

    Args:
        values: Every value that the masks hold, before any mapping.
        classes_json: The file that names the classes, if there is one.
        root: The data set, for messages.

    Returns:
        The classes.

    Raises:
        InputError: The values do not fit the classes, or cannot be explained without a classes.json.
    """
    if classes_json is None:
        return _resolve_unnamed(values, root)
    names, ignore_index, _ = read_classes_json(classes_json)
    table = ClassTable(names, ignore_index)
    # A stated ignore value of 255 does not change this: masks in which all that is not background is ignored would
    # leave nothing to learn, so 255 can only be the foreground of a usual 0/255 mask.
    if len(names) == 2 and 255 in values and values <= {0, 255}:
        return ClassTable(names, ignore_index, ((0, 0), (255, 1)))
    outside = table.values_outside(values)
    if outside:
        raise InputError(table.outside_message(outside, f"{root}: at least one mask"))
    return table


def _resolve_unnamed(values: set[int], root: Path) -> ClassTable:
    if values == {0, 1} or values == {0, 1, 255}:
        return ClassTable(_BINARY_NAMES)
    if len(values) == 2:
        low, high = sorted(values)
        return ClassTable(_BINARY_NAMES, label_map=((low, 0), (high, 1)))
    if len(values) < 2:
        found = f"only {_listed(values)}" if values else "no values"
        raise InputError(
            f"The masks of {root} hold {found}, so there is nothing to tell apart. "
            "Check that the masks are the right files, or add a classes.json that names the classes."
        )
    raise InputError(
        f"The masks of {root} hold {_listed(values)}, which is not a binary task. "
        + (_lossy_advice(values) or f"Add {root / 'classes.json'} that names the classes. {_EXAMPLE}")
    )


def _listed(values: Iterable[int]) -> str:
    ordered = sorted(values)
    shown = ", ".join(str(value) for value in ordered[:_MOST_LISTED])
    return f"the value{'s' if len(ordered) > 1 else ''} {shown}{', ...' if len(ordered) > _MOST_LISTED else ''}"


def _lossy_advice(values: Iterable[int]) -> str:
    """Advice for 0/255 masks whose edges were blurred, recognised by values close to both ends of the range."""
    near_black = any(1 <= value <= 16 for value in values)
    near_white = any(239 <= value <= 254 for value in values)
    if not (near_black and near_white):
        return ""
    return "They look like JPEG-compressed or anti-aliased 0/255 masks; save them as PNG with two values only."
