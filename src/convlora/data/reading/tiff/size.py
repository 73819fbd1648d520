"""Whether a TIFF file can hold as many pixels as it says, asked before memory is taken for them."""

from __future__ import annotations

from pathlib import Path

from convlora.data.reading.tiff.layout import TiffLayout
from convlora.errors import InputError

_NEVER_MUCH = 1 << 28  # bytes of pixels
_MOST_TIMES = 20_000  # the file; deflate reaches 1,032, but tiles that are blank may be left out


def check_size(layout: TiffLayout, content: Path | bytes, name: str) -> None:
    """Refuses a file far too small for its pixels.

    Args:
        layout: What its header says.
        content: The file, or its bytes.
        name: Name of it, for the message.

    Raises:
        InputError: It is.
    """
    size = len(content) if isinstance(content, bytes) else content.stat().st_size
    pixels = layout.height * layout.width * layout.depth * layout.samples * layout.bits // 8
    if pixels > max(_NEVER_MUCH, _MOST_TIMES * size):
        raise InputError(
            f"{name} says that it holds {layout.width} x {layout.height} pixels with {layout.describe()}, which cannot "
            f"be in a file of {size:,} bytes. Replace the file."
        )
