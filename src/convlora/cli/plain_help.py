"""Commands whose `--help` shows no value for options that take none.

Typer writes `--overlay <bool>`, which reads as if `--overlay true` had to be given.
"""

from __future__ import annotations

from typing import Any

from typer.core import TyperCommand, TyperGroup


class PlainCommand(TyperCommand):
    """A command with plain switches."""

    def get_params(self, ctx: Any) -> list[Any]:
        """The options and arguments, that for `--help` among them."""
        return _plain(super().get_params(ctx))


class PlainGroup(TyperGroup):
    """A group of commands with plain switches of its own."""

    def get_params(self, ctx: Any) -> list[Any]:
        """The options and arguments, that for `--help` among them."""
        return _plain(super().get_params(ctx))


def _plain(parameters: list[Any]) -> list[Any]:
    for parameter in parameters:
        if getattr(parameter, "is_flag", False) and parameter.metavar is None:
            parameter.metavar = ""
    return parameters
