"""Configuration of SAM 2 as a semantic segmenter."""

from typing import TYPE_CHECKING, Any, ClassVar

from huggingface_hub.dataclasses import strict
from transformers import Sam2Config

from convlora.models.configuration import as_size, checked_size, settle_names
from convlora.models.task_settings import TaskSettings

CELL = 16  # pixels of a cell of the image embedding
MULTIPLE = 32  # pixels of a cell of the coarsest stage


@strict
class Sam2SegmentationConfig(TaskSettings, Sam2Config):
    """Configuration of [`Sam2ForSemanticSegmentation`]: SAM 2's own, plus the task.

    Args:
        image_size: Size of the images the model sees, (height, width) in pixels or one side of a square, divisible by
            32. Default: the size of the vision encoder's configuration.
        head: As of [`SamSegmentationConfig`], as are the others.
        num_mask_tokens: Likewise.
        ignore_index: Likewise.
        loss: Likewise.
        attention: How the encoder computes its attention: `"auto"`, or `"sdpa"` or `"eager"` of transformers.
        detail: As of [`SamSegmentationConfig`].
        bands: Likewise.
    """

    model_type = "convlora_sam2"
    attribute_map: ClassVar[dict[str, str]] = {"num_classes": "num_labels"}
    keys_to_ignore_at_inference: ClassVar[list[str]] = ["mask_logits", "class_logits"]

    image_size: int | list[int] | tuple[int, int] | None = None
    head: str = "auto"
    num_mask_tokens: int | str | None = None
    ignore_index: int = 255
    loss: str = "structure"
    attention: str = "auto"
    detail: str = "none"
    bands: int | None = None

    if TYPE_CHECKING:
        num_classes: int

    def __post_init__(self, **kwargs: Any) -> None:
        """Completes what is left open, and checks all of it."""
        settle_names(self, kwargs)
        super().__post_init__(**kwargs)
        own = self.vision_config.backbone_config.image_size
        self.image_size = checked_size(self.image_size if self.image_size is not None else own, MULTIPLE)
        if self.attention not in ("auto", "sdpa", "eager"):
            raise ValueError(
                f"attention '{self.attention}' is for the first SAM and SAM-HQ; SAM 2 takes auto, sdpa or eager"
            )
        self.check_task()

    @property
    def grid_size(self) -> tuple[int, int]:
        """Cells of the image embedding, (height, width)."""
        height, width = as_size(self.image_size)
        return height // CELL, width // CELL

    @property
    def patch_size(self) -> int:
        """What both sides of an image must be divisible by, in pixels."""
        return MULTIPLE

    @property
    def encoder_width(self) -> int:
        """Channels of the vision encoder's third stage, in which most of its blocks are."""
        return int(self.vision_config.backbone_config.embed_dim_per_stage[-2])
