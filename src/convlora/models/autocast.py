"""Arithmetic that autocast leaves alone."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch


def without_autocast(device: torch.device) -> AbstractContextManager[object]:
    """A context in which operations compute in the type of their arguments.

    Autocast knows no device `meta`, which is used to count operations and to check sizes.
    """
    return nullcontext() if device.type == "meta" else torch.autocast(device.type, enabled=False)
