"""All measures of a run on some images."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from PIL import Image

from convlora.data.reading.bands import image_of, shown_bands
from convlora.data.reading.rows import open_rows
from convlora.data.reading.stored import StoredImage
from convlora.data.transforms import resize_image, to_pixel_values
from convlora.data.windows import mirrored
from convlora.inference.inputs import ImageLike, image_source
from convlora.inference.segmenter import Segmenter
from convlora.inspecting import attention_distance, detail_share, update_sizes
from convlora.inspecting.attention_distance import AttentionDistances
from convlora.inspecting.detail_share import DetailShare
from convlora.inspecting.gate_choices import LayerChoices, gather
from convlora.inspecting.layers import segmenter_of, without_adapters
from convlora.inspecting.receptive_field import Field, ReceptiveField
from convlora.inspecting.update_sizes import UpdateSizes
from convlora.methods.conv_lora.balance import watch_choices


@dataclass
class Findings:
    """What was measured. What does not apply to a model is empty or None.

    Attributes:
        names: Names of the images.
        images: As the model sees them.
        cell: Side of a cell of the image embedding in pixels.
        base_distances: Mean attention distance in pixels of each head, by block from 0, of the base encoder.
        distances: The same of the adapted encoder.
        choices: Choices of the gates.
        updates: Root mean square of each layer's update over that of its base output, by the layer's name.
        weights: `||dW||_F / ||W||_F` by name.
        base_field: Effective receptive field of the base encoder.
        adapted_field: Receptive field of the adapted encoder.
        details: What the detail branch adds to each image.
    """

    names: list[str]
    images: list[Image.Image] = field(default_factory=list)
    cell: float = 0.0
    base_distances: dict[int, list[float]] = field(default_factory=dict)
    distances: dict[int, list[float]] = field(default_factory=dict)
    choices: list[LayerChoices] = field(default_factory=list)
    updates: dict[str, float] = field(default_factory=dict)
    weights: dict[str, float] = field(default_factory=dict)
    base_field: Field | None = None
    adapted_field: Field | None = None
    details: list[DetailShare] = field(default_factory=list)


def measure(
    segmenter: Segmenter,
    images: Sequence[tuple[str, ImageLike | StoredImage]],
    *,
    fields: bool = True,
    track: Any = iter,
) -> Findings:
    """Measures a run. Of one that was trained on windows it looks at the window in the middle of each image.

    Args:
        segmenter: Segmenter of the run, in single precision.
        images: Their names and what they are read from. One is in memory at a time.
        fields: Whether to measure receptive fields.
        track: Is given the images, and gives them back one by one.

    Raises:
        InputError: If an image cannot be read.
    """
    model: Any = segmenter.model
    inner = segmenter_of(model)
    found = Findings([name for name, _ in images])
    listens = attention_distance.can_listen(model)
    distances = AttentionDistances(), AttentionDistances()
    both_fields = ReceptiveField(), ReceptiveField()
    updates, passes = UpdateSizes(), list[dict[str, list[torch.Tensor]]]()
    tracked: Iterable[tuple[str, ImageLike | StoredImage]] = track(images)
    for _, image in tracked:
        seen = _seen(segmenter, image)
        found.images.append(Image.fromarray(shown_bands(seen.permute(1, 2, 0).numpy())))
        pixels = to_pixel_values(seen[None].to(segmenter.device), segmenter.intensity)
        with torch.no_grad():
            with watch_choices(model) as chosen, detail_share.catching(model) as details:
                if listens:
                    with attention_distance.listening(model, distances[1]):
                        model(pixel_values=pixels)
                else:
                    model(pixel_values=pixels)
            passes.append(chosen)
            found.details += details
            if listens:
                with without_adapters(model, base=True), attention_distance.listening(model, distances[0]):
                    inner.get_image_embeddings(pixels)
            with update_sizes.comparing(model, updates):
                found.cell = pixels.shape[-2] / inner.get_image_embeddings(pixels).shape[-2]
        if fields:
            for is_adapted, one in enumerate(both_fields):
                with without_adapters(model, base=not is_adapted):
                    one.add(model, pixels)
    cells = [one.means() for one in distances]
    found.base_distances, found.distances = (
        {block: [found.cell * head for head in heads] for block, heads in one.items()} for one in cells
    )
    found.choices = gather(model, passes)
    found.updates, found.weights = updates.ratios(), update_sizes.weight_ratios(model)
    found.base_field, found.adapted_field = (one.field() for one in both_fields)
    return found


def _seen(segmenter: Segmenter, image: ImageLike | StoredImage) -> torch.Tensor:
    """What the model sees of an image, `(C, h, w)` uint8: all of it, or the window in its middle."""
    if segmenter.tiles is None:
        return segmenter.see(image).pixels
    window = segmenter.tiles.window(segmenter.image_size)
    source = image if isinstance(image, StoredImage) else image_source(image, segmenter.intensity)
    with open_rows(source, segmenter.intensity) as rows:
        sides = rows.height, rows.width
        top, left = (max(0, (whole - part) // 2) for whole, part in zip(sides, window))
        bottom, right = (min(first + part, whole) for first, part, whole in zip((top, left), window, sides))
        pixels = rows.read(top, bottom, left, right)
    return resize_image(image_of(mirrored(pixels, window)), segmenter.image_size)
