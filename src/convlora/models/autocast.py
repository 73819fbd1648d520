"""The precision of arithmetic: mixed, or left alone."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch


def without_autocast(device: torch.device) -> AbstractContextManager[object]:
    """A context in which operations compute in the type of their arguments.

    Autocast knows no device `meta`, which is used to count operations and to check sizes.
    """
    return nullcontext() if device.type == "meta" else torch.autocast(device.type, enabled=False)


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """The context in which a model computes in `"fp32"`, `"bf16"` or `"fp16"`.

    Raises:
        KeyError: If it is none of them.
    """
    dtype = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}[precision]
    return torch.autocast(device.type, dtype=dtype or torch.bfloat16, enabled=dtype is not None)
