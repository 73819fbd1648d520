"""Options that several commands share."""

from __future__ import annotations

import enum
from pathlib import Path
from typing import Annotated

import typer

from convlora.errors import InputError


class PrecisionName(enum.StrEnum):
    """Names of precisions."""

    AUTO = "auto"
    FP32 = "fp32"
    BF16 = "bf16"
    FP16 = "fp16"


class MemoryMode(enum.StrEnum):
    """How batch size and checkpointing are chosen."""

    GIVEN = "given"
    AUTO = "auto"


Run = Annotated[Path, typer.Argument(metavar="RUN", help="Run folder that 'convlora train' wrote.", show_default=False)]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object, and nothing else, to stdout.")]
Device = Annotated[
    str, typer.Option(metavar="NAME", help="Where to compute: cpu, cuda, cuda:1, mps; auto: on a GPU if there is one.")
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
        help="Of the frozen arithmetic; auto: bf16 or fp16 on a GPU; on a CPU bf16 if it has it and the SAM is large, "
        "else fp32."
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
    parts = text.lower().split("x")
    if len(parts) not in (1, 2) or not all(part.strip().isdigit() for part in parts):
        raise InputError(
            f"--image-size must be a number of pixels such as 512, or height x width such as 320x480, got '{text}'."
        )
    sides = [int(part) for part in parts]
    return sides[0] if len(sides) == 1 else sides
