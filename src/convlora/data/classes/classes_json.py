"""Reading classes.json."""

from __future__ import annotations

import difflib
import itertools
import json
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from convlora.data.reading.colours import Colour
from convlora.errors import InputError, quoted, shown
from convlora.untrusted import UnreadableError, read_text, unique_keys

_DEFAULT_IGNORE_INDEX = 255
_LARGEST_VALUE = 65535  # masks are 8 or 16 bits deep
_MOST_VALUES_SHOWN = 10
_COLOUR_KEYS = ("colors", "colours", "palette")
_KEYS = ("classes", "ignore_index", "ignore_color", "ignore_colour", "values", "label_map", *_COLOUR_KEYS)
EXAMPLE = 'It should look like {"classes": ["background", "crack"], "ignore_index": 255}.'


class NamedClasses(NamedTuple):
    """What a classes.json says.

    Attributes:
        names: One name per class.
        ignored: Values in the masks of pixels that do not count; 255 if the file is silent.
        states_ignored: Whether it is not silent.
        colors: RGB colour of each class, if given.
        ignored_colors: RGB colours of pixels that do not count, if given.
        values: Value of each class in the masks, if given; else its position.
    """

    names: tuple[str, ...]
    ignored: tuple[int, ...] = (_DEFAULT_IGNORE_INDEX,)
    states_ignored: bool = False
    colors: tuple[Colour, ...] | None = None
    ignored_colors: tuple[Colour, ...] = ()
    values: tuple[int, ...] | None = None

    @property
    def ignore_index(self) -> int:
        """Label of pixels that do not count: the value that they have in the masks if that is no label of a class."""
        if len(self.ignored) == 1 and self.ignored[0] >= len(self.names):
            return self.ignored[0]
        return _DEFAULT_IGNORE_INDEX if len(self.names) <= _DEFAULT_IGNORE_INDEX else _LARGEST_VALUE


def read_classes_json(path: Path | str) -> NamedClasses:
    """Reads a file such as `{"classes": ["background", "crack"], "ignore_index": 255}`.

    Optional are `"colors"`, one `[R, G, B]` or `"#rrggbb"` per class, and `"values"`, the number of each class in the
    masks where these are not numbered from 0. `"ignore_index"` and `"ignore_color"` may also be lists.

    Args:
        path: The file.

    Raises:
        InputError: The file is missing, is not JSON, or does not describe at least two different classes.
    """
    try:
        fields = json.loads(read_text(Path(path)), object_pairs_hook=unique_keys)
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror or error}).") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8 text. Save it in UTF-8.") from error
    except UnreadableError as error:
        raise InputError(f"{path} is not read: {error}. {EXAMPLE}") from error
    except json.JSONDecodeError as error:
        raise InputError(
            f"{path} is not valid JSON: it goes wrong in line {error.lineno}, column {error.colno}. {EXAMPLE}"
        ) from error
    except (ValueError, RecursionError) as error:  # numbers of thousands of digits, brackets without end
        raise InputError(f"{path} is not valid JSON. {EXAMPLE}") from error
    named = parse_classes(fields, str(path))
    if fields.get("label_map") is not None:
        raise InputError(
            f'{path} has a "label_map", which is for runs. State the value of each class as "values", and those that '
            'do not count as "ignore_index".'
        )
    return named


def parse_classes(fields: Any, where: str) -> NamedClasses:
    """Checks what was read from JSON.

    Args:
        fields: The content.
        where: The file, for messages.

    Raises:
        InputError: See [`read_classes_json`].
    """
    names = fields.get("classes") if isinstance(fields, dict) else None
    if not isinstance(names, list) or not all(isinstance(name, str) and name.strip() for name in names):
        raise InputError(f'{where} has no list of names called "classes". {EXAMPLE}')
    unreadable = next((name for name in names if not is_readable(name)), None)
    if unreadable is not None:
        raise InputError(f"{where} has the class {quoted(unreadable)}, which holds control characters. Rename it.")
    if len(names) < 2:
        raise InputError(f"{where} names {len(names) or 'no'} class; name at least two, background included.")
    if len(names) > _LARGEST_VALUE:
        raise InputError(
            f"{where} names {len(names):,} classes, but there can be {_LARGEST_VALUE:,} at most. Use fewer."
        )
    repeated = _repeated(names)
    if repeated:
        raise InputError(f"{where} names the class {quoted(repeated[0])} more than once. Give each class its own name.")
    _check_keys(fields, where)
    values = _values(fields.get("values"), len(names), where)
    stated = fields.get("ignore_index") is not None
    ignored = _ignored(fields["ignore_index"], values, names, where) if stated else (_DEFAULT_IGNORE_INDEX,)
    if not stated and values is None and len(names) > _DEFAULT_IGNORE_INDEX:
        raise InputError(
            f"{where} has {len(names)} classes, so the ignore value {_DEFAULT_IGNORE_INDEX} is also a class. "
            f'State an "ignore_index" of {len(names)} or more.'
        )
    colors = _colours(fields, len(names), where)
    ignored_colors = _ignored_colours(fields.get("ignore_color", fields.get("ignore_colour")), colors, where)
    return NamedClasses(tuple(names), ignored, stated, colors, ignored_colors, values)


