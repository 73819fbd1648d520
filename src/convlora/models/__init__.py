"""SAM and plain ViTs as semantic segmenters, and a U-Net beside them."""

from transformers import AutoConfig, AutoModelForSemanticSegmentation

from convlora.models.configuration import SamSegmentationConfig
from convlora.models.encoder_configuration import EncoderSegmentationConfig
from convlora.models.encoder_segmenter import EncoderForSemanticSegmentation
from convlora.models.segmenter import SamForSemanticSegmentation
from convlora.models.semantic_segmenter import SemanticSegmenter
from convlora.models.unet import UNetForSemanticSegmentation, UNetSegmentationConfig

SegmentationModel = SemanticSegmenter | UNetForSemanticSegmentation

__all__ = [
    "EncoderForSemanticSegmentation",
    "EncoderSegmentationConfig",
    "SamForSemanticSegmentation",
    "SamSegmentationConfig",
    "SegmentationModel",
    "UNetForSemanticSegmentation",
    "UNetSegmentationConfig",
]

AutoConfig.register(SamSegmentationConfig.model_type, SamSegmentationConfig, exist_ok=True)
AutoModelForSemanticSegmentation.register(SamSegmentationConfig, SamForSemanticSegmentation, exist_ok=True)
AutoConfig.register(EncoderSegmentationConfig.model_type, EncoderSegmentationConfig, exist_ok=True)
AutoModelForSemanticSegmentation.register(EncoderSegmentationConfig, EncoderForSemanticSegmentation, exist_ok=True)
AutoConfig.register(UNetSegmentationConfig.model_type, UNetSegmentationConfig, exist_ok=True)
AutoModelForSemanticSegmentation.register(UNetSegmentationConfig, UNetForSemanticSegmentation, exist_ok=True)
