"""A segmenter as one function without options: images in, probabilities out."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from convlora.data.reading.bands import Reading
from convlora.data.transforms import statistics_of
from convlora.models import SegmentationModel
from convlora.models.outputs import BinaryOutput
from convlora.models.semantic_maps import class_scores


class ExportedSegmenter(nn.Module):
    """Images to the probabilities of their classes, with the normalisation inside.

    Programs that run such files divide the pixels by 255. Not all of them go on to take a mean and a standard
    deviation out, so that is done here.

    Args:
        model: The segmenter, in evaluation mode.
        image_size: (height, width) that it works at.
        reading: How the run reads images.

    Attributes:
        channels: Number of channels of the images.
    """

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(self, model: SegmentationModel, image_size: tuple[int, int], reading: Reading = "type") -> None:
        super().__init__()
        self.model = model
        self.image_size = image_size
        mean, std = statistics_of(reading)
        self.channels = len(mean)
        self.register_buffer("mean", torch.tensor(mean).view(-1, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(-1, 1, 1))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Segments a batch of images.

        Args:
            images: RGB, or bands, from 0 to 1, `(B, C, H, W)` float32, of the size of the model.

        Returns:
            Probabilities of the classes, `(B, K, H, W)` float32; they sum to 1 at every pixel.
        """
        output: Any = self.model(pixel_values=(images - self.mean) / self.std)
        if isinstance(output, BinaryOutput):
            foreground = torch.sigmoid(output.foreground.float())
            return torch.cat([1 - foreground, foreground], dim=1)
        masks = F.interpolate(output.mask_logits.float(), size=self.image_size, mode="bilinear", align_corners=False)
        scores = class_scores(masks, output.class_logits)
        return scores / scores.sum(dim=1, keepdim=True).clamp(min=1e-12)
