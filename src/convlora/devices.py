"""Where to compute and how precisely."""

from __future__ import annotations

import os

import torch

from convlora.cores import cpu_has_bf16, peak_resident_bytes, usable_cores
from convlora.errors import InputError

WIDE = 384  # channels of an encoder from which on a CPU's bf16 instructions pay
PRECISIONS = ("auto", "fp32", "bf16", "fp16")

_MOST_READERS = 8  # more read no faster than one GPU computes, and each takes memory
_BATCH_ON_GPU = 8  # images at a time where nothing is trained


def resolve_device(name: str | torch.device) -> torch.device:
    """The device meant by a name.

    Args:
        name: `"auto"` (a CUDA GPU if there is one, else the CPU), or a device as PyTorch calls it: `"cpu"`, `"cuda"`,
            `"cuda:1"`, `"mps"`; or PyTorch's own object. Of several processes on one machine (`torchrun`), each is
            given a GPU of its own by `"auto"` and `"cuda"`.

    Raises:
        InputError: If there is no device of that name.
    """
    if name == "auto":
        return _own_gpu() if torch.cuda.is_available() else torch.device("cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise InputError(
            f"--device '{name}' is no device. Give auto, cpu, cuda, cuda:N for one of several GPUs, or mps."
        ) from error
    if device.type == "cpu":
        return torch.device("cpu")
    if not _is_there(device.type):
        what = {"cuda": "GPU", "mps": "GPU of Apple"}.get(device.type, f"device of the type '{device.type}'")
        remedy = ", or install PyTorch for CUDA" if device.type == "cuda" else ""
        raise InputError(
            f"--device {name} was asked for, but PyTorch finds no {what}. Use --device auto or cpu{remedy}."
        )
    count = _count(device.type)
    if device.index is not None and device.index >= count:
        raise InputError(
            f"--device {name} was asked for, but there are {count}, numbered from 0. Use --device {device.type}:0."
        )
    if device.index is not None and _local_processes() > 1:
        raise InputError(
            f"--device {name} would give one device to all of {_local_processes()} processes. Use --device "
            f"{device.type}: each process takes its own."
        )
    return _own_gpu() if device.type == "cuda" and device.index is None else device


def use_device(device: torch.device) -> None:
    """Makes accelerate compute on a device that was chosen by name; it would take the first GPU.

    Of several processes each is given its own device by accelerate, which is the one of [`resolve_device`].
    """
    os.environ.pop("ACCELERATE_TORCH_DEVICE", None)  # of an earlier run in this process
    if device.type != "cpu" and _local_processes() == 1:
        os.environ["ACCELERATE_TORCH_DEVICE"] = str(device)
    if device.type == "cuda":
        torch.cuda.set_device(device)


def resolve_precision(name: str, device: torch.device, width: int | None = None) -> str:
    """The precision that `"auto"` stands for.

    On a CUDA GPU it is the best half precision. A CPU with bf16 instructions computes encoders of the size of SAM's
    published ones in bf16, in about half the time. `tiny` gains a tenth, which is not worth the rounding. Everything
    else is computed in single precision.

    Args:
        name: What was asked for.
        device: Where it is computed.
        width: Channels of the vision encoder; None: unknown, or there is none.

    Raises:
        InputError: If there is no precision of that name, or the device cannot compute so.
    """
    if name not in PRECISIONS:
        raise InputError(f"--precision '{name}' is no precision. Give one of {', '.join(PRECISIONS)}.")
    if name == "fp16" and device.type == "cpu":
        raise InputError("--precision fp16 needs a GPU. Use --precision fp32 or bf16 on a CPU.")
    if name != "auto":
        return name
    if device.type == "cpu" and width is not None and width >= WIDE and cpu_has_bf16():
        return "bf16"
    if device.type != "cuda":
        return "fp32"
    with torch.cuda.device(device):  # it is the current one that is asked
        # Cards before Ampere (T4, V100) emulate bf16, far slower than they compute in fp16.
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"


def set_matmul_precision(device: torch.device, precision: str) -> None:
    """Decides on the matrix products that stay in single precision on a CUDA GPU: adapters, experts, the loss.

    Where the frozen arithmetic is in half precision they are computed in TF32, whose mantissa of 10 bits is still finer
    than that of bf16 (7) and as fine as that of fp16. With `"fp32"` they keep all 23 bits. Convolutions are left to
    cuDNN, for which PyTorch allows TF32 by default. Numbers on a CPU do not depend on it.
    """
    if device.type == "cuda":
        torch.backends.cuda.matmul.allow_tf32 = precision != "fp32"


def default_workers(device: torch.device, images: int) -> int:
    """Processes or threads that read images beside a computing process.

    Args:
        device: Where it computes. Beside a CPU none read, because they would compete with it.
        images: How many are read.

    Returns:
        On other devices one for each core that this process may use but one, at most 8 and at most one per image. The
        processes of one machine (`torchrun`) share its cores.
    """
    if device.type == "cpu":
        return 0
    cores = usable_cores() // _local_processes()
    return max(0, min(_MOST_READERS, cores - 1, images))


def background_threads(device: torch.device, images: int) -> int:
    """Threads that write or score results beside the computing thread; on other devices than a CPU as many read.

    Args:
        device: Where it computes.
        images: How many there are.

    Returns:
        Of a CPU with several cores one: a network leaves its cores idle now and then, and decoding and compressing take
        as long as a small network. On other devices as [`default_workers`].
    """
    if device.type == "cpu":
        return int(images > 1 and usable_cores() // _local_processes() > 1)
    return default_workers(device, images)


def default_batch(device: torch.device) -> int:
    """Images at a time for scoring and prediction: 8 on a GPU, 1 on a CPU, which gains nothing from more."""
    return 1 if device.type == "cpu" else _BATCH_ON_GPU


def free_cached_memory() -> None:
    """Gives memory that PyTorch keeps for later back to the accelerator."""
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    elif torch.backends.mps.is_available():
        torch.mps.empty_cache()


def to_device(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    """Sends a tensor to a device; a CUDA GPU takes it from pinned memory, while it and the CPU go on."""
    if device.type == "cuda" and tensor.device.type == "cpu":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)


def _own_gpu() -> torch.device:
    """The CUDA GPU of this process: the current one, or by its number among the processes of this machine."""
    rank = os.environ.get("LOCAL_RANK", "")
    if rank.isdigit():
        return torch.device("cuda", int(rank) % torch.cuda.device_count())
    return torch.device("cuda", torch.cuda.current_device())


def _local_processes() -> int:
    number = os.environ.get("LOCAL_WORLD_SIZE", "")
    return max(1, int(number)) if number.isdigit() else 1


def _is_there(kind: str) -> bool:
    if kind == "cuda":
        return torch.cuda.is_available()
    accelerator = getattr(torch, "accelerator", None)  # since PyTorch 2.6
    if accelerator is not None:
        return accelerator.is_available() and accelerator.current_accelerator().type == kind
    return kind == "mps" and torch.backends.mps.is_available()


def _count(kind: str) -> int:
    if kind == "cuda":
        return torch.cuda.device_count()
    accelerator = getattr(torch, "accelerator", None)
    return 1 if accelerator is None else accelerator.device_count()


def peak_memory_mb(device: torch.device) -> float:
    """Most memory used so far in MB: allocated on a GPU, resident of the process on a CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    return peak_resident_bytes() / 2**20


def device_name(device: torch.device) -> str:
    """What a device is called: the card's own name, or `"cpu"`."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
