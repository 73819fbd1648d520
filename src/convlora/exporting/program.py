"""From a trained segmenter to a program of `torch.export`."""

from __future__ import annotations

from typing import Any

import torch
from peft import PeftModel
from peft.tuners.lora import LoraModel
from torch.export import Dim, ExportedProgram

from convlora.data.reading.bands import Reading
from convlora.exporting.halving import halve
from convlora.exporting.network import ExportedSegmenter
from convlora.methods.conv_lora import ConvLoraConfig
from convlora.models import SegmentationModel

INPUT, OUTPUT, BATCH = "images", "probabilities", "batch"
"""Names in the files; the last is that of a size which is left open."""

LARGEST_BATCH = 1 << 16


def network_of(model: Any, image_size: tuple[int, int], precision: str, reading: Reading = "type") -> ExportedSegmenter:
    """The function that is exported. The segmenter is changed and serves for nothing else afterwards.

    LoRA and DoRA are merged into the weights, which then compute the same. What depends on the image, as Conv-LoRA's
    experts do, stays beside them.

    Args:
        model: A trained segmenter, as PEFT wraps it, in single precision on the CPU.
        image_size: (height, width) that it works at.
        precision: `"fp32"` or `"fp16"`.
        reading: How the run reads images.
    """
    inner: SegmentationModel = _without_lora(model) if isinstance(model, PeftModel) else model
    inner.eval()
    if precision == "fp16":
        halve(inner)
    return ExportedSegmenter(inner, image_size, reading).eval()


def _without_lora(model: PeftModel) -> Any:
    config = model.peft_config[model.active_adapter]
    if isinstance(model.base_model, LoraModel) and not isinstance(config, ConvLoraConfig):
        return model.merge_and_unload()
    return model.base_model.model


def program_of(network: ExportedSegmenter, batch: int | None) -> ExportedProgram:
    """A program of a network.

    Args:
        network: See [`network_of`].
        batch: Images at a time; None: any number. An exporter that had settled on one would raise.
    """
    # Sizes of 0 and 1 are taken for constants by the exporter.
    images = torch.zeros(2 if batch is None else batch, network.channels, *network.image_size)
    shapes = {INPUT: {0: Dim(BATCH, min=1, max=LARGEST_BATCH)}} if batch is None else None
    with torch.no_grad():
        return torch.export.export(network, (images,), dynamic_shapes=shapes, strict=False)
