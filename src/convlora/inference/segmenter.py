"""A trained model, ready to segment images of any size."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image

from convlora.data.classes.class_table import ClassTable
from convlora.data.reading.bands import BandImage, Reading, picture_of
from convlora.data.reading.read import read_seen
from convlora.data.reading.rows import open_rows
from convlora.data.reading.stored import StoredImage
from convlora.data.transforms import resize_image, to_pixel_values
from convlora.devices import default_batch, resolve_device, resolve_precision, to_device
from convlora.inference.answers import recorder_for
from convlora.inference.bands import Answer, Wanted, own_answer
from convlora.inference.fitting import FittingBatches
from convlora.inference.inputs import ImageLike, check_several, image_source
from convlora.inference.loading import load_run
from convlora.inference.members import FoldedModel, Members
from convlora.inference.outputs import HALF, check_finite, own_map, own_probabilities
from convlora.inference.prediction import Prediction
from convlora.inference.thresholds import check_threshold
from convlora.inference.tiles import predict_bands, whole_probabilities
from convlora.inference.windows import OVERLAP, Tiles
from convlora.models.autocast import autocast
from convlora.runs.hub import resolve_run
from convlora.words import speaks_python

_Source = Path | bytes | Image.Image | np.ndarray | BandImage


class SeenImage(NamedTuple):
    """An image as the model sees it.

    Attributes:
        pixels: `(C, h, w)` uint8 at the model's size.
        size: The image's own (height, width).
        whole: The image, if all of its pixels were decoded.
    """

    pixels: torch.Tensor
    size: tuple[int, int]
    whole: Image.Image | None


class Segmenter:
    """Segments images with a trained model.

    Args:
        model: A segmenter, with or without adapters.
        classes: The classes it tells apart.
        image_size: (height, width) the model works at.
        intensity: How 16-bit images become 8-bit, as in training, or which bands are read, and how.
        precision: `"auto"`, `"fp32"`, `"bf16"` or `"fp16"`.
        compile: `"auto"` records the model's operations on a CUDA GPU and replays them; `"none"` does not.
        tta: Test-time augmentation: the probabilities of an image and its three flips are averaged, which takes four
            times as long.
        threshold: A pixel is foreground if its probability is above this, between 0 and 1; for a binary task.
            Default: 0.5.
        window: Longer side of the windows that the model was trained on, in pixels of the images: it then sees images
            in such windows. None: it sees them whole.

    Raises:
        InputError: If there is no such precision, or the model's device does not have it, or the threshold makes no
            sense.

    Attributes:
        tta: May be changed at any time.
        threshold: May be changed at any time.
        tiles: How images are cut into windows where nothing else is asked for; None: they are seen whole.
        model: The segmenter, or those of all folds. In half precision its frozen weights are kept so, and it has to be
            called under autocast, as [`Segmenter.predict`] does.

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
        intensity: Reading = "type",
        precision: str = "fp32",
        compile: str = "auto",
        tta: bool = False,
        threshold: float | None = None,
        window: int | None = None,
    ) -> None:
        check_threshold(threshold, classes)
        self.threshold = HALF if threshold is None else float(threshold)
        self.model = model.eval()
        self.classes = classes
        self.image_size = image_size
        self.intensity: Reading = intensity
        self.precision = resolve_precision(precision, self.device)
        self.tta = tta
        self.tiles = Tiles.of_run(window)
        self._window = window
        self._members = Members(
            self.model, lambda: recorder_for(self.device, compile), lambda: autocast(self.device, self.precision)
        )
        self._batches = FittingBatches(sys.maxsize)  # all images that it is given at once, until memory runs out

    @classmethod
    @speaks_python
    def from_run(
        cls,
        run: str | os.PathLike[str],
        *,
        model: str | os.PathLike[str] | None = None,
        device: str | torch.device = "auto",
        precision: str = "auto",
        tta: bool = False,
        threshold: float | None = None,
    ) -> Segmenter:
        """Loads the best weights of a training run.

        Args:
            run: The run folder that `convlora train` wrote, or `hf:USER/NAME[@REVISION]` on the Hugging Face Hub.
            model: Where the SAM is that was fine-tuned, if it is not where it was.
            device: `"auto"` (a CUDA GPU if there is one), or a device by PyTorch's name: `"cpu"`, `"cuda"`, `"cuda:1"`,
                `"mps"`.
            precision: `"auto"`, `"fp32"`, `"bf16"` or `"fp16"`.
            tta: As of the class.
            threshold: As of the class.

        On a CUDA GPU it sets `torch.backends.cuda.matmul.allow_tf32`, see
        `convlora.devices.set_matmul_precision`.

        Raises:
            InputError: If the folder is no run, the SAM cannot be found or is not needed, or there is no such device or
                precision, or the threshold makes no sense.
        """
        return cls.load(run, model=model, device=device, precision=precision, tta=tta, threshold=threshold)

    @classmethod
    def load(
        cls,
        run: str | os.PathLike[str],
        *,
        model: str | os.PathLike[str] | None = None,
        device: str | torch.device = "auto",
        precision: str = "auto",
        tta: bool = False,
        threshold: float | None = None,
    ) -> Segmenter:
        """[`Segmenter.from_run`] for commands: errors name their options."""
        chosen = resolve_device(device)
        resolve_precision(precision, chosen)  # is refused before anything is read
        own = None if model is None else str(model)
        loaded = load_run(resolve_run(run), chosen, precision, model=own, threshold=threshold)
        return cls(**loaded._asdict(), tta=tta, threshold=threshold)

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return next(self.model.parameters()).device

    @property
    def folds(self) -> list[Segmenter]:
        """A segmenter of each fold alone, with the weights that are in memory already; of a single run none."""
        models = list(self.model.members) if isinstance(self.model, FoldedModel) else []
        how = (self.classes, self.image_size, self.intensity, self.precision, "none", self.tta)
        threshold = None if self.threshold == HALF else self.threshold
        return [Segmenter(model, *how, threshold, self._window) for model in models]

    def predict(self, image: ImageLike) -> Prediction:
        """Segments one image of any size.

        Args:
            image: A path, the bytes of an image file, a file that is open for reading them, a PIL image, an array
                `(H, W)` of uint8 or uint16, or `(H, W, 3)` of uint8, or a tensor `(3, H, W)` of uint8. Arrays and
                tensors are RGB: what OpenCV has read is to be turned round, `image[..., ::-1]`. A run on bands takes
                arrays `(H, W, N)` and `(N, H, W)` of any numbers, in the units of its training images.

        Raises:
            InputError: If the image cannot be read, or is something else.
        """
        return self.predict_batch([image])[0]

    def predict_batch(self, images: Sequence[ImageLike]) -> list[Prediction]:
        """Segments several images at once; they may have different sizes. Of none, there is nothing to say: `[]`.

        Raises:
            InputError: As [`Segmenter.predict`], or if a single image is given.
        """
        check_several(images)
        predictions = []
        sources = [image_source(image, self.intensity) for image in images]
        if self.tiles is not None:
            return [self._in_windows(source, self.tiles) for source in sources]
        seen = [self.see(source) for source in sources]
        for (output, index), (_, size, _), source in zip(self.outputs([each.pixels for each in seen]), seen, sources):
            predictions.append(self._predicted(own_probabilities(output, index, size).cpu().numpy(), source))
        return predictions

    def _in_windows(self, source: _Source, tiles: Tiles) -> Prediction:
        with open_rows(source, self.intensity) as rows:
            found = whole_probabilities(self, rows, tiles, default_batch(self.device))
        return self._predicted(np.concatenate([1 - found, found]) if len(found) == 1 else found, source)

    def _predicted(self, probabilities: np.ndarray, source: _Source) -> Prediction:
        """The prediction that follows from the probabilities of all classes."""
        is_usual = self.threshold == HALF  # the class with the larger probability
        found = probabilities.argmax(axis=0) if is_usual else probabilities[1] > self.threshold
        return Prediction(found.astype(self.map_type), probabilities, self.classes, source, self.intensity)

    def predict_maps(self, images: Sequence[ImageLike | StoredImage]) -> list[np.ndarray]:
        """The semantic maps of [`Segmenter.predict_batch`] alone, in memory that does not grow with the classes."""
        check_several(images)
        if self.tiles is not None:
            return [self._map_in_windows(image, self.tiles) for image in images]
        return self.maps_of([self.see(image) for image in images])

    def _map_in_windows(self, image: ImageLike | StoredImage, tiles: Tiles) -> np.ndarray:
        source = image if isinstance(image, StoredImage) else image_source(image, self.intensity)
        with open_rows(source, self.intensity) as rows:
            bands = predict_bands(self, rows, tiles, batch_size=default_batch(self.device))
            return np.concatenate([semantic_map for _, semantic_map in bands])

    def see(self, image: ImageLike | StoredImage) -> SeenImage:
        """Reads an image to be seen whole by [`Segmenter.maps_of`]; this needs no device, and any thread may do it.

        A JPEG file much larger than the model's size is decoded at a fraction of its size, as in training.

        Raises:
            InputError: If the image cannot be read.
        """
        source = image if isinstance(image, StoredImage) else image_source(image, self.intensity)
        opened, size = read_seen(source, self.image_size, self.intensity)
        whole = picture_of(opened) if (opened.height, opened.width) == size else None
        return SeenImage(resize_image(opened, self.image_size), size, whole)

    def maps_of(self, images: Sequence[SeenImage]) -> list[np.ndarray]:
        """The semantic map of each image at its own size, of [`Segmenter.map_type`]."""
        outputs = self.outputs([image.pixels for image in images])
        return [self.map_of(output, index, image.size) for (output, index), image in zip(outputs, images)]

    def map_of(self, output: Any, index: int, size: tuple[int, int]) -> np.ndarray:
        """The semantic map of one image of a batch, of [`Segmenter.map_type`].

        Args:
            output: What [`Segmenter.outputs`] yields with the image.
            index: Likewise.
            size: The image's own (height, width).
        """
        # Eight bytes per pixel would be copied from a GPU, where one or two say the same.
        small = torch.uint8 if self.map_type is np.uint8 else torch.int32
        found = own_map(output, index, size, self.threshold)
        return found.to(small).cpu().numpy().astype(self.map_type, copy=False)

    def answer_of(self, output: Any, index: int, size: tuple[int, int], wanted: Wanted) -> Answer:
        """[`Segmenter.map_of`] with the probabilities that are wanted."""
        if any(wanted):
            return own_answer(output, index, size, wanted, self.threshold, self.map_type)
        return Answer(self.map_of(output, index, size))

    @property
    def map_type(self) -> type[np.unsignedinteger]:
        """What semantic maps are made of."""
        return np.uint8 if self.classes.num_classes <= 256 else np.uint16

    @property
    def value_without_class(self) -> int | None:
        """What `convlora predict` writes for pixels without data: the largest of [`map_type`], if it is no class."""
        largest = int(np.iinfo(self.map_type).max)
        return largest if largest >= self.classes.num_classes else None

    def predict_tiled(
        self, image: ImageLike, *, tile_size: int | None = None, overlap: float = OVERLAP, batch_size: int = 1
    ) -> np.ndarray:
        """Segments a large image at its own resolution, in overlapping windows whose results are blended.

        An image that fits into one window gives what [`Segmenter.predict`] gives. Of a run that was trained on windows
        [`Segmenter.predict`] sees all images in this way.

        Args:
            image: As for [`Segmenter.predict`]; TIFF files are read piece by piece if rasterio is installed.
            tile_size: Longer side of a window in pixels of the image; default: as of the windows it was trained on, or
                the model's own size.
            overlap: Overlap of neighbouring windows, as a share of the window.
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
        with open_rows(image_source(image, self.intensity), self.intensity) as rows:
            yield from predict_bands(self, rows, self._tiles_of(tile_size, overlap), batch_size=batch_size)

    def _tiles_of(self, size: int | None, overlap: float) -> Tiles:
        if self.tiles is None:
            return Tiles(size, overlap)
        return replace(self.tiles, size=self.tiles.size if size is None else size, overlap=overlap)

    def outputs(self, images: Sequence[torch.Tensor]) -> Iterator[tuple[Any, int]]:
        """What the model returns, in smaller batches where memory runs out.

        Args:
            images: Each `(C, h, w)` uint8 at the model's size.

        Yields:
            For each image in turn the output of its batch, and its place in that.
        """
        if images:
            yield from self._batches.outputs(self.forward, to_device(torch.stack(list(images)), self.device))

    @torch.inference_mode()
    def forward(self, images: torch.Tensor) -> Any:
        """What the model returns for a batch of images, `(B, C, h, w)` uint8 on its device, or for all flips of it."""
        output = self._members(to_pixel_values(images, self.intensity), self.tta)
        check_finite(output, self.precision)
        return output
