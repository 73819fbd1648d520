"""Whether a model's answer fits into memory, asked before any of it is taken."""

from __future__ import annotations

from typing import Any

import psutil
import torch

from convlora.errors import InputError
from convlora.models.configuration import as_size
from convlora.models.task_settings import TaskSettings

_FLOAT = 4  # bytes
_WIDE = 6  # maps of the encoder's width at a time: a block's input, its norm, and the wide layer between its two


def least_memory(config: Any) -> int:
    """Bytes that the answer to one image takes at the least: pixels, one block, features of masks, and masks."""
    (height, width), (rows, columns) = as_size(config.image_size), config.grid_size
    cells, fine = rows * columns, 16 * rows * columns
    channels = getattr(config, "mask_channels", config.mask_decoder_config.hidden_size // 8)
    masks = 1 if config.head_in_use == "binary" else config.mask_tokens_in_use + config.num_classes
    values = 2 * 3 * height * width + _WIDE * cells * config.encoder_width
    return _FLOAT * (values + 2 * fine * channels + fine * masks)


def check_room(config: object, device: torch.device) -> None:
    """Refuses a model whose answers cannot fit: a system does not refuse memory, but ends the process that uses it.

    Args:
        config: Config of the model; that of a U-Net is not checked.
        device: Where it will compute. An accelerator tells by itself that it has no memory left.

    Raises:
        InputError: If even the least that one image takes is not free.
    """
    if device.type != "cpu" or not isinstance(config, TaskSettings):
        return
    needed, free = least_memory(config), psutil.virtual_memory().available
    if needed > free:
        height, width = as_size(config.image_size)
        raise InputError(
            f"One image of {height} x {width} pixels and {config.num_classes} classes takes at least "
            f"{needed / 1e9:.1f} GB, and {free / 1e9:.1f} GB are free. Give a smaller --image-size, or free memory."
        )
