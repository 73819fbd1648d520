"""Matrix products of single-precision tensors on the bf16 units of a CPU."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from convlora.cores import cpu_has_bf16

_lock = threading.Lock()
_users = 0  # contexts that are open now, in all threads
_before = "none"


@contextmanager
def bf16_products(device: torch.device, wanted: bool) -> Iterator[None]:
    """A context in which a CPU rounds the factors of single-precision products to bf16 and adds up in single precision.

    It does nothing on other devices, on CPUs without bf16 instructions, or if it is not `wanted`. PyTorch keeps this
    mode for the whole process, so other threads compute in it too for as long as the context is open. The mode that was
    set before is restored when the last context closes.
    """
    global _users, _before
    mode = _mode() if wanted and device.type == "cpu" and cpu_has_bf16() else None
    if mode is None:
        yield
        return
    with _lock:
        if _users == 0:
            _before, mode.fp32_precision = mode.fp32_precision, "bf16"
        _users += 1
    try:
        yield
    finally:
        with _lock:
            _users -= 1
            if _users == 0:
                mode.fp32_precision = _before


def _mode() -> Any:
    """Where PyTorch keeps the precision of oneDNN's matrix products; None: this version has no such setting."""
    mode = getattr(torch.backends.mkldnn, "matmul", None)
    return mode if hasattr(mode, "fp32_precision") else None
