"""What pydantic finds wrong with settings, in our own sentences."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import TYPE_CHECKING, Any

from convlora.errors import quoted
from convlora.settings.names import SETTINGS, Setting

if TYPE_CHECKING:
    from pydantic import TypeAdapter, ValidationError
    from pydantic_core import ErrorDetails

COMMAND_LINE = "the command line"
"""The origin of settings that were given as options."""

_KINDS = {
    "int_type": ("a whole number", "whole numbers"),
    "float_type": ("a number", "numbers"),
    "finite_number": ("a finite number", "finite numbers"),
    "bool_type": ("true or false", "true or false"),
    "string_type": ("text", "texts"),
    "list_type": ("a list", "lists"),
}
_OF_NUMBERS = ("finite_number", "greater_than", "greater_than_equal", "less_than", "less_than_equal")


class ProblemError(ValueError):
    """A value that a setting cannot have; the message is a sentence."""


def read_value(setting: Setting, value: Any, origin: str) -> Any:
    """Converts a value of a file or a command line to the type of a setting. Its range is not checked.

    Args:
        setting: The setting.
        value: What was written.
        origin: Where, for the message.

    Raises:
        ProblemError: If it is of another type.
    """
    from pydantic import ValidationError

    try:
        return _adapter(setting.key, with_range=False).validate_python(value)
    except ValidationError as error:
        wanted = _wanted(setting, error)
        if origin == COMMAND_LINE:
            raise ProblemError(f"{setting.label} must be {wanted}, got {quoted(value)}.") from None
        null = "" if setting.default is not None else " or null"
        raise ProblemError(f"{setting.key} must be {wanted}{null}, but {origin} gives {quoted(value)}.") from None


def problems_of(sections: Any) -> Iterator[str]:
    """What is wrong with types and ranges: a sentence for each setting.

    Args:
        sections: Has the sections of the settings as attributes.
    """
    from pydantic import ValidationError

    for setting in SETTINGS.values():
        value = getattr(getattr(sections, setting.section), setting.name)
        try:
            _adapter(setting.key, with_range=True).validate_python(value)
        except ValidationError as error:
            yield f"{setting.label} must be {_wanted(setting, error)}, got {quoted(value)}."


@cache
def _adapter(key: str, with_range: bool) -> TypeAdapter[Any]:
    from pydantic import ConfigDict, TypeAdapter

    setting = SETTINGS[key]
    config = ConfigDict(strict=True, allow_inf_nan=not with_range)
    return TypeAdapter(setting.kind if with_range else setting.type, config=config)


def _wanted(setting: Setting, error: ValidationError) -> str:
    """What a value must be, as the end of a sentence."""
    if setting.about.must_be:
        return setting.about.must_be
    errors = error.errors(include_url=False, include_context=False, include_input=False)
    kinds = dict.fromkeys(filter(None, (_kind(setting, one) for one in errors)))
    is_number = all(one["type"] in _OF_NUMBERS for one in errors)
    return " ".join(filter(None, [" or ".join(kinds), setting.bounds if is_number else ""]))


def _kind(setting: Setting, error: ErrorDetails) -> str:
    if error["type"] == "literal_error":
        names = ", ".join(f"'{choice}'" for choice in setting.choices)
        return f"one of {names}" if len(setting.choices) > 1 else names
    one, many = _KINDS.get(error["type"], ("", ""))
    return f"a list of {many}" if any(isinstance(part, int) for part in error["loc"]) else one