def _ignored(given: Any, values: Sequence[int] | None, names: list[str], where: str) -> tuple[int, ...]:
    """The values that do not count; they are compared with the values of the classes, not with their positions."""
    ignored = given if isinstance(given, list) else [given]
    if not ignored or not all(map(_is_value, ignored)):
        raise InputError(
            f'{where} has "ignore_index": {quoted(given)}; it must be a whole number from 0 to 65535, or a list of '
            "them."
        )
    both = sorted(set(ignored) & set(range(len(names)) if values is None else values))
    if not both:
        return tuple(dict.fromkeys(ignored))
    if values is not None:
        raise InputError(
            f'{where} gives the value {both[0]} to a class in "values" and ignores it in "ignore_index". Leave it out '
            "of one of them."
        )
    raise InputError(
        f"{where} ignores the value {both[0]}, which is also that of the class {quoted(names[both[0]])}. State a value "
        f'for each class that is none of the ignored ones, such as "values": {_next_values(ignored, len(names))}.'
    )


def _next_values(ignored: Sequence[int], count: int) -> str:
    """The first numbers that are not ignored, as JSON."""
    free = (value for value in itertools.count() if value not in ignored)
    shown = list(itertools.islice(free, min(count, _MOST_VALUES_SHOWN)))
    return "[" + ", ".join(map(str, shown)) + (", ..." if count > len(shown) else "") + "]"


def _ignored_colours(given: Any, colors: tuple[Colour, ...] | None, where: str) -> tuple[Colour, ...]:
    if given is None:
        return ()
    several = isinstance(given, list) and all(isinstance(one, (list, str)) for one in given)
    ignored = tuple(_colour(one, where) for one in (given if several else [given]))
    if set(ignored) & set(colors or ()):
        raise InputError(f'{where} has "ignore_color": {quoted(given)}, which is also the colour of a class.')
    return ignored


def is_readable(name: str) -> bool:
    """Whether a name can be printed on one line, and moves nothing on a terminal."""
    return not any(unicodedata.category(sign) in ("Cc", "Cs", "Zl", "Zp") for sign in name)


def _repeated(items: Iterable[Any]) -> list[Any]:
    return sorted(item for item, count in Counter(items).items() if count > 1)


def _check_keys(fields: dict[str, Any], where: str) -> None:
    """Refuses keys that are nearly one of ours: an ignore value that is itself ignored would go unnoticed."""
    for key in fields.keys() - set(_KEYS):
        close = difflib.get_close_matches(key, _KEYS, n=1, cutoff=0.65)
        if close:
            raise InputError(
                f'{where} has the key "{shown(key)}", which means nothing here. Did you mean "{close[0]}"?'
            )


def _is_value(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _LARGEST_VALUE


def _colours(fields: dict[str, Any], count: int, where: str) -> tuple[Colour, ...] | None:
    key = next((key for key in _COLOUR_KEYS if fields.get(key) is not None), None)
    if key is None:
        return None
    given = fields[key]
    if isinstance(given, dict) and set(given) == set(fields["classes"]):
        given = [given[name] for name in fields["classes"]]
    if not isinstance(given, list) or len(given) != count:
        raise InputError(f'{where} has "{key}" that are not a list of {count} colours, one per class.')
    colours = tuple(_colour(one, where) for one in given)
    repeated = _repeated(colours)
    if repeated:
        raise InputError(f"{where} gives the colour {list(repeated[0])} to more than one class. Give each its own.")
    return colours


def _colour(given: Any, where: str) -> Colour:
    if isinstance(given, str) and len(given) == 7 and given[0] == "#":
        try:
            red, green, blue = bytes.fromhex(given[1:])
        except ValueError:
            pass
        else:
            return red, green, blue
    if isinstance(given, list) and len(given) == 3 and all(_is_value(part) and part <= 255 for part in given):
        return given[0], given[1], given[2]
    raise InputError(f'{where} has the colour {quoted(given)}; write [R, G, B] of 0 to 255, or "#rrggbb".')


def _values(given: Any, count: int, where: str) -> tuple[int, ...] | None:
    if given is None:
        return None
    if not isinstance(given, list) or not all(map(_is_value, given)) or len(set(given)) != count or len(given) != count:
        raise InputError(f'{where} has "values" that are not {count} different whole numbers, one per class.')
    return tuple(given)
