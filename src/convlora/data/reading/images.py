"""Reading images and masks of any usual file format and bit depth."""

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError
from PIL.JpegImagePlugin import JpegImageFile

from convlora.data.reading.deep_png import deep_colours, has_deep_colours
from convlora.data.reading.depth import depth_of
from convlora.data.reading.eight_bits import blackened, to_eight_bits
from convlora.data.reading.intensities import Intensity, find_range, scale_by_type
from convlora.data.reading.mask_values import values_of
from convlora.data.reading.no_data import known_of, turned
from convlora.data.reading.signatures import HEAD_LENGTH, damaged, why_no_image
from convlora.data.reading.stored import ScaledImage, StoredImage
from convlora.data.reading.tiff.decoding import file_of, mask_of_image
from convlora.data.reading.tiff.header import number_of_pages
from convlora.data.reading.tiff.layout import TiffLayout
from convlora.data.reading.tiff.other import OtherTiff, other_tiff
from convlora.data.reading.tiff.tags import orientation, tags_of, zero_is_white
from convlora.errors import InputError
from convlora.ordinary import open_ordinary, ordinary

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".webp")

Source = Path | str | bytes | StoredImage

# Pillow knows many more formats, some of which start other programs (PostScript).
_FORMATS = ("PNG", "JPEG", "TIFF", "BMP", "WEBP")
_MANY, _BYTES = 1 << 25, 8  # pixels, and what each takes while it is decoded and converted
_DEEP_MODES = ("I;16", "I;16B", "I;16L", "I;16N", "I", "F")
_QUARTER_TURNS = (5, 6, 7, 8)  # of EXIF orientations

# Pillow's warnings name no file, and what they are about is either harmless or an error a moment later.
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)


def is_image_file(path: Path) -> bool:
    """Whether the name is that of an image, by suffix; hidden files (such as macOS's `._a.png`) are not."""
    return path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".")


def is_array_file(path: Path) -> bool:
    """Whether the name is that of an array of NumPy, which is an image where there are no other images."""
    return path.suffix.lower() == ".npy" and not path.name.startswith(".")


def read_image(source: Source | Image.Image, intensity: Intensity = "type") -> Image.Image:
    """Reads an image as 8-bit RGB, upright.

    Of a file with several pages or frames the first is read. An alpha channel is dropped and the colours under it
    kept: putting the image on a white ground would add bright areas that no camera saw. Pixels that a TIFF file marks
    as without data, by a value, by alpha 0 or by a mask, are black, and their values count in no range.

    Args:
        source: A file, the bytes of one, an image stored elsewhere, or one that Pillow has already opened.
        intensity: How grey values become 0..255. `"type"` scales by the data type: 16-bit values by 65535, float
            values by 1 if none is above 1, else by 255, else by 65535. `"image"` stretches the image's own smallest
            and largest value (over all channels) to 0 and 255.

    Returns:
        An image of mode RGB.

    Raises:
        InputError: The file is missing, damaged, not an image, or its values have no known range.
    """
    return _read(source, intensity, None)[0]


def read_for_size(
    source: Source | Image.Image, size: tuple[int, int], intensity: Intensity = "type"
) -> tuple[Image.Image, tuple[int, int]]:
    """Reads an image that is about to be shrunk to the size a model works at.

    A JPEG file that is at least four times as large in both directions is decoded at 1/2, 1/4 or 1/8 of its size, the
    smallest that is still twice as large as asked for. That saves most of the work of decoding, and the averaging that
    is left hides the difference. All pixels are decoded of other files, of images that the caller opened, and where an
    image's own range decides (`intensity="image"`).

    Args:
        source: As for [`read_image`].
        size: (height, width) in pixels.
        intensity: As for [`read_image`].

    Returns:
        An image of mode RGB, and the image's own (height, width), upright.

    Raises:
        InputError: As [`read_image`].
    """
    return _read(source, intensity, size)


