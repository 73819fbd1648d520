"""Where text goes: results to stdout, everything else to stderr."""

from __future__ import annotations

import gc
import json
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.text import Text

from convlora.errors import printable
from convlora.storage import finite

_PLAIN_WIDTH = 120  # of tables in files and pipes, which have no width of their own

_width = None if sys.stdout.isatty() or "COLUMNS" in os.environ else _PLAIN_WIDTH


class _PlainConsole(Console):
    """Prints names whatever they hold."""

    def render_str(self, text: str, **kwargs: Any) -> Text:
        """Makes a text of what is printed or stands in a table."""
        return super().render_str(printable(text), **kwargs)


out = _PlainConsole(highlight=False, emoji=False, width=_width)  # a name may hold :smile:
err = _PlainConsole(highlight=False, emoji=False, stderr=True)


def show_error(message: str) -> None:
    """Prints an error, with nothing in it taken for markup and no line broken inside a path."""
    err.print("Error:", style="bold red", end=" ")
    err.print(message, markup=False, soft_wrap=True)


def print_json(value: Any) -> None:
    """Prints one JSON object on one line of stdout."""
    sys.stdout.write(json.dumps(finite(value), allow_nan=False) + "\n")
    sys.stdout.flush()


@contextmanager
def loading_libraries() -> Iterator[None]:
    """Loads PyTorch, transformers and what else is imported in the block, quickly and silently.

    Millions of objects are made and none goes, so Python's collector of garbage is kept from looking for some, which
    takes a fifth of the time. Afterwards it leaves alone what was loaded, which stays to the end of the process.

    Progress bars and advice of the libraries are silenced, which would interrupt our own.
    """
    is_first, was_enabled = "transformers.modeling_utils" not in sys.modules, gc.isenabled()
    gc.disable()
    try:
        os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
        from huggingface_hub.utils import logging as hub_logging
        from transformers.utils import logging

        hub_logging.set_verbosity_error()
        logging.set_verbosity_error()
        logging.disable_progress_bar()
        warnings.filterwarnings("ignore", category=FutureWarning)
        warnings.filterwarnings("ignore", category=UserWarning, module=r"(peft|transformers|torch|accelerate|kornia)\.")
        yield
    finally:
        if is_first:  # later there may be garbage, which would stay as well
            gc.freeze()
        if was_enabled:
            gc.enable()
