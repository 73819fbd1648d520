"""What a segmenter says about one image."""

from __future__ import annotations

import io
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from convlora.data.classes.class_table import ClassTable
from convlora.data.reading.bands import BandImage, Reading
from convlora.data.reading.read import read_known, read_picture
from convlora.data.reading.rows import reference_of
from convlora.errors import InputError
from convlora.measuring.components import ComponentCollector
from convlora.measuring.pixel_size import PixelSize
from convlora.measuring.scales import scale_of, states_size
from convlora.measuring.table import rows_of
from convlora.pictures.overlay import picture, save_png
from convlora.pictures.palette import class_colours, indexed_image
from convlora.storage import make_folder
from convlora.words import speaks_python

_NOTEBOOK_SIDE = 640  # pixels of the picture that a notebook shows, at most


@dataclass(frozen=True, eq=False, repr=False)
class Prediction:
    """The classes of one image's pixels.

    Attributes:
        semantic_map: Class of each pixel, `(H, W)` uint8 (uint16 above 256 classes), at the image's own size.
        probabilities: Probability of each class, `(K, H, W)` float32; they sum to 1 at every pixel.
        classes: Names, colours and background of the `K` classes.
        source: The image: a path, the bytes of a file, a PIL image, or an array of bands.
        intensity: How 16-bit values of the image become 8-bit in pictures, or which bands are read.
    """

    semantic_map: np.ndarray
    probabilities: np.ndarray
    classes: ClassTable
    source: Path | bytes | Image.Image | np.ndarray | BandImage
    intensity: Reading = "type"

    def areas(self) -> dict[str, int]:
        """Number of pixels of each class, by the class's name, in the order of the classes."""
        counts = np.bincount(self.semantic_map.ravel(), minlength=self.classes.num_classes)
        return {name: int(pixels) for name, pixels in zip(self.classes.names, counts)}

    @speaks_python
    def objects(self, *, pixel_size: str | None = None) -> list[dict[str, Any]]:
        """The connected objects of all classes but the background, with their sizes.

        Args:
            pixel_size: How large a pixel is, such as `"0.5um"` or, height x width, `"0.5x0.6um"`. A GeoTIFF file
                says it itself if rasterio is installed.

        Returns:
            As of [`convlora.measure_objects`][]. Pixels without data are of no object.

        Raises:
            InputError: If there is no such size, or the image says another one, or its file can no longer be read.
        """
        size, source = self.semantic_map.shape, self.source
        known = read_known(source, self.intensity)
        if known is not None and known.shape != size:
            raise InputError(f"{source!r} has changed since it was segmented. Segment it again.")
        given = None if pixel_size is None else PixelSize.parse(pixel_size)
        reference = reference_of(source) if isinstance(source, Path) else None
        if given is not None and states_size(reference):
            raise InputError(f"{source!s} says itself how large its pixels are on the ground. Leave out --pixel-size.")
        collector = ComponentCollector(size, self.classes.background)
        own = np.take_along_axis(self.probabilities, self.semantic_map[None].astype(np.int64), axis=0)[0]
        collector.add(self.semantic_map, known, own)
        return list(rows_of(collector.finish(), self.classes.names, scale_of(reference, size, given)))

    def overlay(self) -> Image.Image:
        """The image with its classes tinted and outlined, and a legend if there are several classes.

        Raises:
            InputError: If the image file can no longer be read or has another size now.
        """
        image = read_picture(self.source, self.intensity)
        if (image.height, image.width) != self.semantic_map.shape:
            raise InputError(f"{self.source!r} has changed since it was segmented. Segment it again.")
        return picture(image, self.semantic_map, self.classes)

    def save(self, path: str | os.PathLike[str], *, plain: bool = False) -> Path:
        """Writes the semantic map as a PNG file whose pixel values are the classes.

        Args:
            path: Where to; must end in .png. A file in its place is replaced.
            plain: Write a grey image instead of a palette image, for programs that read a palette as colours.

        Returns:
            The path.

        Raises:
            InputError: If the path does not end in .png.
        """
        path = Path(path)
        if path.suffix.lower() != ".png":
            raise InputError(f"{path} must end in .png: other formats change the values or hold no palette.")
        make_folder(path.parent)
        save_png(indexed_image(self.semantic_map, class_colours(self.classes), plain), path)
        return path

    def __repr__(self) -> str:
        height, width = self.semantic_map.shape
        total = max(1, self.semantic_map.size)
        shares = {name: pixels / total for name, pixels in self.areas().items() if pixels}
        named = sorted(shares, key=lambda name: -shares[name])[:4]
        shown = ", ".join(f"{name} {100 * shares[name]:.1f}%" for name in named)
        return f"Prediction({width} x {height} pixels: {shown}{', ...' if len(shares) > len(named) else ''})"

    def _repr_png_(self) -> bytes:
        """The picture that a notebook shows."""
        image = self.overlay()
        image.thumbnail((_NOTEBOOK_SIDE, _NOTEBOOK_SIDE))
        stream = io.BytesIO()
        image.save(stream, format="PNG")
        return stream.getvalue()