def _read(
    source: Source | Image.Image, intensity: Intensity, size: tuple[int, int] | None
) -> tuple[Image.Image, tuple[int, int]]:
    """An image of mode RGB, and its own (height, width) before it was shrunk towards a size."""
    if intensity not in ("type", "image"):
        raise InputError(f"data.intensity is {intensity!r}; it must be 'type' or 'image'.")
    if isinstance(source, ScaledImage):
        return source.rgb(intensity), source.size
    name = _name(source)
    with open_image(source) as opened, decoding(name):
        if isinstance(opened, OtherTiff):
            return opened.rgb(intensity), opened.layout.size
        own = None
        if size is not None and intensity == "type" and opened is not source:
            own = _shrink(opened, size)
        tags, mask = tags_of(opened), mask_of_image(opened, name)
        is_inverted, mask = zero_is_white(tags), None if mask is None else turned(mask, orientation(tags))
        _check_memory(opened)
        deep = deep_colours(opened) if intensity == "image" else None
        upright = _upright(opened, source)
        own = (upright.height, upright.width) if own is None else own
        if deep is not None:
            eight = to_eight_bits(deep, intensity, name, None, False)
            return Image.fromarray(eight), own
        known = known_of(opened, upright, mask)
        is_deep = upright.mode in _DEEP_MODES
        pixels = upright if is_deep else _to_rgb(upright)
        if is_deep or intensity == "image":
            eight = to_eight_bits(np.asarray(pixels), intensity, name, known, is_deep and is_inverted)
            return Image.fromarray(eight).convert("RGB"), own
        return (pixels if known is None else blackened(pixels, known)), own


def _shrink(opened: Image.Image, size: tuple[int, int]) -> tuple[int, int] | None:
    """Has a JPEG file decoded at a fraction of its size, if that is enough for an upright (height, width).

    Returns:
        Its own upright (height, width); None if nothing was done.
    """
    if not isinstance(opened, JpegImageFile) or not opened.tile:  # whose pixels were decoded before
        return None
    width, height = opened.size
    is_turned = opened.getexif().get(ExifTags.Base.Orientation, 1) in _QUARTER_TURNS
    enough = (2 * size[0], 2 * size[1]) if is_turned else (2 * size[1], 2 * size[0])
    opened.draft(None, enough)  # to the smallest scale that is not smaller than that
    return (width, height) if is_turned else (height, width)


@dataclass(frozen=True)
class Header:
    """What can be told of an image without decoding it.

    Attributes:
        size: (height, width) in pixels, after any EXIF orientation.
        orientation: The number that EXIF states; 1: stored upright.
        pages: Pages of a TIFF file or frames of an animation. Only the first is read.
        unused_channels: Channels of a TIFF file that are not read.
        zero_is_white: Whether a TIFF file says that grey values grow towards black.
    """

    size: tuple[int, int]
    orientation: int = 1
    pages: int = 1
    unused_channels: int = 0
    zero_is_white: bool = False


def read_header(source: Source) -> Header:
    """Reads only the header.

    Args:
        source: A file, the bytes of one, or an image stored elsewhere.

    Returns:
        What it says. An orientation that a PNG file states after its pixels is not seen.

    Raises:
        InputError: The file is missing or not an image.
    """
    if isinstance(source, ScaledImage):
        return Header(source.size)
    with open_image(source) as opened, decoding(_name(source)):
        if isinstance(opened, OtherTiff):
            own, pages = opened.layout, number_of_pages(opened.content)
            return Header(own.size, own.orientation, pages, own.left_out, own.is_inverted)
        width, height = opened.size
        if opened.format == "TIFF":
            # Whether `size` is already turned has changed between Pillow versions, so the stored tags are asked.
            tags, file = tags_of(opened), file_of(opened)
            layout = TiffLayout.of(tags)
            size = (tags[257], tags[256])
            turn, pages = orientation(tags), 1 if file is None else number_of_pages(file)
            unused = 0 if layout is None or layout.needs_pillow else layout.left_out
            return Header(size[::-1] if turn in _QUARTER_TURNS else size, turn, pages, unused, zero_is_white(tags))
        # Of PNG files the subclass would decode all pixels to look for more tags behind them.
        exif = Image.Image.getexif(opened) if opened.format == "PNG" else opened.getexif()
        turn = exif.get(ExifTags.Base.Orientation, 1)
        frames = getattr(opened, "n_frames", 1) if opened.format in ("PNG", "WEBP") else 1  # phones add to JPEG files
        return Header((width, height) if turn in _QUARTER_TURNS else (height, width), turn, frames)


