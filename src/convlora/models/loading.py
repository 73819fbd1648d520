"""Any segmenter from wherever its weights are: which class loads them is read from its configuration."""

from __future__ import annotations

import os
from typing import Any

from convlora.errors import InputError
from convlora.models.bundled import resolve_bundled
from convlora.models.checkpoints import is_meta_checkpoint, read_model_type
from convlora.models.configuration import SamSegmentationConfig
from convlora.models.encoder_segmenter import EncoderForSemanticSegmentation
from convlora.models.high_quality_segmenter import SamHQForSemanticSegmentation, SamHQSegmentationConfig
from convlora.models.kinds import SAM2S, SAM3S, SAM_HQS, SAMS
from convlora.models.sam2_configuration import Sam2SegmentationConfig
from convlora.models.sam2_segmenter import Sam2ForSemanticSegmentation
from convlora.models.sam3_configuration import Sam3SegmentationConfig
from convlora.models.sam3_segmenter import Sam3ForSemanticSegmentation
from convlora.models.segmenter import SamForSemanticSegmentation
from convlora.models.semantic_segmenter import SemanticSegmenter


def load_segmenter(source: str | os.PathLike[str], **settings: Any) -> SemanticSegmenter:
    """Loads a SAM or another vision encoder as a segmenter.

    Args:
        source: Hub id, folder or file; see `from_pretrained` of the classes.
        **settings: Settings for any of them.

    Raises:
        InputError: If it is none of them, or cannot be read.
        ValueError: If the settings do not fit each other.
    """
    place = resolve_bundled(source)
    kind = "sam" if is_meta_checkpoint(place) else read_model_type(place, settings)
    if not _is_plain_encoder(kind) and settings.pop("decoder", "sam") != "sam":
        raise InputError(
            f"'{source}' is a SAM, which has a mask decoder of its own. Leave model.decoder at sam, or take a plain "
            "encoder such as facebook/dinov2-base."
        )
    if kind in (*SAM2S, Sam2SegmentationConfig.model_type):
        return Sam2ForSemanticSegmentation.from_pretrained(source, **settings)
    if kind in (*SAM3S, Sam3SegmentationConfig.model_type):
        return Sam3ForSemanticSegmentation.from_pretrained(source, **settings)
    if kind in (*SAMS, SamSegmentationConfig.model_type):
        return SamForSemanticSegmentation.from_pretrained(source, **settings)
    if kind in (*SAM_HQS, SamHQSegmentationConfig.model_type):
        return SamHQForSemanticSegmentation.from_pretrained(source, **settings)
    return EncoderForSemanticSegmentation.from_pretrained(source, **settings)


def _is_plain_encoder(kind: str | None) -> bool:
    """Whether a model of this type is a vision encoder without a mask decoder, or unknown."""
    sams = [one.model_type for one in (Sam2SegmentationConfig, Sam3SegmentationConfig, SamSegmentationConfig)]
    return kind not in (*SAM2S, *SAM3S, *SAMS, *SAM_HQS, *sams, SamHQSegmentationConfig.model_type)
