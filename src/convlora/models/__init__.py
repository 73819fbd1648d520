"""SAM as a semantic segmenter, and a U-Net beside it."""

from transformers import AutoConfig, AutoModelForSemanticSegmentation

from convlora.models.configuration import SamSegmentationConfig
from convlora.models.segmenter import SamForSemanticSegmentation
from convlora.models.unet import UNetForSemanticSegmentation, UNetSegmentationConfig

SegmentationModel = SamForSemanticSegmentation | UNetForSemanticSegmentation

__all__ = [
    "SamForSemanticSegmentation",
    "SamSegmentationConfig",
    "SegmentationModel",
    "UNetForSemanticSegmentation",
    "UNetSegmentationConfig",
]

AutoConfig.register(SamSegmentationConfig.model_type, SamSegmentationConfig, exist_ok=True)
AutoModelForSemanticSegmentation.register(SamSegmentationConfig, SamForSemanticSegmentation, exist_ok=True)
AutoConfig.register(UNetSegmentationConfig.model_type, UNetSegmentationConfig, exist_ok=True)
AutoModelForSemanticSegmentation.register(UNetSegmentationConfig, UNetForSemanticSegmentation, exist_ok=True)
