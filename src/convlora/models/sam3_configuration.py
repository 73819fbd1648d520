"""Configuration of SAM 3 as a semantic segmenter."""

from typing import TYPE_CHECKING, Any, ClassVar

from huggingface_hub.dataclasses import strict
from transformers import Sam3TrackerConfig

from convlora.errors import InputError
from convlora.models.configuration import as_size, checked_size, settle_names
from convlora.models.encoders.family import HALF
from convlora.models.task_settings import TaskSettings

SCALES = (4.0, 2.0, 1.0)  # of the maps that the mask decoder takes


@strict
class Sam3SegmentationConfig(TaskSettings, Sam3TrackerConfig):
    """Configuration of [`Sam3ForSemanticSegmentation`]: that of SAM 3's tracker, plus the task.

    Args:
        image_size: Size of the images the model sees, (height, width) in pixels or one side of a square, divisible by
            the patch size (14). Default: the size of the vision encoder's configuration.
        image_mean: Mean of the pixels that the encoder was pretrained with. Default: 0.5.
        image_std: Their standard deviation. Default: 0.5.
        head: As of [`SamSegmentationConfig`], as are the others.
        num_mask_tokens: Likewise.
        ignore_index: Likewise.
        loss: Likewise.
        attention: How the encoder computes its attention: `"auto"`, or `"sdpa"` or `"eager"` of transformers.
        detail: As of [`SamSegmentationConfig`].
        bands: Likewise.
    """

    model_type = "convlora_sam3"
    attribute_map: ClassVar[dict[str, str]] = {"num_classes": "num_labels"}
    keys_to_ignore_at_inference: ClassVar[list[str]] = ["mask_logits", "class_logits"]

    image_size: int | list[int] | tuple[int, int] | None = None
    image_mean: list[float] | tuple[float, ...] | None = None
    image_std: list[float] | tuple[float, ...] | None = None
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
        vision: Any = self.vision_config
        backbone = vision.backbone_config
        if not isinstance(backbone.patch_size, int) or backbone.patch_size < 1:
            raise InputError(
                f"The vision encoder's patch_size must be a whole number, got {backbone.patch_size!r}. Restore its "
                "config.json."
            )
        if tuple(vision.scale_factors[:3]) != SCALES:
            raise InputError(
                f"The vision encoder's scale_factors must begin with {list(SCALES)}, got {vision.scale_factors!r}. "
                "Restore its config.json."
            )
        vision.scale_factors = list(SCALES)  # of a coarser map, which the published ones have, nothing is made
        size = self.image_size if self.image_size is not None else backbone.image_size
        self.image_size = checked_size(size, backbone.patch_size)
        backbone.image_size = list(self.image_size)  # so that tables of positions have as many rows as there are cells
        mean, std = HALF
        self.image_mean, self.image_std = list(self.image_mean or mean), list(self.image_std or std)
        if self.attention not in ("auto", "sdpa", "eager"):
            raise ValueError(
                f"attention '{self.attention}' is for the first SAM and SAM-HQ; SAM 3 takes auto, sdpa or eager"
            )
        self.check_task()

    @property
    def grid_size(self) -> tuple[int, int]:
        """Cells of the image embedding, (height, width)."""
        height, width = as_size(self.image_size)
        return height // self.patch_size, width // self.patch_size

    @property
    def patch_size(self) -> int:
        """Side of a cell in pixels, by which both sides of an image must be divisible."""
        return int(self.vision_config.backbone_config.patch_size)

    @property
    def encoder_width(self) -> int:
        """Channels of the vision encoder."""
        return int(self.vision_config.backbone_config.hidden_size)