def read_image_size(source: Source) -> tuple[int, int]:
    """The (height, width) of [`read_header`] alone."""
    return read_header(source).size


def read_mask(source: Source | Image.Image) -> np.ndarray:
    """Reads a mask without changing its values.

    What the file stores counts, not how it is shown: the indices of a palette, and grey values as they are even where
    the file says that 0 is white.

    Args:
        source: A file, the bytes of one, an image stored elsewhere, or one that Pillow has already opened. Grey values,
            the indices of a palette, or colours.

    Returns:
        Integers (H, W), upright. Colours become numbers of their own, see `convlora.data.reading.colours`.

    Raises:
        InputError: The file is missing, damaged, or holds something else than class indices or colours.
    """
    name = _name(source)
    with open_image(source) as opened, decoding(name):
        if isinstance(opened, OtherTiff):
            return opened.mask()
        depth, is_inverted = depth_of(opened), zero_is_white(tags_of(opened))
        return values_of(_upright(opened, source), depth, is_inverted, name)


def read_known(source: Source | Image.Image) -> np.ndarray | None:
    """Which pixels of an image hold data.

    Only a TIFF file can say that some do not, see [`read_image`]; of others nothing is decoded.

    Args:
        source: As for [`read_image`].

    Returns:
        `(H, W)` bool, upright; None if all do.

    Raises:
        InputError: As [`read_image`].
    """
    if isinstance(source, ScaledImage):
        return None
    with open_image(source) as opened, decoding(name := _name(source)):
        if isinstance(opened, OtherTiff):
            return opened.known()
        tags, mask = tags_of(opened), mask_of_image(opened, name)
        layout = TiffLayout.of(tags)
        if layout is None or (mask is None and not layout.may_lack_data):
            return None
        mask = None if mask is None else turned(mask, layout.orientation)
        known = known_of(opened, _upright(opened, source), mask)
        return None if known is None or known.all() else known


def is_deep(source: Source) -> bool:
    """Whether an image has values of more than 8 bits, by its header."""
    with open_image(source) as opened, decoding(_name(source)):
        if isinstance(opened, OtherTiff):
            return opened.layout.dtype.itemsize > 1
        return opened.mode in _DEEP_MODES or has_deep_colours(opened)


def brightest_of_sixteen_bits(source: Source) -> int | None:
    """Returns the largest value of an integer image deeper than 8 bits; `None` for others, and without data."""
    if isinstance(source, ScaledImage):
        return source.brightest()
    with open_image(source) as opened, decoding(name := _name(source)):
        if isinstance(opened, OtherTiff):
            return opened.brightest()
        if opened.mode in _DEEP_MODES and opened.mode != "F":
            known = known_of(opened, opened, mask_of_image(opened, name))
            values = np.asarray(opened) if known is None else np.asarray(opened)[known]
            return int(values.max()) if values.size else None
        colours = deep_colours(opened)
        return None if colours is None else int(colours.max())


def full_scale_of_fractions(source: Source) -> int | None:
    """Returns by what `read_image` divides the values of a float image; `None` for any other, or one that is black."""
    if isinstance(source, ScaledImage):
        return source.full_scale()
    with open_image(source) as opened, decoding(name := _name(source)):
        if isinstance(opened, OtherTiff):
            return opened.full_scale()
        if opened.mode != "F":
            return None
        known = known_of(opened, opened, mask_of_image(opened, name))
        values = np.asarray(opened) if known is None else np.asarray(opened)[known]
        found = find_range([values], name)
        return int(scale_by_type(found, values.dtype, name).full) if found.high > 0 else None


