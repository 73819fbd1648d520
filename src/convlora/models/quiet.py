"""Loading models without what transformers says about it."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from transformers.utils import logging


class _Verbosity:
    """What transformers says, lowered as long as any thread wants it so."""

    def __init__(self) -> None:
        self._lock, self._wanted, self._before = threading.Lock(), 0, 0

    def lower(self) -> None:
        """Errors alone are told."""
        with self._lock:
            if self._wanted == 0:
                self._before = logging.get_verbosity()
                logging.set_verbosity_error()
            self._wanted += 1

    def restore(self) -> None:
        """Undoes one call of `lower`."""
        with self._lock:
            self._wanted -= 1
            if self._wanted == 0:
                logging.set_verbosity(self._before)


_VERBOSITY = _Verbosity()


@contextmanager
def quietly(source: str | os.PathLike[str]) -> Iterator[None]:
    """Hides the progress bar of loading a folder, which takes a moment; that of a download stays.

    The report on weights that are left out is hidden too: what is missing is refused, and what is too much has no use.
    """
    _VERBOSITY.lower()
    try:
        with _no_bar(source):
            yield
    finally:
        _VERBOSITY.restore()


@contextmanager
def _no_bar(source: str | os.PathLike[str]) -> Iterator[None]:
    if not (Path(source).is_dir() and logging.is_progress_bar_enabled()):
        yield
        return
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.enable_progress_bar()
