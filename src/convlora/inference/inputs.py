"""What may be given as an image, made into something that is read like a file."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from PIL import Image

from convlora.data.reading.bands import BandImage, BandReading, Reading
from convlora.errors import InputError

TAKEN = (
    "a path, the bytes of an image file or a file open for reading them, a PIL image, an array (H, W) or (H, W, 3), or "
    "a tensor (3, H, W)"
)


class BinaryFile(Protocol):
    """A file that is open for reading bytes, such as `io.BytesIO`."""

    def read(self) -> bytes:
        """All of them."""


ImageLike = BandImage | Image.Image | np.ndarray | torch.Tensor | str | os.PathLike[str] | bytes | BinaryFile


def image_source(image: Any, reading: Reading = "type") -> Path | bytes | Image.Image | np.ndarray | BandImage:
    """Makes what [`ImageLike`] allows into what `convlora.data.reading.read` takes.

    Args:
        image: What was given.
        reading: How it will be read. An array is given as it is to a run on bands.

    Raises:
        InputError: If it is something else, or an array of another form.
    """
    if isinstance(image, (Image.Image, BandImage)):
        return image
    if isinstance(image, (str, os.PathLike)):
        return Path(image)
    if isinstance(reading, BandReading) and isinstance(image, (np.ndarray, torch.Tensor)):
        return image if isinstance(image, np.ndarray) else image.detach().cpu().numpy()
    if isinstance(image, (bytes, bytearray, memoryview)):
        return bytes(image)
    if isinstance(image, np.ndarray):
        return _from_array(image)
    if isinstance(image, torch.Tensor):
        return _from_tensor(image)
    if callable(getattr(image, "read", None)):
        if callable(getattr(image, "seek", None)):
            with contextlib.suppress(OSError):  # what comes through a pipe is at its beginning
                image.seek(0)  # as Pillow does: who has just written it is at its end
        content = image.read()
        if isinstance(content, bytes):
            return content
        raise InputError("The file given is open for reading text. Open it for reading bytes: open(path, 'rb').")
    several = " Give several images to predict_batch." if isinstance(image, (list, tuple)) else ""
    raise InputError(f"An image must be {TAKEN}, but this is of the type {type(image).__name__}.{several}")


def check_several(images: Any) -> None:
    """Refuses one image in place of several: the letters of a path would be taken for paths, rows for images.

    Raises:
        InputError: If it is one.
    """
    is_picture = isinstance(images, np.ndarray) and images.ndim == 3 and images.shape[2] in (3, 4)
    is_file = isinstance(images, (str, os.PathLike, bytes, bytearray, memoryview)) or hasattr(images, "read")
    if is_picture or is_file or isinstance(images, Image.Image):
        raise InputError("Several images are expected, and this is one. Give it to predict, or a list of it: [image].")


def _from_tensor(tensor: torch.Tensor) -> Image.Image:
    array = tensor.detach().cpu()
    if array.ndim == 3 and array.shape[0] in (1, 3, 4) and array.dtype == torch.uint8:
        return _from_array(array.permute(1, 2, 0).contiguous().numpy())
    if array.ndim == 2 and array.dtype in (torch.uint8, torch.bool):
        return _from_array(array.numpy())
    raise InputError(
        f"An image tensor must be (3, H, W) or (H, W) of uint8, but this is {tuple(tensor.shape)} of {tensor.dtype}. "
        "Convert it first."
    )


def _from_array(array: np.ndarray) -> Image.Image:
    if array.dtype == bool:
        array = array.astype(np.uint8) * 255
    fits = array.ndim == 2 or (array.ndim == 3 and array.shape[2] in (1, 3, 4))
    fits = fits and array.size > 0
    if not fits or array.dtype not in (np.uint8, np.uint16) or (array.ndim == 3 and array.dtype != np.uint8):
        raise InputError(
            f"An image array must be (H, W) of uint8 or uint16, or (H, W, 3) of uint8, but this is {array.shape} of "
            f"{array.dtype}. Convert it first."
        )
    return Image.fromarray(array.squeeze(-1) if array.ndim == 3 and array.shape[2] == 1 else array)
