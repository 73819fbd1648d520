"""SAM, SAM 2, SAM 3 and plain ViTs as semantic segmenters, and a U-Net beside them."""

from transformers import AutoConfig, AutoModelForSemanticSegmentation

from convlora.models.configuration import SamSegmentationConfig
from convlora.models.encoder_configuration import EncoderSegmentationConfig
from convlora.models.encoder_segmenter import EncoderForSemanticSegmentation
from convlora.models.high_quality_segmenter import SamHQForSemanticSegmentation, SamHQSegmentationConfig
from convlora.models.sam2_configuration import Sam2SegmentationConfig
from convlora.models.sam2_segmenter import Sam2ForSemanticSegmentation
from convlora.models.sam3_configuration import Sam3SegmentationConfig
from convlora.models.sam3_segmenter import Sam3ForSemanticSegmentation
from convlora.models.segmenter import SamForSemanticSegmentation
from convlora.models.semantic_segmenter import SemanticSegmenter
from convlora.models.unet import UNetForSemanticSegmentation, UNetSegmentationConfig

SegmentationModel = SemanticSegmenter | UNetForSemanticSegmentation

__all__ = [
    "EncoderForSemanticSegmentation",
    "EncoderSegmentationConfig",
    "Sam2ForSemanticSegmentation",
    "Sam2SegmentationConfig",
    "Sam3ForSemanticSegmentation",
    "Sam3SegmentationConfig",
    "SamForSemanticSegmentation",
    "SamHQForSemanticSegmentation",
    "SamHQSegmentationConfig",
    "SamSegmentationConfig",
    "SegmentationModel",
    "UNetForSemanticSegmentation",
    "UNetSegmentationConfig",
]

AutoConfig.register(SamSegmentationConfig.model_type, SamSegmentationConfig, exist_ok=True)
AutoModelForSemanticSegmentation.register(SamSegmentationConfig, SamForSemanticSegmentation, exist_ok=True)
AutoConfig.register(EncoderSegmentationConfig.model_type, EncoderSegmentationConfig, exist_ok=True)
AutoModelForSemanticSegmentation.register(EncoderSegmentationConfig, EncoderForSemanticSegmentation, exist_ok=True)
AutoConfig.register(Sam2SegmentationConfig.model_type, Sam2SegmentationConfig, exist_ok=True)
AutoModelForSemanticSegmentation.register(Sam2SegmentationConfig, Sam2ForSemanticSegmentation, exist_ok=True)
AutoConfig.register(SamHQSegmentationConfig.model_type, SamHQSegmentationConfig, exist_ok=True)
AutoModelForSemanticSegmentation.register(SamHQSegmentationConfig, SamHQForSemanticSegmentation, exist_ok=True)
AutoConfig.register(Sam3SegmentationConfig.model_type, Sam3SegmentationConfig, exist_ok=True)
AutoModelForSemanticSegmentation.register(Sam3SegmentationConfig, Sam3ForSemanticSegmentation, exist_ok=True)
AutoConfig.register(UNetSegmentationConfig.model_type, UNetSegmentationConfig, exist_ok=True)
AutoModelForSemanticSegmentation.register(UNetSegmentationConfig, UNetForSemanticSegmentation, exist_ok=True)
