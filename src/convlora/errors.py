"""The two kinds of failure a user meets, told apart by their exit code, and how their messages quote."""

from __future__ import annotations

from collections.abc import Sequence

_MOST_SHOWN = 20


class InputError(ValueError):
    """Bad usage or bad input (exit code 2).

    The message is one or two plain sentences that name the file or option at fault and say what to do.
    """


class RunError(RuntimeError):
    """A run that was asked for correctly but failed (exit code 1)."""


def shown(text: object, longest: int = 200) -> str:
    """What a file holds, as a message can hold it: printable, and not too long to read."""
    printable = "".join(sign if sign.isprintable() else ascii(sign)[1:-1] for sign in str(text)[: longest + 1])
    return printable if len(printable) <= longest else f"{printable[:longest]}..."


def quoted(value: object) -> str:
    """A value that a file holds, as [`shown`], texts with quotes around them."""
    try:
        return shown(repr(value))
    except ValueError:  # Python does not write out numbers of thousands of digits
        return "a number of thousands of digits"


def shown_list(items: Sequence[object]) -> str:
    """The first of some things that a file holds, as [`shown`], and how many more there are."""
    more = len(items) - _MOST_SHOWN
    listed = ", ".join(shown(item, longest=60) for item in items[:_MOST_SHOWN])
    return listed + (f" and {more:,} more" if more > 0 else "")
