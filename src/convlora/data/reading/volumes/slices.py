"""Slices of volumes as images and masks."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from PIL import Image

from convlora.data.reading.intensities import Intensity, Range, Scale, find_range, scale_by_range, scale_by_type
from convlora.data.reading.volumes.kept import Stored
from convlora.data.reading.volumes.slicing import Slicing
from convlora.data.reading.volumes.volume import Volume
from convlora.errors import InputError
from convlora.ordinary import open_ordinary

_ranges: dict[tuple[Stored, object], Range] = {}


@dataclass(frozen=True)
class VolumeSlice:
    """A slice of a volume.

    Attributes:
        stored: The volume.
        index: Index of the slice, from 0.
        shape: (slices, height, width) of the volume.
        slicing: How it is read.
        volume: What outputs made from the volume are called.
        bands: Numbers of each pixel that are no colours; None: one number, or a colour.
    """

    stored: Stored
    index: int
    shape: tuple[int, int, int]
    slicing: Slicing
    volume: str
    bands: int | None = None

    def __str__(self) -> str:
        return f"slice {self.index + 1} of {self.stored.path}"

    @property
    def size(self) -> tuple[int, int]:
        """(height, width)."""
        return self.shape[1], self.shape[2]

    def load(self) -> Image.Image:
        """The stored values, as a mask has them, or an image before its values become intensities.

        Raises:
            InputError: The volume cannot be read, or has several numbers a voxel.
        """
        self._refuse_bands()
        return _picture(self.values())

    def values(self) -> np.ndarray:
        """`(H, W)`, `(H, W, 3)` in colour, or `(H, W, bands)`.

        Raises:
            InputError: The volume cannot be read, or is another one by now.
        """
        return self._slice(self._opened(), self.index)

    def rgb(self, intensity: Intensity) -> Image.Image:
        """The slice as 8-bit RGB, its values scaled as those of the whole volume.

        Args:
            intensity: See `convlora.data.reading.images.read_image`; `"image"` stretches the range of the volume.

        Raises:
            InputError: The volume cannot be read, has several numbers a voxel, or its values have no known range.
        """
        self._refuse_bands()
        volume, slicing = self._opened(), self.slicing
        if not slicing.neighbours:
            found = self._slice(volume, self.index)
            eight = found if found.dtype == np.uint8 and self._is_plain(intensity) else None
            eight = _scaled(found, self._scale(volume, intensity)) if eight is None else eight
            return Image.fromarray(eight).convert("RGB")
        around = [min(max(self.index + step, 0), self.shape[0] - 1) for step in (-1, 0, 1)]
        channels = [self._slice(volume, index) for index in around]
        if channels[0].ndim != 2:
            raise InputError(f"{self.stored.path} is in colour, so its slices have no room for neighbours as channels.")
        if not (channels[0].dtype == np.uint8 and self._is_plain(intensity)):
            scale = self._scale(volume, intensity)
            channels = [_scaled(channel, scale) for channel in channels]
        return Image.fromarray(np.stack(channels, axis=-1))

    def brightest(self) -> int | None:
        """The largest value of the volume, if it is an integer deeper than 8 bits and the type alone scales it."""
        volume = self._opened()
        if self.slicing.value_range is not None or volume.dtype.kind not in "iu" or volume.dtype.itemsize == 1:
            return None
        return int(self._range(volume, str(self.stored.path)).high)

    def full_scale(self) -> int | None:
        """By what the values of the volume are divided, if they are fractions and the type alone scales them."""
        volume = self._opened()
        if self.slicing.value_range is not None or volume.dtype.kind != "f":
            return None
        found = self._range(volume, str(self.stored.path))
        return int(self._scale(volume, "type").full) if found.high > 0 else None

    def identity(self) -> bytes:
        """Bytes that are equal for the same slice of equal files."""
        path = self.stored.path
        return _digest(path, path.stat().st_mtime_ns) + self.index.to_bytes(8, "little")

    def _refuse_bands(self) -> None:
        if self.bands is not None:
            raise InputError(
                f"{self.stored.path} has {self.bands} channels (its fourth dimension), which are read as bands alone. "
                f"Train with --set model.bands={self.bands}; data.bands picks some of them."
            )

    def _opened(self) -> Volume:
        volume = self.stored.open()
        if (volume.shape, volume.bands) != (self.shape, self.bands):
            raise InputError(f"{self.stored.path} has changed since it was listed. Start again.")
        return volume

    @staticmethod
    def _slice(volume: Volume, index: int) -> np.ndarray:
        return np.ascontiguousarray(volume.read(index))

    def _is_plain(self, intensity: Intensity) -> bool:
        return self.slicing.value_range is None and intensity == "type"

    def _scale(self, volume: Volume, intensity: Intensity) -> Scale:
        if self.slicing.value_range is not None:
            low, high = self.slicing.value_range
            return Scale(low, high - low)
        name = str(self.stored.path)
        if intensity == "type" and volume.dtype.kind == "u" and volume.dtype.itemsize == 2:
            return scale_by_type(None, volume.dtype, name)
        found = self._range(volume, name)
        if intensity == "image":
            return scale_by_range(found)
        if found.low < 0 or found.high > 65535:
            raise InputError(
                f"{name} has values from {found.low:g} to {found.high:g}, whose full range is unknown. Train with "
                "--set 'data.value_range=[LOW,HIGH]', which says what is black and white (for soft tissue in CT "
                "[-160,240]), or with --set data.intensity=image, which stretches each volume's own range."
            )
        return scale_by_type(found, volume.dtype, name)

    def _range(self, volume: Volume, name: str) -> Range:
        """The range of all slices, found once in a process."""
        path = self.stored.path.stat()
        key = (self.stored, (path.st_size, path.st_mtime_ns))
        found = _ranges.get(key)
        if found is None:
            found = find_range((volume.read(index) for index in range(volume.shape[0])), name)
            _ranges[key] = found
        return found


@lru_cache(256)
def _digest(path: Path, changed: int) -> bytes:
    """Of the content of a file, or of the files of a folder."""
    digest = hashlib.blake2b(digest_size=16)
    for file in sorted(path.iterdir()) if path.is_dir() else [path]:
        if file.is_file():
            with open_ordinary(file) as opened:
                digest.update(hashlib.file_digest(opened, "blake2b").digest())
    return digest.digest()


def slices_of(stored: Stored, volume: Volume, slicing: Slicing, name: str) -> list[VolumeSlice]:
    """All slices of a volume, in order.

    Args:
        stored: Where it is.
        volume: What its headers say.
        slicing: How it is read.
        name: What outputs made from it are called.
    """
    return [VolumeSlice(stored, index, volume.shape, slicing, name, volume.bands) for index in range(volume.shape[0])]


def _scaled(values: np.ndarray, scale: Scale) -> np.ndarray:
    """Values as uint8; those outside the range are clipped, and those that are not finite count as the smallest."""
    if scale.full == 0:
        return np.zeros(values.shape, np.uint8)
    numbers = values.astype(np.float64)
    numbers = np.where(np.isfinite(numbers), numbers, scale.low)
    return np.rint(((numbers - scale.low) * (255.0 / scale.full)).clip(0, 255)).astype(np.uint8)


def _picture(values: np.ndarray) -> Image.Image:
    if values.dtype == np.uint8:
        return Image.fromarray(values)
    if values.dtype == np.uint16:
        return Image.fromarray(values)
    if values.dtype.kind in "iu" and values.dtype.itemsize <= 4:
        return Image.fromarray(values.clip(-(1 << 31), (1 << 31) - 1).astype(np.int32))
    return Image.fromarray(values.astype(np.float32))
