"""Any segmenter from wherever its weights are: which class loads them is read from its configuration."""

from __future__ import annotations

import os
from typing import Any

from convlora.models.bundled import resolve_bundled
from convlora.models.checkpoints import is_meta_checkpoint, read_model_type
from convlora.models.configuration import SamSegmentationConfig
from convlora.models.encoder_segmenter import EncoderForSemanticSegmentation
from convlora.models.segmenter import SamForSemanticSegmentation
from convlora.models.semantic_segmenter import SemanticSegmenter

_SAMS = ("sam", SamSegmentationConfig.model_type)


def load_segmenter(source: str | os.PathLike[str], **settings: Any) -> SemanticSegmenter:
    """Loads a SAM or another vision encoder as a segmenter.

    Args:
        source: Hub id, folder or file; see `from_pretrained` of both classes.
        **settings: Of either.

    Raises:
        InputError: If it is neither, or cannot be read.
        ValueError: If the settings do not fit each other.
    """
    place = resolve_bundled(source)
    if is_meta_checkpoint(place) or read_model_type(place, settings) in _SAMS:
        return SamForSemanticSegmentation.from_pretrained(source, **settings)
    return EncoderForSemanticSegmentation.from_pretrained(source, **settings)
