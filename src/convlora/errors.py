"""The two kinds of failure a user meets, told apart by their exit code, and how their messages quote."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

_MOST_SHOWN = 20
_DIRECTIONS = "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"  # of writing
_OUT_OF_MEMORY = (  # in lower case
    "out of memory",  # "CUDA error: out of memory", "MPS backend out of memory", "HIP out of memory"
    "can't allocate memory",  # of a CPU
    "cudamalloc failed",
    "cudaerrormemoryallocation",
    "cublas_status_alloc_failed",
    "cudnn_status_alloc_failed",
    "cusolver_status_alloc_failed",
    "cufft_alloc_failed",
)


class InputError(ValueError):
    """Bad usage or bad input (exit code 2).

    The message is one or two plain sentences that name the file or option at fault and say what to do.
    """


class RunError(RuntimeError):
    """A run that was asked for correctly but failed (exit code 1)."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out, of a CPU or of any accelerator.

    PyTorch raises `OutOfMemoryError` for what its own allocator asks for. Where CUDA, cuBLAS, cuDNN or Metal ask for
    memory themselves, and find what others have left, it is a `RuntimeError` with their text.
    """
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":  # without importing torch
        return True
    text = str(error).lower()
    return isinstance(error, RuntimeError) and any(sign in text for sign in _OUT_OF_MEMORY)


def printable(text: str) -> str:
    """Text with escapes in place of signs that move or colour something on a terminal, or cannot be written.

    Names of files and classes may hold any: an escape sequence can clear the screen, U+202E turns the rest of the line
    round, and what stands for bytes that are no UTF-8 cannot be printed. Line breaks stay.
    """
    if text.isprintable():
        return text
    return "".join(ascii(sign)[1:-1] if _is_control(sign) else sign for sign in text)


def _is_control(sign: str) -> bool:
    if sign in "\n\t":
        return False
    return unicodedata.category(sign) in ("Cc", "Cs", "Zl", "Zp") or sign in _DIRECTIONS


def cell(text: str) -> str:
    """Text as a cell of a CSV file; `'` stands before what a spreadsheet would take for a formula."""
    text = printable(text)
    return f"'{text}" if text.startswith(("=", "+", "-", "@", "\t", "\n")) else text


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
