"""What a user reads when something goes wrong, and the exit code that goes with it."""

from __future__ import annotations

import errno
import re
import sys
import traceback

import typer

from convlora.cli.console import show_error
from convlora.errors import InputError, RunError, is_out_of_memory, printable
from convlora.ordinary import NotOrdinaryError

FAILURE, BAD_INPUT = 1, 2

_OUT_OF_MEMORY = (
    "Out of memory{where}. Let --memory auto find what fits, or ask for less, most helpful first: --image-size (half "
    "the side, a quarter of the memory or less), --batch-size 1 with a larger --grad-accum, "
    "--set training.activation_checkpointing=true, --adapt-last (half of the blocks), --precision bf16, or a smaller "
    "SAM (facebook/sam-vit-base)."
)

_OUT_OF_MEMORY_IN_PREDICTION = (
    "Out of memory{where}. Ask for less, most helpful first: --batch-size 1, a smaller --tile-size where windows are "
    "used, --precision bf16, --device cpu."
)

_OUT_OF_MEMORY_IN_EXPORT = (
    "Out of memory{where}. Nothing was written. End other programs, or export the run on a machine with more memory."
)

_OUT_OF_MEMORY_ADVICE = {
    **dict.fromkeys(("predict", "evaluate", "inspect", "serve"), _OUT_OF_MEMORY_IN_PREDICTION),
    "export": _OUT_OF_MEMORY_IN_EXPORT,
}


def exit_code_for(error: BaseException, debug: bool, command: str = "") -> int:
    """Tells the user of an error and returns the exit code.

    Args:
        error: What was raised.
        debug: Show the traceback as well.
        command: What was asked for, on which the advice depends.
    """
    if isinstance(error, SystemExit):
        return error.code if isinstance(error.code, int) else FAILURE
    if isinstance(error, typer.Exit):
        return error.exit_code
    if debug:
        sys.stderr.write(printable("".join(traceback.format_exception(error))))
    if hasattr(error, "format_message"):  # an error of Typer's, whose classes come from click or from a copy of click
        message = error.format_message().rstrip(".")
        if message:  # there is none where the help was shown instead
            show_error(f"{message}{'' if message.endswith('?') else '.'} {_help_hint(error, command)}")
        return BAD_INPUT
    if isinstance(error, (KeyboardInterrupt, typer.Abort)):
        show_error("Interrupted.")
        return FAILURE
    if isinstance(error, InputError):
        show_error(_from_worker(str(error)))
        return BAD_INPUT
    if isinstance(error, RunError):
        show_error(str(error))
        return FAILURE
    if is_out_of_memory(error):
        on_gpu = any(name in str(error) for name in ("CUDA", "cuda", "CUBLAS", "CUDNN", "MPS", "HIP"))
        where = " on the GPU" if on_gpu or "cuda" in type(error).__module__ else ""
        advice = _OUT_OF_MEMORY_ADVICE.get(command, _OUT_OF_MEMORY)
        show_error(advice.format(where=where))
        return FAILURE
    if _is_full_disk(error):
        place = f"{error.filename}: " if isinstance(error, OSError) and error.filename is not None else ""
        show_error(
            f"{place}No space left on device, or your share of it is used up. What was finished before is still good: "
            "make room and give the same command again (a training run with --resume)."
        )
        return FAILURE
    if isinstance(error, NotOrdinaryError):
        show_error(f"{error.filename} is a pipe, a socket or a device, and no file. Remove it, or give another path.")
        return BAD_INPUT
    if isinstance(error, OSError) and error.filename is not None:
        show_error(
            f"{error.filename}: {error.strerror}. Check the path, its permissions and the space left on the disk."
        )
        return FAILURE
    if _is_lost_process(error):
        show_error(
            "Another process of this run has ended, so that this one cannot go on. See what it said; when that is "
            "mended, go on with the same command and --resume."
        )
        return FAILURE
    if _is_lost_reader(error):
        show_error(
            "A process that reads images did not answer or was ended, perhaps because memory ran out or a disk does "
            "not answer. Look at both, or give --set data.workers=0; resume a training run with --resume."
        )
        return FAILURE
    text = str(error).strip().splitlines()
    detail = f"{type(error).__name__}: {text[0]}" if text else type(error).__name__
    show_error(f"Unexpected failure ({detail}). Run it again with --debug to see where, and please report it.")
    return FAILURE


def _help_hint(error: BaseException, command: str) -> str:
    context = getattr(error, "ctx", None)  # there is none where the value of an option is missing
    return f"See: {f'convlora {command}'.strip() if context is None else context.command_path} --help"


def _from_worker(message: str) -> str:
    # PyTorch puts the traceback of a data-reading process into the message.
    marker = "InputError: "
    return message.rpartition(marker)[2].strip() if "Original Traceback" in message else message


def _is_full_disk(error: BaseException) -> bool:
    while error is not None:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            return True
        # safetensors tells the number of the system's error in its text only.
        if type(error).__name__ == "SafetensorError" and re.search(r"os error (28|122|27)\b", str(error)):
            return True
        error = error.__cause__  # type: ignore[assignment]
    return False


def _is_lost_reader(error: BaseException) -> bool:
    text = str(error)
    return isinstance(error, RuntimeError) and ("DataLoader worker" in text or "DataLoader timed out" in text)


def _is_lost_process(error: BaseException) -> bool:
    text = str(error)
    signs = ("Connection closed by peer", "Connection reset by peer", "Broken pipe", "remote process exited")
    talks = "gloo" in text or "NCCL" in text or type(error).__name__.startswith("Dist")
    return isinstance(error, RuntimeError) and talks and any(sign in text for sign in signs)
