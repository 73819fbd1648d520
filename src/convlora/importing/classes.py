"""The classes of a predictor, which knows their number alone."""

from __future__ import annotations

from pathlib import Path

from convlora.data.classes.class_table import ClassTable
from convlora.data.classes.classes_json import read_classes_json
from convlora.data.classes.meaning import table_for
from convlora.errors import InputError

_BINARY = ("background", "foreground")
_WHITE = 255  # the foreground of masks of binary tasks, which AutoGluon reads as shares of white


def class_table(num_classes: int | None, ignore_label: int, names: Path | None) -> ClassTable:
    """What the classes are called, and which values in masks mean them.

    Args:
        num_classes: Number of classes, background included; None: it is a binary task.
        ignore_label: Value of pixels that do not count, in a task of several classes.
        names: A `classes.json` that names the classes; None: the first is called background, and the others
            foreground, or `class 1` and so on.

    Raises:
        InputError: If the file cannot be read, or names more classes or fewer.
    """
    count = 2 if num_classes is None else num_classes
    if names is not None:
        named = read_classes_json(names)
        if len(named.names) != count:
            raise InputError(f"{names} names {len(named.names)} classes, but the model has {count}. Name each of them.")
        table = table_for(named, set())
        if num_classes is None and table.label_map is None:
            return ClassTable(table.names, table.ignore_index, ((0, 0), (_WHITE, 1)), table.colors)
        return table
    if num_classes is None:
        return ClassTable(_BINARY, label_map=((0, 0), (_WHITE, 1)))
    known = ("background", *(f"class {number}" for number in range(1, count)))  # 0 is what AutoGluon draws nothing for
    if ignore_label >= count:
        return ClassTable(known, ignore_label)
    label = 255 if count <= 255 else 65535
    return ClassTable(
        known, label, (*((value, value) for value in range(count) if value != ignore_label), (ignore_label, label))
    )
