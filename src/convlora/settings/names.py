"""All settings by name, and what a name was meant to be that there is not."""

from __future__ import annotations

import difflib
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Annotated, Any, Literal, get_args, get_origin

from annotated_types import Interval

from convlora.errors import shown
from convlora.settings.data import DataSettings
from convlora.settings.declaration import About
from convlora.settings.kinds import Reads
from convlora.settings.method import METHOD_OPTIONS, MethodSettings
from convlora.settings.model import ModelSettings
from convlora.settings.training import TrainingSettings

SECTIONS: dict[str, type] = {
    "data": DataSettings,
    "model": ModelSettings,
    "method": MethodSettings,
    "training": TrainingSettings,
}

_BOUNDS = {"gt": "above", "ge": "at least", "lt": "below", "le": "at most"}


@dataclass(frozen=True)
class Setting:
    """One setting, as its section declares it.

    Attributes:
        section: Name of its section.
        name: Its name there.
        kind: Its type, with the range.
        about: What people read about it.
        default: Its value where nothing is said.
    """

    section: str
    name: str
    kind: Any
    about: About
    default: Any

    @property
    def key(self) -> str:
        """Its whole name, such as `training.lr`."""
        return f"{self.section}.{self.name}"

    @property
    def type(self) -> Any:
        """Its type without the range."""
        conversions = [one for one in self.kind.__metadata__ if isinstance(one, Reads)]
        return Annotated[self.kind.__origin__, *conversions] if conversions else self.kind.__origin__

    @property
    def label(self) -> str:
        """What messages call it: its option on the command line, if it has one."""
        return self.about.option.name if self.about.option is not None else self.key

    @property
    def bounds(self) -> str:
        """Its range in words, such as "at least 0 and below 1"; empty: none."""
        found = [one for one in self.kind.__metadata__ if isinstance(one, Interval)]
        limits = {name: getattr(one, name) for one in found for name in _BOUNDS}
        return " and ".join(f"{_BOUNDS[name]} {limit}" for name, limit in limits.items() if limit is not None)

    @property
    def default_in_words(self) -> str:
        """The default as people read it, in Markdown."""
        if self.about.default:
            return self.about.default
        value = str(self.default)
        return f"`{value.lower() if isinstance(self.default, bool) else value}`"

    @cached_property
    def choices(self) -> tuple[str, ...]:
        """The values it may have, if they are few."""
        kinds = [self.type, *get_args(self.type)]
        return next((get_args(kind) for kind in kinds if get_origin(kind) is Literal), ())


def _declared() -> dict[str, Setting]:
    found = []
    for section, kind in SECTIONS.items():
        empty = kind()
        for field in fields(kind):
            about = [one for one in getattr(field.type, "__metadata__", ()) if isinstance(one, About)]
            found += [Setting(section, field.name, field.type, one, getattr(empty, field.name)) for one in about]
    return {setting.key: setting for setting in found}


SETTINGS: dict[str, Setting] = _declared()
"""Every setting by its whole name, in the order in which files hold them."""


def find_section(name: str) -> str | None:
    """The section of a setting, or of an option of a method, that is called by its last name alone.

    Of several settings of this name, the one with an option on the command line is meant: `cache` is `training.cache`.
    """
    called = [setting for setting in SETTINGS.values() if setting.name == name]
    if len(called) > 1:
        called = [setting for setting in called if setting.about.option is not None]
    homes = [setting.section for setting in called]
    homes += ["method"] if name in METHOD_OPTIONS else []
    return homes[0] if len(homes) == 1 else None


def unknown_setting(key: str, origin: str) -> str:
    """A sentence about a setting that there is not.

    Args:
        key: What was written.
        origin: Where it was written.
    """
    known = [*SETTINGS, *(f"method.{option}" for option in METHOD_OPTIONS)]
    return f"There is no setting '{shown(key)}' ({origin}). {_hint(key, known)}"


def unknown_section(section: str, origin: str) -> str:
    """A sentence about a section of a file that there is not."""
    return f"There is no section '{shown(section)}' ({origin}). {_hint(section, list(SECTIONS))}"


def _hint(key: str, known: list[str]) -> str:
    last = {name.rpartition(".")[2]: name for name in known}
    close = difflib.get_close_matches(key, known, n=1) or [
        last[match] for match in difflib.get_close_matches(key.rpartition(".")[2], list(last), n=1)
    ]
    return f"Did you mean '{close[0]}'?" if close else "docs/settings.md lists all of them."
