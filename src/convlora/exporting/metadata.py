"""What an exported file says of itself, in the words of the programs that read it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from convlora import __version__
from convlora.data.classes.class_table import ClassTable
from convlora.data.reading.bands import BandReading, Reading, bands_taken
from convlora.data.transforms import statistics_of
from convlora.pictures.palette import class_colours
from convlora.storage import SOFTWARE


@dataclass(frozen=True)
class Facts:
    """What a file says.

    Attributes:
        classes: Names and colours of the classes.
        image_size: (height, width) in pixels.
        method: Name of the method that trained the run.
        precision: `"fp32"` or `"fp16"`.
        resolution_cm: Size of a pixel on the ground in centimetres; None: not known.
        tile_overlap: Overlap of neighbouring tiles, as a share of a tile.
        window: Longer side of the windows that the run was trained on, in pixels of its images; None: on whole images.
        reading: How the run reads images.
    """

    classes: ClassTable
    image_size: tuple[int, int]
    method: str
    precision: str
    resolution_cm: float | None
    tile_overlap: float
    window: int | None = None
    reading: Reading = "type"

    @property
    def seen_cm(self) -> float | None:
        """Size on the ground of a pixel of what the model sees, in centimetres: programs resample the ground to it."""
        if self.resolution_cm is None or self.window is None:
            return self.resolution_cm
        return self.resolution_cm * self.window / max(self.image_size)


def metadata(facts: Facts) -> dict[str, str]:
    """The metadata of a file: each value is JSON.

    The first group is what QGIS's Deepness plugin reads, and GeoDeep after it. Both divide pixels by 255; Deepness then
    takes out the mean and the deviation that the file names, GeoDeep never does. Neither is to do it here, as the
    normalisation is part of the graph. With two classes the one that reaches 0.5 counts. With several the largest does,
    however small: a threshold would turn pixels into the first class.

    Source: https://qgis-plugin-deepness.readthedocs.io/en/latest/creators/creators_add_metadata_to_model.html. Its
    program reads `tile_size`, where its documentation says `tiles_size`.
    """
    names = dict(enumerate(facts.classes.names))
    height, width = facts.image_size
    mean, std = statistics_of(facts.reading)
    channels = len(mean)
    content = "bands" if isinstance(facts.reading, BandReading) else "RGB"
    known: Mapping[str, Any] = {
        "model_type": "Segmentor",
        "class_names": names,
        "tile_size": width,
        "tiles_size": width,
        "tiles_overlap": round(100 * facts.tile_overlap),
        "standardization_mean": [0.0] * channels,
        "standardization_std": [1.0] * channels,
        "seg_thresh": 0.5 if len(names) == 2 else 0.0,
        "seg_small_segment": 0,
        **({} if facts.seen_cm is None else {"resolution": facts.seen_cm}),
    }
    own = {
        "software": f"{SOFTWARE} {__version__}",
        "method": facts.method,
        "precision": facts.precision,
        "image_size": [height, width],
        **({} if facts.window is None else {"window": facts.window}),
        "class_colors": [list(colour) for colour in class_colours(facts.classes)],
        "input": f"{content} from 0 to 1, (B, {channels}, height, width)",
        "output": "probabilities of the classes, (B, classes, height, width)",
        "normalization": {"mean": list(mean), "std": list(std), "inside": True},
        **_of_bands(facts.reading),
    }
    return {key: json.dumps(value) for key, value in {**known, **own}.items()}


def _of_bands(reading: Reading) -> dict[str, Any]:
    """Which bands of an image are the input, and the values that become 0 and 1, in the units of the files."""
    if not isinstance(reading, BandReading):
        return {}
    return {"bands": bands_taken(reading), "band_range": [list(one) for one in reading.ranges or ()]}
