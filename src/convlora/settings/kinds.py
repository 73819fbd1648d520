"""Types of settings that take more ways of writing a value than one, as files and command lines have them."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

if TYPE_CHECKING:
    from pydantic import GetCoreSchemaHandler
    from pydantic_core import CoreSchema


@dataclass(frozen=True)
class Reads:
    """Converts a value before pydantic checks its type, like its `BeforeValidator`, which takes long to import.

    Attributes:
        convert: Returns what it cannot convert as it is.
    """

    convert: Callable[[Any], Any]

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Called by pydantic."""
        from pydantic_core import core_schema

        return core_schema.no_info_before_validator_function(self.convert, handler(source))


def _whole(value: Any) -> Any:
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, str) and re.fullmatch(r"\s*[+-]?[0-9]{1,100}\s*", value):
        return int(value)
    return value


def _number(value: Any) -> Any:
    """YAML reads 1e-4, without a point, as text."""
    if isinstance(value, str | int) and not isinstance(value, bool):
        try:
            return float(value)
        except (ValueError, OverflowError):
            return value
    return value


def sides(value: Any) -> Any:
    """Reads `512` or `320x480` (height x width)."""
    if not isinstance(value, str):
        return value
    parts = [_whole(part) for part in value.lower().split("x")]
    return parts[0] if len(parts) == 1 else parts


def wholes(value: Any) -> Any:
    """Reads `4,3,2`, as a list without brackets, and one number that stands alone."""
    if isinstance(value, str):
        return value.split(",")
    return [value] if isinstance(value, int) and not isinstance(value, bool) else value


def _names(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


Whole = Annotated[int, Reads(_whole)]
"""A whole number."""

Number = Annotated[float, Reads(_number)]
"""A number."""

Names = Annotated[list[str], Reads(_names)]
"""A list of names; one name may stand alone."""
