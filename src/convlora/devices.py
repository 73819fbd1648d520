"""Where to compute and how precisely."""

from __future__ import annotations

import torch

from convlora.errors import InputError


def resolve_device(name: str) -> torch.device:
    """The device meant by `"auto"`, `"cpu"` or `"cuda"`.

    Raises:
        InputError: If a GPU is asked for and there is none.
    """
    if name == "cuda" and not torch.cuda.is_available():
        raise InputError(
            "--device cuda was asked for, but PyTorch finds no GPU. Use --device cpu, or install PyTorch for CUDA."
        )
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")


def resolve_precision(name: str, device: torch.device) -> str:
    """The precision meant by `"auto"`: the best half precision of a GPU, single precision on a CPU.

    Raises:
        InputError: If the device cannot compute so.
    """
    if name == "fp16" and device.type == "cpu":
        raise InputError("--precision fp16 needs a GPU. Use --precision fp32 or bf16 on a CPU.")
    if name != "auto":
        return name
    if device.type == "cpu":
        return "fp32"
    return "bf16" if torch.cuda.is_bf16_supported() else "fp16"
