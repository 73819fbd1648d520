"""Deciding what the values found in the masks of a data set mean."""

from __future__ import annotations

from pathlib import Path

from convlora.data.classes.class_table import ClassTable, lossy_advice
from convlora.data.classes.classes_json import EXAMPLE, NamedClasses, read_classes_json
from convlora.data.reading.colours import colour_value, grey_of, is_colour, listed, without_grey
from convlora.errors import InputError

_BINARY_NAMES = ("background", "foreground")
_COLOURS_EXAMPLE = 'such as {"classes": ["background", "crack"], "colors": [[0, 0, 0], [255, 0, 0]]}'


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
    named = read_classes_json(classes_json)
    table = table_for(named, values)
    # A stated ignore value of 255 does not change this: masks in which all that is not background is ignored would
    # leave nothing to learn, so 255 can only be the foreground of a usual 0/255 mask.
    plain = without_grey(values)
    if len(named.names) == 2 and table.label_map is None and 255 in plain and plain <= {0, 255}:
        return ClassTable(named.names, named.ignore_index, ((0, 0), (255, 1)), named.colors)
    outside = table.values_outside(values)
    if outside and any(map(is_colour, plain)) and named.colors is None:
        raise InputError(
            f"The masks of {root} are in colour ({listed(plain)}), and {classes_json} does not say which colour is "
            f"which class. " + (lossy_advice(plain) or f"Add the colours to it, {_COLOURS_EXAMPLE}.")
        )
    if outside:
        raise InputError(table.outside_message(outside, f"{root}: at least one mask", values))
    return table


def table_for(named: NamedClasses, values: set[int]) -> ClassTable:
    """The classes of a classes.json for masks with certain values: by colour, by stated values, or by position.

    Stated colours mean the classes wherever a mask is stored in colour. In masks with one channel they do if all of
    them are grey and explain the values; otherwise they are just for drawing.
    """
    label = named.ignore_index
    plain = ClassTable(named.names, label, colors=named.colors)
    if named.values is not None or named.ignored != (label,):
        pairs = tuple((value, index) for index, value in enumerate(named.values or range(len(named.names))))
        if named.states_ignored:
            pairs += tuple((value, label) for value in named.ignored)
        plain = ClassTable(named.names, label, pairs, named.colors)
    if named.colors is None:
        return plain
    pairs = tuple((colour_value(colour), index) for index, colour in enumerate(named.colors))
    pairs += tuple((colour_value(colour), label) for colour in named.ignored_colors)
    coloured = ClassTable(named.names, named.ignore_index, pairs, named.colors)
    if any(map(is_colour, values)):
        # Indices saved with three channels are no colours of classes.
        indices = not plain.values_outside(values) and bool(coloured.values_outside(values))
        return plain if indices else coloured
    all_grey = all(grey_of(colour_value(colour)) is not None for colour in named.colors)
    return coloured if all_grey and not coloured.values_outside(values) else plain


def _resolve_unnamed(values: set[int], root: Path) -> ClassTable:
    values = without_grey(values)
    if values == {0, 1} or values == {0, 1, 255}:
        return ClassTable(_BINARY_NAMES)
    if len(values) == 2 and (0 in values or not any(map(is_colour, values))):
        low, high = sorted(values)
        return ClassTable(_BINARY_NAMES, label_map=((low, 0), (high, 1)))
    if len(values) < 2:
        found = f"only {listed(values)}" if values else "no values"
        raise InputError(
            f"The masks of {root} hold {found}, so there is nothing to tell apart. "
            "Check that the masks are the right files, or add a classes.json that names the classes."
        )
    if any(map(is_colour, values)):
        advice = f"Add {root / 'classes.json'} that names the classes and their colours, {_COLOURS_EXAMPLE}."
        raise InputError(f"The masks of {root} are in colour ({listed(values)}). " + (lossy_advice(values) or advice))
    raise InputError(
        f"The masks of {root} hold {listed(values)}, which is not a binary task. "
        + (lossy_advice(values) or f"Add {root / 'classes.json'} that names the classes. {EXAMPLE}")
    )
