"""Options that several commands share."""

from __future__ import annotations

import enum
from pathlib import Path
from typing import Annotated

import typer

from convlora.errors import InputError
from convlora.settings.kinds import sides
from convlora.settings.model import SIDES


class PrecisionName(enum.StrEnum):
    """Names of precisions."""

    AUTO = "auto"
    FP32 = "fp32"
    BF16 = "bf16"
    FP16 = "fp16"


Run = Annotated[
    Path,
    typer.Argument(
        metavar="RUN",
        help="Run folder that 'convlora train' wrote, or hf:USER/NAME\\[@REVISION] on the Hugging Face Hub.",
        show_default=False,
    ),
]
RunFolder = Annotated[
    Path, typer.Argument(metavar="RUN", help="Run folder that 'convlora train' wrote.", show_default=False)
]
JSON_HELP = "Print one JSON object, and nothing else, to stdout."
Json = Annotated[bool, typer.Option("--json", help=JSON_HELP)]
Device = Annotated[
    str,
    typer.Option(metavar="NAME", help="Where to compute: cpu, cuda, cuda:1 or mps. auto takes a GPU if there is one."),
]
TestTimeFlips = Annotated[
    bool,
    typer.Option(
        "--tta", help="Average the probabilities of each image, or window, and its three flips; four times the time."
    ),
]
Batch = Annotated[
    int | None,
    typer.Option(
        "--batch-size",
        min=1,
        help="Images, or windows, at a time. [dim]\\[default: 8 on a GPU, fewer if memory is short; 1 on a CPU][/dim]",
        show_default=False,
    ),
]
Precision = Annotated[
    PrecisionName,
    typer.Option(
        help="Precision of the frozen part of the model. auto is bf16 or fp16 on a GPU; on a CPU it is bf16 if the CPU "
        "has it and the SAM is large, else fp32."
    ),
]
MovedModel = Annotated[
    str | None,
    typer.Option("--model", help="The SAM the run was trained from, if it is not where it was.", show_default=False),
]


def parse_image_size(text: str) -> int | list[int]:
    """Reads `512` or `320x480` (height x width).

    Raises:
        InputError: If it is neither.
    """
    size = sides(text)
    numbers = size if isinstance(size, list) else [size]
    if len(numbers) > 2 or not all(isinstance(number, int) and number >= 0 for number in numbers):
        raise InputError(f"--image-size must be {SIDES}, got '{text}'.")
    return numbers[0] if len(numbers) == 1 else numbers
