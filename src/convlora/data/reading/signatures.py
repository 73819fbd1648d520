"""Telling what a file is that cannot be read as an image, by its first bytes."""

from __future__ import annotations

from convlora.data.reading.tiff.layout import TiffLayout

HEAD_LENGTH = 512

_READ = "PNG, JPEG, TIFF, BMP or WebP"

# (offset, bytes at that place, what it is). HEIC and AVIF are boxes whose first one names the brand.
_OTHERS = (
    (0, b"GIF8", "a GIF file"),
    (0, b"%PDF", "a PDF file"),
    (0, b"%!PS", "a PostScript file"),
    (0, b"PK\x03\x04", "a ZIP archive"),
    (0, b"\0\0\0\x0cjP  ", "a JPEG 2000 file"),
    (4, b"ftypavif", "an AVIF file"),
    (4, b"ftypheic", "a HEIC file"),
    (4, b"ftypmif1", "a HEIC file"),
    (128, b"DICM", "a DICOM file"),
)
_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_OURS = (
    (b"\x89PNG", "PNG"),
    (b"\xff\xd8\xff", "JPEG"),
    (b"BM", "BMP"),
    (b"RIFF", "WebP"),
    *((start, "TIFF") for start in _TIFF),
)


def why_no_image(name: str, head: bytes, layout: TiffLayout | None = None) -> str:
    """Says what a file is that no decoder takes for an image, and what to do.

    Args:
        name: The file, for the message.
        head: Its first `HEAD_LENGTH` bytes.
        layout: Layout of a TIFF file, as far as its header can be read.

    Returns:
        Two sentences.
    """
    text = head.lstrip().lower()
    if not head:
        return f"{name} is empty. Replace the file."
    if head.startswith(b"version https://git-lfs"):
        return f"{name} is a pointer of Git LFS, not the image itself. Fetch the images with: git lfs pull"
    if text.startswith((b"<!doctype html", b"<html")):
        return f"{name} is a web page, not an image. Download the file again."
    if b"<svg" in text:
        return f"{name} is an SVG drawing. Save it as {_READ}."
    if head.startswith(b"\x93NUMPY"):
        return (
            f"{name} is a NumPy file, which is read only as bands. Set model.bands to their number in training, or "
            f"save it as {_READ}."
        )
    for offset, signature, what in _OTHERS:
        if head[offset:].startswith(signature):
            return f"{name} is {what}. Save it as {_READ}."
    if head.startswith(_TIFF) and layout is not None and layout.needs_pillow:
        return (
            f"{name} is a TIFF file in the colour space {layout.space} with {layout.describe()}, which is damaged or "
            "of a kind that is not read. Save it as grey or RGB."
        )
    for signature, kind in _OURS:
        if head.startswith(signature):
            return damaged(name, kind)
    return f"{name} is not an image in a known format. Use {_READ}."


def damaged(name: str, kind: str | None = None) -> str:
    """Says that an image file is damaged."""
    return f"{name} is {f'a {kind} file that is ' if kind else ''}damaged or cut short. Replace the file."


def is_known(head: bytes) -> bool:
    """Whether a file begins like one of the formats that are read, whatever follows."""
    return any(head.startswith(signature) for signature, _ in _OURS)


def is_lossy_webp(content: bytes) -> bool:
    """Whether the first picture of a WebP file is compressed with loss."""
    place = 12  # after RIFF, the length, and WEBP
    while place + 8 <= len(content):
        kind, length = content[place : place + 4], int.from_bytes(content[place + 4 : place + 8], "little")
        if kind in (b"VP8 ", b"VP8L"):
            return kind == b"VP8 "
        # A frame of an animation has its own parts behind 16 bytes; other parts are passed over, as even lengths.
        place += 8 + (16 if kind == b"ANMF" else length + length % 2)
    return False