def _name(source: Source | Image.Image) -> str:
    if isinstance(source, (str, Path, StoredImage)):
        return str(source)
    return str(getattr(source, "filename", "") or "The image given")


@contextmanager
def open_image(source: Source | Image.Image) -> Iterator[Image.Image | OtherTiff]:
    """Opens an image of the formats that are read, without decoding it.

    Yields:
        The image by Pillow, or a TIFF file that Pillow does not know or takes for something else.

    Raises:
        InputError: The file is missing or not an image.
    """
    if isinstance(source, Image.Image):
        yield source
        return
    name = _name(source)
    with decoding(name):
        content = source.load() if isinstance(source, StoredImage) else source
        image = content if isinstance(content, Image.Image) else _opened(content, name)
        if isinstance(image, OtherTiff):
            yield image
            return
        if tags_of(image).get(ExifTags.Base.Orientation, 1) in _QUARTER_TURNS:
            # Pillow maps the grey pixels of a file into memory as if they stood upright; those of a stream it decodes.
            image.filename = ""  # type: ignore[attr-defined]
    with image:
        yield image


def _opened(content: bytes | Path | str, name: str) -> Image.Image | OtherTiff:
    stored = content if isinstance(content, bytes) else Path(content)
    other = other_tiff(stored, name)
    if other is not None:
        return other
    try:
        return Image.open(io.BytesIO(stored) if isinstance(stored, bytes) else ordinary(stored), formats=_FORMATS)
    except UnidentifiedImageError as error:
        raise InputError(why_no_image(name, _head(stored), TiffLayout.of_file(stored))) from error


def _upright(image: Image.Image, source: Source | Image.Image) -> Image.Image:
    """Turned as EXIF says; what a caller opened himself stays as it is."""
    _check_memory(image)
    if image is source:
        return ImageOps.exif_transpose(image)
    ImageOps.exif_transpose(image, in_place=True)  # without the copy
    return image


def _check_memory(image: Image.Image) -> None:
    pixels = image.width * image.height
    if pixels > _MANY and _BYTES * pixels > psutil.virtual_memory().available:
        raise MemoryError  # the system would not refuse it, but end the process when it is used


def _head(content: bytes | Path) -> bytes:
    if isinstance(content, bytes):
        return content[:HEAD_LENGTH]
    with open_ordinary(content) as file:
        return bytes(file.read(HEAD_LENGTH))


@contextmanager
def decoding(name: str) -> Iterator[None]:
    """Turns whatever a decoder raises into a sentence that names the file."""
    try:
        yield
    except InputError:
        raise
    except FileNotFoundError as error:
        raise InputError(f"{name} does not exist. Check the path.") from error
    except IsADirectoryError as error:
        raise InputError(f"{name} is a folder, not an image file.") from error
    except PermissionError as error:
        raise InputError(f"{name} may not be read. Check its permissions.") from error
    except Image.DecompressionBombError as error:
        most = 2 * (Image.MAX_IMAGE_PIXELS or 0)  # where Pillow stops warning and refuses
        raise InputError(f"{name} is too large: it has more than {most:,} pixels. Cut it into tiles.") from error
    except MemoryError as error:
        raise InputError(f"{name} does not fit into memory. Cut it into tiles.") from error
    except Exception as error:  # damaged files make decoders raise nearly anything, from OSError to struct.error
        if isinstance(error, OSError) and error.errno is not None:  # the disk's fault, not that of the content
            raise InputError(f"{name} cannot be read ({error.strerror}). Check the path and the disk.") from error
        raise InputError(damaged(name)) from error


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode in ("P", "PA", "RGBa", "La"):
        # By way of RGBA, so that transparency of a palette and premultiplied colours are undone before alpha goes.
        image = image.convert("LA" if image.mode == "La" else "RGBA")
    if image.mode == "LA":
        image = image.getchannel("L")
    return image.convert("RGB")
