"""Types of our own in PEFT's maps."""

from __future__ import annotations

from typing import Any

from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING, PEFT_TYPE_TO_PREFIX_MAPPING, PEFT_TYPE_TO_TUNER_MAPPING


class PeftTypeName(str):
    """A PEFT type that is no member of PEFT's enum, but has the `value` and prints the way its members do."""

    __slots__ = ()

    def __str__(self) -> str:
        return f"PeftType.{self.value}"

    @property
    def value(self) -> str:
        """The name as a plain string."""
        return str.__str__(self)


def register_type(name: PeftTypeName, config: type[Any], tuner: type[Any]) -> None:
    """Makes PEFT know a method. Safe to repeat.

    Raises:
        KeyError: If another package registered the type first.
    """
    known = PEFT_TYPE_TO_CONFIG_MAPPING.get(name)
    if known not in (None, config):
        raise KeyError(f"PEFT already knows a method called {name.value}, from {known.__module__}.")
    # PEFT's register function takes only members of its own enum; its maps take any string.
    PEFT_TYPE_TO_CONFIG_MAPPING[name] = config
    PEFT_TYPE_TO_TUNER_MAPPING[name] = tuner
    PEFT_TYPE_TO_PREFIX_MAPPING[name] = tuner.prefix
