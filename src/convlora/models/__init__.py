"""SAM as a semantic segmenter."""

from transformers import AutoConfig, AutoModelForSemanticSegmentation

from convlora.models.configuration import SamSegmentationConfig
from convlora.models.segmenter import SamForSemanticSegmentation

__all__ = ["SamForSemanticSegmentation", "SamSegmentationConfig"]

AutoConfig.register(SamSegmentationConfig.model_type, SamSegmentationConfig, exist_ok=True)
AutoModelForSemanticSegmentation.register(SamSegmentationConfig, SamForSemanticSegmentation, exist_ok=True)
