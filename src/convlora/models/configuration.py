"""Configuration of SAM as a semantic segmenter."""

from typing import TYPE_CHECKING, Any, ClassVar

from huggingface_hub.dataclasses import strict
from transformers import SamConfig

from convlora.models.labels import COUNTS, take_names
from convlora.models.task_settings import TaskSettings

IMAGE_MULTIPLE = 16  # SAM's patch size in pixels
LARGEST_SIDE = 4096  # pixels; attention to all of a larger image at once takes hours


@strict
class SamSegmentationConfig(TaskSettings, SamConfig):
    """Configuration of [`SamForSemanticSegmentation`]: SAM's own, plus the task.

    Args:
        image_size: Size of the images the model sees, (height, width) in pixels or one side of a square, divisible by
            the patch size (16). Default: the size of the vision encoder's configuration.
        num_classes: Number of classes, background included; transformers' `num_labels` is the same. `id2label` names
            them. Default: 2.
        head: How classes are told apart: `"binary"`, one logit map, for two classes; `"mask-classification"` or
            `"per-pixel"` for more, see `convlora.models.mask_decoder`. `"auto"`: binary for two classes and mask
            classification for more.
        num_mask_tokens: Mask tokens of the head `"mask-classification"`; at least as many as there are classes in any
            one image. `"auto"`, or None: one per class, which always suffices. The head `"binary"` has SAM's four, of
            which it reads the first; 1 leaves out the other three, as in the published implementation.
        ignore_index: Label of pixels that count nowhere.
        loss: Name of the training loss, see `convlora.losses`.
        detail: A convolutional branch for what is thinner than SAM's patches, see `convlora.models.detail`: `"none"`,
            `"half"` to draw at half of the image's size, or `"full"`.
        bands: Channels of the input, see `convlora.models.bands`. Default: red, green and blue.
        attention: How the vision encoder computes its attention, see `convlora.models.attention.set_attention`.
    """

    model_type = "convlora_sam"
    attribute_map: ClassVar[dict[str, str]] = {"num_classes": "num_labels"}
    keys_to_ignore_at_inference: ClassVar[list[str]] = ["mask_logits", "class_logits"]  # the Trainer's predictions

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
        """Brings the sizes of all parts in line with `image_size`, and the names of the classes with their number."""
        settle_names(self, kwargs)
        super().__post_init__(**kwargs)
        vision, prompt = self.vision_config, self.prompt_encoder_config
        patch = vision.patch_size
        height, width = checked_size(self.image_size if self.image_size is not None else vision.image_size, patch)
        self.check_task()
        self.image_size = [height, width]
        # transformers' modules know squares only; the segmenter itself gives the tables their true size.
        vision.image_size = max(height, width)
        prompt.image_size = max(height, width)
        prompt.image_embedding_size = max(height, width) // patch

    @property
    def grid_size(self) -> tuple[int, int]:
        """Cells of the image embedding, (height, width)."""
        height, width = as_size(self.image_size)
        return height // self.vision_config.patch_size, width // self.vision_config.patch_size

    @property
    def encoder_width(self) -> int:
        """Channels of the vision encoder."""
        return self.vision_config.hidden_size


def settle_names(config: Any, settings: dict[str, Any]) -> None:
    """Gives a configuration that is being made the names of its classes.

    Args:
        config: The configuration, whose fields are set.
        settings: Everything else that it was made from; what concerns the classes is taken out.

    Raises:
        ValueError: If two settings contradict each other.
    """
    counts = {key: settings.pop(key, None) for key in COUNTS}
    names = take_names({**counts, "id2label": config.id2label, "label2id": config.label2id})
    config.id2label = names if names is not None else {0: "LABEL_0", 1: "LABEL_1"}
    config.label2id = {name: number for number, name in config.id2label.items()}


def input_channels(config: object) -> int:
    """Channels of what a model is given: 3, or its bands."""
    return getattr(config, "bands", None) or 3


def as_size(image_size: Any) -> tuple[int, int]:
    """(height, width) of a size given as one side of a square or as a pair."""
    if isinstance(image_size, int):
        return image_size, image_size
    height, width = image_size
    return int(height), int(width)


def checked_size(image_size: Any, multiple: int) -> list[int]:
    """[height, width] of a size that a model can work at.

    Args:
        image_size: See [`as_size`].
        multiple: What both sides must be divisible by, in pixels.

    Raises:
        ValueError: If they are not, or one is above [`LARGEST_SIDE`].
    """
    height, width = as_size(image_size)
    if max(height, width) > LARGEST_SIDE:
        raise ValueError(
            f"The image size must be at most {LARGEST_SIDE}, got {height} x {width}. Larger images are resized, or "
            "predicted in windows (convlora predict --tile)."
        )
    if height % multiple or width % multiple or min(height, width) < multiple:
        raise ValueError(
            f"The image size must be divisible by {multiple}, got {height} x {width}. "
            f"Nearest that is: {_nearest(height, multiple)} x {_nearest(width, multiple)}."
        )
    return [height, width]


def _nearest(side: int, multiple: int) -> int:
    return max(multiple, round(side / multiple) * multiple)


def encoder_width(config: object) -> int | None:
    """Channels of a vision encoder; None for a network without one."""
    return getattr(config, "encoder_width", None)
