"""Figures that are made but not laid out, which takes matplotlib as long as training the run takes that they show."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import pytest

from convlora.report.figures import Drawing

_LAY_OUT = Drawing._saved
_EMPTY = {"svg": b'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg"></svg>', "pdf": b"%PDF-1.4"}


@contextlib.contextmanager
def empty() -> Iterator[None]:
    """Within the block figures get all that is drawn into them, and their files nothing of it."""
    with _files_by(lambda drawing, kind, metadata: _EMPTY[kind]):
        yield


@contextlib.contextmanager
def drawn() -> Iterator[None]:
    """Within the block figures are what they are for users."""
    with _files_by(_LAY_OUT):
        yield


@contextlib.contextmanager
def _files_by(function: Any) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Drawing, "_saved", function)
        yield
