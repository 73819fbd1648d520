"""What the numbers in the masks mean: class names, the ignore value, and values that stand for a class."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from convlora.data.classes.classes_json import parse_classes
from convlora.data.reading.colours import Colour, colour_value, describe_value, grey_of, is_colour, listed
from convlora.data.reading.mask_values import count_values, row_pieces
from convlora.errors import InputError

DEFAULT_IGNORE_INDEX = 255
BACKGROUND_NAMES = ("background", "_background_", "bg", "void", "unlabeled", "unlabelled", "none", "other", "others")
MOST_CLASSES = 8192  # counts of pairs of classes, of 8 bytes each, take half a gigabyte then
_MOST_LISTED = 10
_MOST_COLOURS = 256
_MOST_COUNTED = 1 << 16


@dataclass(frozen=True)
class ClassTable:
    """The classes of a data set and how the masks encode them.

    Args:
        names: One name per class, background included; the position is the class index.
        ignore_index: Label of pixels that count neither in the loss nor in the metrics; outside 0..K-1.
        label_map: Pairs (value on disk, class index or `ignore_index`) when the masks are not plain class indices, such
            as `((0, 0), (255, 1))`. A value named here means its class even if it equals `ignore_index`. If it names
            values that are ignored, these are all of them; else the value `ignore_index` is, too. Colours are values
            as well, see `convlora.data.reading.colours`.
        colors: An RGB colour per class, to draw it in.
    """

    names: tuple[str, ...]
    ignore_index: int = DEFAULT_IGNORE_INDEX
    label_map: tuple[tuple[int, int], ...] | None = None
    colors: tuple[Colour, ...] | None = None

    def __post_init__(self) -> None:
        if len(self.names) > MOST_CLASSES:
            raise InputError(
                f"There are {len(self.names):,} classes, and at most {MOST_CLASSES:,} can be told apart. Name fewer in "
                "classes.json."
            )

    @property
    def num_classes(self) -> int:
        """Number of classes K, background included."""
        return len(self.names)

    @property
    def background(self) -> int | None:
        """The class that stands for "nothing of interest", or None if all are things to be seen."""
        if self.num_classes == 2 or self.names[0].strip().lower() in BACKGROUND_NAMES:
            return 0
        return None

    @property
    def _stated_ignored(self) -> list[int]:
        """The values on disk that `label_map` says are ignored."""
        return [value for value, index in self.label_map or () if index == self.ignore_index]

    @cached_property
    def _pairs(self) -> dict[int, int]:
        """Class index by value on disk, the ignore value included.

        A grey colour stands for what its grey value does, and the other way round, unless both are named: masks of one
        data set may be stored with one channel here and with three there.
        """
        pairs = dict(self.label_map) if self.label_map else {index: index for index in range(self.num_classes)}
        # Where colours mean something, an ignored one has to be stated.
        if not self._stated_ignored and not any(map(is_colour, pairs)):
            pairs.setdefault(self.ignore_index, self.ignore_index)
        for value, index in list(pairs.items()):
            grey = grey_of(value)
            if grey is not None:
                pairs.setdefault(grey, index)
            elif value < 256:
                pairs.setdefault(colour_value((value, value, value)), index)
        return pairs

    @cached_property
    def _lookup(self) -> np.ndarray:
        """Class index of every 8-bit value, of the type of the labels; 0 where the value means nothing."""
        return np.array([self._pairs.get(value, 0) for value in range(256)], dtype=self._label_type)

    @cached_property
    def _is_known(self) -> np.ndarray:
        """Whether an 8-bit value means something."""
        return np.array([value in self._pairs for value in range(256)])

    @property
    def _label_type(self) -> type[np.integer]:
        largest = max(self.num_classes - 1, self.ignore_index)
        return next(kind for kind in (np.uint8, np.int32, np.int64) if largest <= np.iinfo(kind).max)

    def values_outside(self, values: Iterable[int]) -> list[int]:
        """Returns those of `values` that stand neither for a class nor for ignored pixels, sorted."""
        return sorted({int(value) for value in values} - self._pairs.keys())

    def encode(self, mask: np.ndarray, path: object) -> np.ndarray:
        """Turns values as they are on disk into class indices.

        Args:
            mask: Integers (H, W) as read from the file.
            path: The mask file or whatever names the mask, for the message.

        Returns:
            Class indices and `ignore_index`, (H, W), uint8 where these fit, else int32.

        Raises:
            InputError: A value stands for no class and is not the ignore value.
        """
        if mask.dtype == np.uint8:
            if not self._is_known[mask].all():
                raise self._outside_error(mask, path)
            return self._lookup[mask]
        known = np.array(sorted(self._pairs), dtype=np.int64)
        meant = np.array([self._pairs[value] for value in known.tolist()], dtype=self._label_type)
        labels = np.empty(mask.shape, self._label_type)
        for rows in row_pieces(mask):  # all at once would take many times the mask
            wide = mask[rows].astype(np.int64)
            place = np.searchsorted(known, wide).clip(max=len(known) - 1)
            if (known[place] != wide).any():
                raise self._outside_error(mask, path)
            labels[rows] = meant[place]
        return labels

    def _outside_error(self, mask: np.ndarray, path: object) -> InputError:
        found = sorted(count_values(mask, _MOST_COUNTED))
        return InputError(self.outside_message(self.values_outside(found), path, found))

    def outside_message(self, outside: Iterable[int], path: object, found: Iterable[int] = ()) -> str:
        """Says which values of a mask mean nothing, what would, and what to do.

        Args:
            outside: The values that mean nothing.
            path: The mask file.
            found: All values of the mask.
        """
        values, found = list(outside), sorted(found)
        among = f" (found: {listed(found).partition(' ')[2].partition(' ')[2]})" if len(found) > len(values) else ""
        return (
            f"{path} holds {listed(values)}{among}, which {'is' if len(values) == 1 else 'are'} none of the "
            f"{self.num_classes} classes ({self._meanings()}){self._ignored()}. "
            + (lossy_advice(values) or self._remedy(values))
        )

    def _ignored(self) -> str:
        ignored = self._stated_ignored
        if len(ignored) == 1 and not is_colour(ignored[0]):
            return f" and not the ignore value {ignored[0]}"
        if ignored:
            more = ", ..." if len(ignored) > _MOST_LISTED else ""
            return f" and not ignored ({', '.join(map(describe_value, ignored[:_MOST_LISTED]))}{more})"
        in_colour = any(is_colour(value) for value, _ in self.label_map or ())
        return "" if in_colour else f" and not the ignore value {self.ignore_index}"

    def _remedy(self, outside: list[int]) -> str:
        if any(map(is_colour, outside)):
            missing = "the missing colours" if self.colors else "the colours of the classes"
            return f'Correct the mask, or add {missing} to classes.json: "colors": [[0, 0, 0], [255, 0, 0], ...].'
        return (
            'Correct the mask, or name the classes in classes.json, with "values" if they are not numbered from 0. Its '
            '"ignore_index" lists the values that do not count.'
        )

    def _meanings(self) -> str:
        pairs = self.label_map or tuple((index, index) for index in range(self.num_classes))
        named = [(value, index) for value, index in pairs if index < self.num_classes]
        shown = [f"{describe_value(value)} {self.names[index]}" for value, index in named[:_MOST_LISTED]]
        return ", ".join(shown) + (", ..." if len(named) > _MOST_LISTED else "")

    def in_order_of(self, names: tuple[str, ...]) -> "ClassTable":
        """The same classes numbered as in `names`, which must be the same names in another order."""
        place = {index: names.index(name) for index, name in enumerate(self.names)}
        pairs = tuple((value, place.get(index, index)) for value, index in self._pairs.items())
        colors = None if self.colors is None else tuple(self.colors[self.names.index(name)] for name in names)
        return ClassTable(names, self.ignore_index, pairs, colors)

    def to_dict(self) -> dict[str, Any]:
        """Returns the table as plain JSON types."""
        return {
            "classes": list(self.names),
            "ignore_index": self.ignore_index,
            "label_map": [list(pair) for pair in self.label_map] if self.label_map is not None else None,
            **({"colors": [list(colour) for colour in self.colors]} if self.colors is not None else {}),
        }

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> "ClassTable":
        """Rebuilds a table from what `to_dict` returned; a missing `label_map` means plain indices."""
        named = parse_classes(fields, "The class table")
        names, ignore_index, label_map = named.names, named.ignore_index, fields.get("label_map")
        if named.ignored != (ignore_index,):
            raise InputError("The class table has an ignore_index that is no label beside those of the classes.")
        if label_map is None:
            return cls(names, ignore_index, colors=named.colors)
        try:
            pairs = tuple((int(value), int(index)) for value, index in label_map)
        except (TypeError, ValueError, OverflowError) as error:
            raise InputError("The class table has a label_map that is not a list of [value, class index].") from error
        if any(value < 0 or not (0 <= index < len(names) or index == ignore_index) for value, index in pairs):
            raise InputError(f"The class table has a label_map that leaves the classes 0 to {len(names) - 1}.")
        return cls(names, ignore_index, pairs, named.colors)


def lossy_advice(values: Iterable[int]) -> str:
    """Advice for masks that were compressed: those in colour by having many, 0/255 masks by values near both ends."""
    values = list(values)
    if sum(map(is_colour, values)) > _MOST_COLOURS:
        return "They look like JPEG-compressed colours; save the masks as PNG with one colour per class."
    near_black = any(1 <= value <= 16 for value in values)
    near_white = any(239 <= value <= 254 for value in values)
    if not (near_black and near_white):
        return ""
    return "They look like JPEG-compressed or anti-aliased 0/255 masks; save them as PNG with two values only."
