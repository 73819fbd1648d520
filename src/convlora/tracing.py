"""Whether operations are being written down for another program, as `torch.export` and the ONNX exporters do."""

from __future__ import annotations

import torch


def is_traced() -> bool:
    """Whether this code runs under `torch.export`, `torch.jit.trace` or `torch.onnx.export`.

    Code that writes in place, has a backward pass of its own, or sorts stably takes a plain form of the same numbers
    then: exporters refuse these, or write a file that computes something else without a word. `torch.compile` knows
    them all.
    """
    # The flag behind `torch.compiler.is_exporting`: PyTorch 2.5 does not have the function, and later versions of
    # `torch.compile` took it for always true.
    return getattr(torch.compiler, "_is_exporting_flag", False) or torch.jit.is_tracing()
