"""What is written beside the mask of each image, if it is asked for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from convlora.data.reading.rows import INSTALL, has_rasterio, reference_of
from convlora.errors import InputError, shown
from convlora.inference.bands import Wanted
from convlora.measuring.pixel_size import PixelSize
from convlora.measuring.scales import states_size

POLYGONS = ("geojson", "coco")
RANKS = ("uncertain",)
LABELS = ("cvat", "labelstudio")


@dataclass(frozen=True)
class Extras:
    """What is wanted of each image.

    Attributes:
        probabilities: A TIFF file of probabilities.
        objects: Lines in the table of objects.
        polygons: `"geojson"`, `"coco"` or None.
        pixel_size: How large pixels are; None: as the images say, if they do.
        rank: `"uncertain"` for a table of the images, the most uncertain first; or None.
        labels: What an annotation tool takes: `"cvat"`, `"labelstudio"` or None.
        image_url: What stands before the names of images in the addresses that Label Studio is given; None: where it
            serves the folder of each image from its disk.
    """

    probabilities: bool = False
    objects: bool = False
    polygons: str | None = None
    pixel_size: PixelSize | None = None
    rank: str | None = None
    labels: str | None = None
    image_url: str | None = None

    @classmethod
    def of(
        cls,
        probabilities: bool,
        objects: bool,
        polygons: str | None,
        pixel_size: str | None,
        rank: str | None = None,
        labels: str | None = None,
        image_url: str | None = None,
    ) -> Extras:
        """Checks what was given.

        Raises:
            InputError: If there is no such format or size, it has no effect, or a package is missing.
        """
        if polygons not in (None, *POLYGONS):
            raise InputError(f"--polygons must be geojson or coco, got '{shown(polygons, 40)}'.")
        if rank not in (None, *RANKS):
            raise InputError(f"--rank must be uncertain, got '{shown(rank, 40)}'.")
        if pixel_size is not None and not objects and polygons != "geojson":
            raise InputError(
                "--pixel-size has no effect without --objects or --polygons geojson. Add one of them, or leave it out."
            )
        if polygons == "geojson" and not has_rasterio():
            raise InputError(f"--polygons geojson needs rasterio. Install it: {INSTALL}.")
        if labels == "coco":
            raise InputError("--labels does not write coco. Use --polygons coco instead.")
        if labels not in (None, *LABELS):
            raise InputError(f"--labels must be cvat or labelstudio, got '{shown(labels, 40)}'.")
        if image_url is not None and labels != "labelstudio":
            raise InputError("--image-url has no effect without --labels labelstudio. Add it, or leave it out.")
        size = None if pixel_size is None else PixelSize.parse(pixel_size)
        return cls(probabilities, objects, polygons, size, rank, labels, image_url)

    @property
    def measures(self) -> bool:
        """Whether objects are looked for."""
        return self.objects or self.polygons is not None or self.labels is not None

    @property
    def makes_pieces(self) -> bool:
        """Whether images go into a file of all images."""
        return self.objects or self.polygons == "coco" or self.labels is not None

    @property
    def wanted(self) -> Wanted:
        """Which probabilities are needed."""
        return Wanted(of_class=self.measures, of_all=self.probabilities, uncertainty=self.rank is not None)

    def __bool__(self) -> bool:
        return self.probabilities or self.measures or self.rank is not None

    def described(self) -> list[str]:
        """What of it decides on the results; nothing if nothing is wanted."""
        return [repr(self)] if self else []

    def check_sizes(self, images: Sequence[Path]) -> str | None:
        """Checks that images do not state another size of their pixels; returns what is to be said of some of them.

        Raises:
            InputError: If one does, and a size was given.
        """
        if not self.measures:
            return None
        by_points = []
        for image in images:
            reference = reference_of(image)
            if reference is None:
                continue
            if reference.points:
                by_points.append(image)
            elif self.pixel_size is not None and states_size(reference):
                raise InputError(
                    f"{image} says itself how large its pixels are on the ground. Leave out --pixel-size, or predict "
                    "such images on their own."
                )
        if not by_points:
            return None
        others = f" (and {len(by_points) - 1} more)" if len(by_points) > 1 else ""
        return (
            f"{by_points[0]}{others} has ground control points, and no transform: its objects have no map coordinates. "
            "For these, warp it first, for example with gdalwarp."
        )
