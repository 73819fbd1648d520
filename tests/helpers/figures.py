"""Figures that are made but not laid out, which takes matplotlib as long as training the run takes that they show."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from convlora.report.figures import Drawing

_LAY_OUT = Drawing._saved
_EMPTY = {"svg": b'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg"></svg>', "pdf": b"%PDF-1.4"}


def leave_empty() -> None:
    """From here on figures get all that is drawn into them, and their files nothing of it."""
    Drawing._saved = lambda drawing, kind, metadata: _EMPTY[kind]


@contextlib.contextmanager
def drawn() -> Iterator[None]:
    """Within the block figures are what they are for users."""
    before = Drawing._saved
    Drawing._saved = _LAY_OUT
    try:
        yield
    finally:
        Drawing._saved = before
