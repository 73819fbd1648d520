"""A function for CVAT's automatic annotation: `--function-module convlora.annotating.cvat`.

    cvat-cli task auto-annotate TASK --function-module convlora.annotating.cvat -p run=str:RUN

CVAT's programs import this module and call [`create`]. The package cvat-sdk is imported only then.

Source: https://docs.cvat.ai/docs/api_sdk/sdk/auto-annotation/
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from convlora.errors import InputError
from convlora.inference.bands import Wanted
from convlora.inference.polygons import Region, regions
from convlora.inference.segmenter import Segmenter
from convlora.measuring.components import ComponentCollector
from convlora.measuring.objects import object_mask
from convlora.measuring.row_runs import row_runs
from convlora.pictures.palette import class_colours, hexadecimal

if TYPE_CHECKING:
    import cvat_sdk.auto_annotation as cvataa
    from cvat_sdk import models


def create(
    run: str,
    model: str | None = None,
    device: str = "auto",
    precision: str = "auto",
    tta: bool = False,
    threshold: float | None = None,
) -> CvatFunction:
    """Makes the function; the arguments are the `-p NAME=TYPE:VALUE` of CVAT's programs.

    Args:
        run: The run folder that training wrote, or `hf:USER/NAME[@REVISION]` on the Hugging Face Hub.
        model: The SAM the run was trained from, if it has moved.
        device: `"auto"` or a device by PyTorch's name.
        precision: `"auto"`, `"fp32"`, `"bf16"` or `"fp16"`.
        tta: Whether the probabilities of each image and its three flips are averaged; four times the time.
        threshold: A pixel is foreground if its probability is above this; None: 0.5. For two classes only.

    Raises:
        InputError: If cvat-sdk is missing, or the run cannot be loaded.
    """
    if importlib.util.find_spec("cvat_sdk") is None:
        raise InputError("CVAT's functions need cvat-sdk. Install it with: pip install 'convlora[cvat]'")
    return CvatFunction(
        Segmenter.from_run(run, model=model, device=device, precision=precision, tta=tta, threshold=threshold)
    )


class CvatFunction:
    """A detection function of CVAT's SDK, as its `DetectionFunction` describes one.

    Args:
        segmenter: The model. Its classes but the background are the labels; CVAT matches them by their names.
    """

    def __init__(self, segmenter: Segmenter) -> None:
        import cvat_sdk.auto_annotation as cvataa

        self._segmenter = segmenter
        classes = segmenter.classes
        self._spec = cvataa.DetectionFunctionSpec(
            labels=[
                cvataa.label_spec(name, index, type="mask", color=hexadecimal(colour))
                for index, (name, colour) in enumerate(zip(classes.names, class_colours(classes)))
                if index != classes.background
            ]
        )

    @property
    def spec(self) -> cvataa.DetectionFunctionSpec:
        """The labels."""
        return self._spec

    def detect(self, context: cvataa.DetectionFunctionContext, image: Image.Image) -> list[models.LabeledShapeRequest]:
        """Segments one image; each connected object is a mask of its own.

        Args:
            context: With `conf_threshold`, the least mean probability of an object, and `conv_mask_to_poly`, whether
                polygons are wanted instead of masks. A hole is cut into its polygon from the first corner.
            image: The image.

        Raises:
            InputError: If the image cannot be read.
        """
        import cvat_sdk.auto_annotation as cvataa

        shapes = []
        for kind, box, mask in self._objects(image, context.conf_threshold or 0):
            top, left, bottom, right = box
            if context.conv_mask_to_poly:
                for region in regions(mask, num_classes=2, leave_out=0):
                    shapes.append(cvataa.polygon(kind, _one_ring(region, (left, top))))
            else:
                shapes.append(cvataa.mask(kind, [*row_runs(mask), left, top, right - 1, bottom - 1]))
        return shapes

    def _objects(self, image: Any, least: float) -> Iterator[tuple[int, tuple[int, int, int, int], np.ndarray]]:
        """Class, box (top, left, bottom, right) and mask inside the box of each object of some probability."""
        segmenter = self._segmenter
        semantic_map, probability = self._answer(image)
        collector = ComponentCollector(semantic_map.shape, segmenter.classes.background, keep_spans=True)
        collector.add(semantic_map, None, probability)
        objects = collector.finish()
        for index, kind in enumerate(objects.classes.tolist()):
            if objects.probabilities is None or objects.probabilities[index] >= least:
                top, left, bottom, right = objects.boxes[index].tolist()
                yield kind, (top, left, bottom, right), object_mask(objects, index)

    def _answer(self, image: Any) -> tuple[np.ndarray, np.ndarray | None]:
        """The class of each pixel, and its probability."""
        segmenter = self._segmenter
        if segmenter.tiles is not None:
            found = segmenter.predict(image)
            own = np.take_along_axis(found.probabilities, found.semantic_map[None].astype(np.intp), axis=0)[0]
            return found.semantic_map, own
        seen = segmenter.see(image)
        ((output, index),) = segmenter.outputs([seen.pixels])
        answer = segmenter.answer_of(output, index, seen.size, Wanted(of_class=True))
        return answer.semantic_map, answer.probability


def _one_ring(region: Region, corner: tuple[int, int]) -> Sequence[float]:
    """A region as the one ring that CVAT's polygons have: there and back to each hole, which encloses nothing more."""
    outline, *holes = region.rings
    path = outline[:-1]
    for hole in holes:
        path = [*path, outline[0], *hole]
    if holes:
        path = [*path, outline[0]]
    return [float(place + shift) for point in path for place, shift in zip(point, corner)]
