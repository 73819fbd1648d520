"""What the header of a TIFF file says about its pixels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from convlora.data.reading.tiff.header import is_tiff, read_tags
from convlora.data.reading.tiff.tags import no_data_value
from convlora.errors import InputError

_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC = 256, 257, 258, 259, 262
_FILL_ORDER, _ORIENTATION, _SAMPLES, _PLANAR = 266, 274, 277, 284
_COLOUR_MAP, _EXTRA_SAMPLES, _SAMPLE_FORMAT, _DEPTH = 320, 338, 339, 32997
_WHITE_IS_0, _BLACK_IS_0, _RGB, _PALETTE, _TRANSPARENCY = 0, 1, 2, 3, 4
_CMYK, _YCBCR, _LAB = _OWN_DECODERS = (5, 6, 8)  # which Pillow makes RGB of
_SPACES = {
    4: "of a mask",
    5: "CMYK",
    6: "YCbCr",
    8: "Lab",
    9: "ICCLab",
    10: "ITULab",
    32803: "of a camera's raw data",
    32844: "LogL",
    32845: "LogLuv",
    34892: "of a camera's raw data",
}
_KINDS = {1: "u", 2: "i", 3: "f", 4: "u", 5: "c", 6: "c"}  # 4: not said
_NAMES = {"u": "whole numbers", "i": "whole numbers with a sign", "f": "fractions", "c": "complex numbers"}
_ALPHA = (1, 2)  # of extra samples: with colours multiplied by it, and without
_ASSOCIATED = 1

# What Pillow reads as it is meant, one channel: the kind and bits of a value.
_PLAIN_GREY = {("u", 1), ("u", 2), ("u", 4), ("u", 8), ("u", 12), ("u", 16), ("i", 16), ("i", 32), ("f", 32)}
_PLAIN_WHITE_IS_0 = {("u", 1), ("u", 2), ("u", 4), ("u", 8), ("u", 16), ("f", 32)}
_PLAIN_PALETTE = {("u", 1), ("u", 2), ("u", 4), ("u", 8)}


@dataclass(frozen=True)
class TiffLayout:
    """How the pixels of the first page of a TIFF file are stored, and which of its channels count.

    Attributes:
        height: In pixels, as stored.
        width: In pixels, as stored.
        samples: Channels.
        kind: Kind of the values: `"u"`, `"i"`, `"f"` or `"c"`, as NumPy calls them.
        bits: Bits per value.
        photometric: The number that TIFF has for the colour space.
        extra: What the last channels are, by TIFF's numbers, as far as the file says so.
        planar: Whether each channel is stored on its own.
        orientation: As of EXIF.
        compression: The number that TIFF has for it.
        palette: Colours of the indices, `(2**bits, 3)` uint8, if values are indices.
        no_data: The value of pixels without data.
    """

    height: int
    width: int
    samples: int
    kind: str
    bits: int
    photometric: int
    extra: tuple[int, ...]
    planar: bool
    orientation: int
    compression: int
    palette: np.ndarray | None
    no_data: float | None
    depth: int = 1
    states_photometric: bool = True

    @classmethod
    def of(cls, tags: Mapping[int, Any]) -> TiffLayout | None:
        """The layout that tags describe; None if they describe none, as those of a damaged file."""
        try:
            bits = _numbers(tags.get(_BITS, 1))
            samples = _numbers(tags.get(_SAMPLES, len(bits)))[0]
            kinds = _numbers(tags.get(_SAMPLE_FORMAT, 1))
            layout = cls(
                _numbers(tags[_HEIGHT])[0],
                _numbers(tags[_WIDTH])[0],
                samples,
                _KINDS.get(kinds[0], "u"),
                bits[0],
                _numbers(tags.get(_PHOTOMETRIC, _BLACK_IS_0))[0],
                _numbers(tags.get(_EXTRA_SAMPLES, ())),
                samples > 1 and _numbers(tags.get(_PLANAR, 1))[0] == 2,
                _numbers(tags.get(_ORIENTATION, 1))[0],
                _numbers(tags.get(_COMPRESSION, 1))[0],
                _palette(tags, bits[0]),
                no_data_value(tags),
                _numbers(tags.get(_DEPTH, 1))[0],
                _PHOTOMETRIC in tags,
            )
        except (KeyError, IndexError, TypeError, ValueError, OverflowError):
            return None
        is_uniform = len(set(bits)) == 1 and len(set(kinds)) == 1
        fits = min(layout.height, layout.width, layout.samples, layout.bits, layout.depth) > 0 and layout.bits <= 128
        return layout if is_uniform and fits else None

    @classmethod
    def of_file(cls, content: Path | bytes) -> TiffLayout | None:
        """The layout of a file, or of its bytes; None of what is no TIFF file, or a damaged one."""
        return cls.of(read_tags(content)) if is_tiff(content) else None

    @property
    def alpha(self) -> int | None:
        """The channel that says where there is data, counted from 0."""
        first = self.samples - len(self.extra)
        found = [first + place for place, meaning in enumerate(self.extra) if meaning in _ALPHA]
        return found[0] if found and found[0] > 0 else None

    @property
    def may_lack_data(self) -> bool:
        """Whether values say of pixels that they hold no data: one that stands for it, or alpha."""
        return self.no_data is not None or self.alpha is not None

    @property
    def is_premultiplied(self) -> bool:
        """Whether the colours have been multiplied by alpha."""
        alpha = self.alpha
        return alpha is not None and self.extra[alpha - self.samples + len(self.extra)] == _ASSOCIATED

    @property
    def colours(self) -> tuple[int, ...]:
        """The channels that count, counted from 0: the first three where there are as many, else the first."""
        others = [channel for channel in range(min(self.samples, 4)) if channel != self.alpha]
        return tuple(others[:3]) if len(others) >= 3 and self.palette is None else (0,)

    @property
    def left_out(self) -> int:
        """How many channels are not used."""
        return self.samples - len(self.colours) - (self.alpha is not None)

    @property
    def is_inverted(self) -> bool:
        """Whether grey values grow towards black."""
        return self.photometric == _WHITE_IS_0

    @property
    def dtype(self) -> np.dtype:
        """The type of decoded values."""
        size = next(size for size in (8, 16, 32, 64, 128) if self.bits <= size)
        return np.dtype(f"{self.kind}{size // 8}")

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of the image when it stands upright."""
        turned = self.orientation in (5, 6, 7, 8)
        return (self.width, self.height) if turned else (self.height, self.width)

    @property
    def is_plain(self) -> bool:
        """Whether Pillow reads such files, and as they are meant, so that there is no need for anything else."""
        kind = (self.kind, self.bits)
        if self.depth > 1 or not self.states_photometric:
            return self.photometric in _OWN_DECODERS
        if self.photometric in _OWN_DECODERS:
            return True
        if self.no_data is not None and (self.is_premultiplied or (len(self.colours) == 3 and self.bits == 16)):
            # Pillow undoes the multiplication and drops the lower bytes, and then the value cannot be told.
            return False
        if self.samples == 1:
            known = {_WHITE_IS_0: _PLAIN_WHITE_IS_0, _BLACK_IS_0: _PLAIN_GREY, _PALETTE: _PLAIN_PALETTE}
            return kind in known.get(self.photometric, set())
        if self.planar and (self.extra or self.bits != 8):
            return False
        if self.photometric == _RGB:
            ordered = self.extra == () or (self.extra[0] in (0, *_ALPHA) and not any(self.extra[1:]))
            most = 3 if self.bits == 8 else 1
            fits = self.samples == 3 + len(self.extra) <= 3 + most or (self.samples == 4 and not self.extra)
            return kind in (("u", 8), ("u", 16)) and ordered and fits
        if self.photometric in (_BLACK_IS_0, _PALETTE):
            known_extra = (0, *_ALPHA) if self.photometric == _BLACK_IS_0 else (0, 2)
            return kind == ("u", 8) and self.samples == 2 and len(self.extra) == 1 and self.extra[0] in known_extra
        return False

    @property
    def needs_pillow(self) -> bool:
        """Whether Pillow alone makes RGB of its colours."""
        return self.photometric in _OWN_DECODERS

    @property
    def space(self) -> str:
        """The colour space in words, for messages."""
        return _SPACES.get(self.photometric, f"of the number {self.photometric}")

    def check(self, name: str) -> None:
        """Refuses what has no meaning as an image, and says why.

        Args:
            name: The file, for the message.

        Raises:
            InputError: If it holds complex numbers, or its colours are of a kind that is not read.
        """
        if self.kind == "c":
            raise InputError(f"{name} holds complex numbers, which are no image. Convert it to numbers of one part.")
        if self.photometric not in (_WHITE_IS_0, _BLACK_IS_0, _RGB, _PALETTE, *_OWN_DECODERS):
            raise InputError(f"{name} is a TIFF file in the colour space {self.space}. Save it as grey or RGB.")
        if self.planar and (self.photometric == _LAB or (self.photometric == _CMYK and self.bits > 8)):
            # Pillow mixes their pixels up.
            raise InputError(
                f"{name} is a TIFF file in {self.space} with its channels stored one by one. Save it as RGB."
            )
        if self.depth > 1:
            raise InputError(f"{name} is a volume of {self.depth} layers. Save the layers as images of their own.")
        if self.kind == "f" and self.bits not in (16, 32, 64):
            raise InputError(f"{name} holds fractions of {self.bits} bits. Save it with 32 bits per value.")
        if self.bits > 64:
            raise InputError(f"{name} holds numbers of {self.bits} bits. Save it with 16 bits per value.")

    def describe(self) -> str:
        """The layout in words, for messages."""
        channels = "1 channel" if self.samples == 1 else f"{self.samples} channels"
        return f"{channels} of {self.bits}-bit {_NAMES[self.kind]}"


def _numbers(stated: Any) -> tuple[int, ...]:
    return tuple(int(number) for number in np.ravel(stated))


def _palette(tags: Mapping[int, Any], bits: int) -> np.ndarray | None:
    if tags.get(_PHOTOMETRIC) != _PALETTE or bits > 16:
        return None
    stated = np.asarray(_numbers(tags[_COLOUR_MAP]))
    colours = np.zeros((2**bits, 3), np.uint8)
    known = min(len(stated) // 3, len(colours))
    colours[:known] = (stated[: 3 * known].reshape(3, known) >> 8).T if known else 0
    return colours
