"""A trained model, ready to segment images of any size."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image

from convlora.data.classes import ClassTable
from convlora.data.images import Intensity, read_image
from convlora.data.transforms import prepare_image
from convlora.devices import resolve_device, resolve_precision
from convlora.errors import InputError
from convlora.inference.adapters import load_adapter
from convlora.inference.evaluate import autocast
from convlora.inference.outputs import check_finite, own_map, own_probabilities
from convlora.inference.rows import open_rows
from convlora.inference.runs import adapter_folder, check_sam, first_line, read_classes, read_settings
from convlora.inference.tiles import predict_bands
from convlora.inference.windows import OVERLAP, Tiles
from convlora.models import SamForSemanticSegmentation
from convlora.models.configuration import as_size
from convlora.models.fingerprint import sample_weights
from convlora.models.parameters import halve_frozen_weights

ImageLike = Image.Image | np.ndarray | str | os.PathLike[str]


class Prediction(NamedTuple):
    """What a segmenter says of one image.

    Attributes:
        semantic_map: Class of each pixel, `(H, W)` uint8 (uint16 above 256 classes), at the image's own size.
        probabilities: Of each class, `(K, H, W)` float32; they sum to 1 at every pixel.
    """

    semantic_map: np.ndarray
    probabilities: np.ndarray


class Segmenter:
    """Segments images with a trained model.

    Args:
        model: A segmenter, with or without adapters.
        classes: The classes it tells apart.
        image_size: (height, width) the model works at.
        intensity: How 16-bit images become 8-bit, as in training.
        precision: `"fp32"`, `"bf16"` or `"fp16"`.

    Attributes:
        model: The segmenter. In half precision its frozen weights are kept so, and it has to be called under autocast,
            as [`Segmenter.predict`] does.

    Example:
        >>> from convlora import Segmenter
        >>> segmenter = Segmenter.from_run("RUN")  # doctest: +SKIP
        >>> segmenter.predict("photo.jpg").semantic_map.shape  # doctest: +SKIP
        (320, 480)
    """

    def __init__(
        self,
        model: torch.nn.Module,
        classes: ClassTable,
        image_size: tuple[int, int],
        intensity: Intensity = "type",
        precision: str = "fp32",
    ) -> None:
        self.model = model.eval()
        self.classes = classes
        self.image_size = image_size
        self.intensity: Intensity = intensity
        self.precision = precision

    @classmethod
    def from_run(
        cls,
        run: str | os.PathLike[str],
        *,
        model: str | os.PathLike[str] | None = None,
        device: str = "auto",
        precision: str = "auto",
    ) -> Segmenter:
        """Loads the best weights of a training run.

        Args:
            run: The run folder that `convlora train` wrote.
            model: Where the SAM is that was fine-tuned, if it is not where it was.
            device: `"auto"`, `"cpu"` or `"cuda"`.
            precision: `"auto"`, `"fp32"`, `"bf16"` or `"fp16"`.

        Raises:
            InputError: If the folder is no run, or the SAM cannot be found.
        """
        settings, classes, weights = read_settings(Path(run)), read_classes(Path(run)), adapter_folder(Path(run))
        source = str(model if model is not None else settings["model"]["source"])
        chosen = resolve_device(device)
        try:
            base = SamForSemanticSegmentation.from_pretrained(
                source,
                image_size=as_size(settings["model"]["image_size"]),
                attention=settings["model"]["attention"],
                num_classes=classes.num_classes,
                head=settings["model"].get("head", "auto"),
                num_mask_tokens=settings["model"].get("num_mask_tokens"),
                dtype=torch.float32,
            )
        except InputError as error:
            raise InputError(
                f"{error} (The run {run} was trained from '{source}'; name its new place with --model.)"
            ) from error
        except (ValueError, TypeError) as error:
            raise InputError(
                f"'{source}' cannot be made into what {run}/config.yaml says ({first_line(error)}). Restore that file "
                "from a copy, or give the SAM it was trained from with --model."
            ) from error
        sam = sample_weights(base.vision_encoder)  # before it is changed
        try:
            adapted = load_adapter(base, weights, settings["method"], settings["training"]["adapt_last"])
        except InputError as error:
            raise InputError(f"{error} (The run {run} was trained from '{source}'.)") from error
        check_sam(Path(run), sam, source)
        precision = resolve_precision(precision, chosen)
        halve_frozen_weights(adapted.base_model.model.vision_encoder, precision)
        return cls(
            adapted.to(chosen),
            classes,
            as_size(settings["model"]["image_size"]),
            settings["data"]["intensity"],
            precision,
        )

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return next(self.model.parameters()).device

    def predict(self, image: ImageLike) -> Prediction:
        """Segments one image of any size.

        Args:
            image: A PIL image, a path, or an array `(H, W)` or `(H, W, 3)` of uint8 or uint16.

        Raises:
            InputError: If the image cannot be read.
        """
        return self.predict_batch([image])[0]

    def predict_batch(self, images: Sequence[ImageLike]) -> list[Prediction]:
        """Segments several images at once; they may have different sizes."""
        predictions = []
        for index, (output, size) in enumerate(self._outputs(images)):
            probabilities = own_probabilities(output, index, size).cpu().numpy()
            predictions.append(Prediction(probabilities.argmax(axis=0).astype(self.map_type), probabilities))
        return predictions

    def predict_maps(self, images: Sequence[ImageLike]) -> list[np.ndarray]:
        """The semantic maps of [`Segmenter.predict_batch`] alone, in memory that does not grow with the classes."""
        return [
            own_map(output, index, size).cpu().numpy().astype(self.map_type)
            for index, (output, size) in enumerate(self._outputs(images))
        ]

    @property
    def map_type(self) -> type[np.unsignedinteger]:
        """What semantic maps are made of."""
        return np.uint8 if self.classes.num_classes <= 256 else np.uint16

    def predict_tiled(
        self, image: ImageLike, *, tile_size: int | None = None, overlap: float = OVERLAP, batch_size: int = 1
    ) -> np.ndarray:
        """Segments a large image at its own resolution, in overlapping windows whose results are blended.

        An image that fits into one window gives what [`Segmenter.predict`] gives.

        Args:
            image: As for [`Segmenter.predict`]; TIFF files are read piece by piece if rasterio is installed.
            tile_size: Longer side of a window in pixels of the image; default: the model's own size.
            overlap: Of neighbouring windows, as a share of the window.
            batch_size: Windows at a time.

        Returns:
            Class of each pixel, `(H, W)` uint8 (uint16 above 256 classes). Where a TIFF says that it has no data, what
            the model makes of black.

        Raises:
            InputError: If the image cannot be read, or a number makes no sense.
        """
        bands = self.predict_bands(image, tile_size=tile_size, overlap=overlap, batch_size=batch_size)
        return np.concatenate([semantic_map for _, semantic_map in bands])

    def predict_bands(
        self, image: ImageLike, *, tile_size: int | None = None, overlap: float = OVERLAP, batch_size: int = 1
    ) -> Iterator[tuple[slice, np.ndarray]]:
        """[`Segmenter.predict_tiled`] for images whose semantic map is too large for memory.

        Yields:
            Which rows, and their classes `(rows, W)`, from top to bottom.
        """
        source = _from_array(image) if isinstance(image, np.ndarray) else image
        with open_rows(source if isinstance(source, Image.Image) else Path(source), self.intensity) as rows:
            yield from predict_bands(self, rows, Tiles(tile_size, overlap), batch_size=batch_size)

    @torch.inference_mode()
    def forward(self, pixels: Sequence[torch.Tensor]) -> Any:
        """What the model returns for a batch of `pixel_values`, each `(3, h, w)` at the model's size."""
        with autocast(self.device, self.precision):
            output = self.model(pixel_values=torch.stack(list(pixels)).to(self.device))
        check_finite(output, self.precision)
        return output

    def _outputs(self, images: Sequence[ImageLike]) -> list[tuple[Any, tuple[int, int]]]:
        """The output of the batch, once per image, with the image's own (height, width)."""
        opened = [self._open(image) for image in images]
        output = self.forward([prepare_image(image, self.image_size) for image in opened])
        return [(output, (image.height, image.width)) for image in opened]

    def _open(self, image: ImageLike) -> Image.Image:
        if isinstance(image, np.ndarray):
            return read_image(_from_array(image), self.intensity)
        if isinstance(image, Image.Image):
            return read_image(image, self.intensity)
        return read_image(Path(image), self.intensity)


def _from_array(array: np.ndarray) -> Image.Image:
    if array.dtype == bool:
        array = array.astype(np.uint8) * 255
    fits = array.ndim == 2 or (array.ndim == 3 and array.shape[2] in (1, 3, 4))
    if not fits or array.dtype not in (np.uint8, np.uint16) or (array.ndim == 3 and array.dtype != np.uint8):
        raise InputError(
            f"An image array must be (H, W) of uint8 or uint16, or (H, W, 3) of uint8, but this is {array.shape} of "
            f"{array.dtype}. Convert it first."
        )
    return Image.fromarray(array.squeeze(-1) if array.ndim == 3 and array.shape[2] == 1 else array)
