"""Configuration of a segmenter on a vision encoder other than SAM's."""

from typing import TYPE_CHECKING, Any, ClassVar

from huggingface_hub.dataclasses import strict
from transformers import AutoConfig, PreTrainedConfig
from transformers.models.sam.configuration_sam import SamMaskDecoderConfig

from convlora.errors import InputError
from convlora.models.configuration import as_size, checked_size, settle_names
from convlora.models.encoders.family import FAMILIES, Family, find_family
from convlora.models.query_decoder import usual_query_blocks
from convlora.models.task_settings import TaskSettings

DECODERS = ("sam", "eomt")


@strict
class EncoderSegmentationConfig(TaskSettings, PreTrainedConfig):
    """Configuration of [`EncoderForSemanticSegmentation`].

    Args:
        encoder_config: transformers' configuration of the vision encoder, or the dictionary of one.
        mask_decoder_config: That of the mask decoder, which has SAM's shape.
        image_size: Size of the images the model sees, (height, width) in pixels or one side of a square, divisible by
            the encoder's patch size. Default: the encoder's.
        image_mean: Mean of the pixels that the encoder was pretrained with. Default: that of its family.
        image_std: Their standard deviation.
        head: As of [`SamSegmentationConfig`], as are the others.
        num_mask_tokens: Likewise.
        ignore_index: Likewise.
        loss: Likewise.
        attention: How the encoder computes its attention: `"auto"`, or `"sdpa"` or `"eager"` of transformers.
        detail: As of [`SamSegmentationConfig`].
        bands: Likewise.
        decoder: What draws the masks: `"sam"`, a mask decoder of SAM's shape, or `"eomt"`, queries in the encoder's
            last blocks, see `convlora.models.query_decoder`.
        query_blocks: How many of the last blocks see the queries. Default: see [`usual_query_blocks`].
    """

    model_type = "convlora_encoder"
    attribute_map: ClassVar[dict[str, str]] = {"num_classes": "num_labels"}
    keys_to_ignore_at_inference: ClassVar[list[str]] = ["mask_logits", "class_logits"]
    sub_configs: ClassVar[dict[str, Any]] = {"encoder_config": AutoConfig, "mask_decoder_config": SamMaskDecoderConfig}

    encoder_config: dict | PreTrainedConfig | None = None
    mask_decoder_config: dict | PreTrainedConfig | None = None
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
    decoder: str = "sam"
    query_blocks: int | None = None

    if TYPE_CHECKING:
        num_classes: int

    def __post_init__(self, **kwargs: Any) -> None:
        """Completes what is left open, and checks all of it."""
        settle_names(self, kwargs)
        given = self.encoder_config
        if given is None:
            given = FAMILIES[0].config()
        if isinstance(given, dict):
            family = find_family(given.get("model_type"))
            if family is None:
                raise ValueError(f"there is no vision encoder of the type {given.get('model_type')!r}")
            given = family.config(**{key: value for key, value in given.items() if key != "model_type"})
        self.encoder_config = given
        for key, value in self.family.settings.items():
            setattr(given, key, value)
        if not isinstance(self.mask_decoder_config, PreTrainedConfig):
            self.mask_decoder_config = SamMaskDecoderConfig(**(self.mask_decoder_config or {}))
        super().__post_init__(**kwargs)
        if not isinstance(given.patch_size, int) or given.patch_size < 1:
            raise InputError(
                f"The vision encoder's patch_size must be a whole number, got {given.patch_size!r}. Restore its "
                "config.json."
            )
        self.image_size = checked_size(
            self.image_size if self.image_size is not None else given.image_size, given.patch_size
        )
        mean, std = self.family.normalisation
        self.image_mean, self.image_std = list(self.image_mean or mean), list(self.image_std or std)
        if self.attention not in ("auto", "sdpa", "eager"):
            raise ValueError(
                f"attention '{self.attention}' is for SAM's vision encoder; this one takes auto, sdpa or eager"
            )
        self.check_task()
        if self.decoder not in DECODERS:
            raise ValueError(f"decoder must be one of {', '.join(DECODERS)}, got '{self.decoder}'")
        if self.query_blocks is not None and not 1 <= self.query_blocks <= given.num_hidden_layers:
            raise ValueError(
                f"query_blocks must be from 1 to the {given.num_hidden_layers} blocks of the encoder, got "
                f"{self.query_blocks}"
            )

    @property
    def query_blocks_in_use(self) -> int:
        """How many of the last blocks see queries."""
        if self.decoder != "eomt":
            return 0
        blocks = int(self.encoder_config.num_hidden_layers)  # type: ignore[union-attr]
        return self.query_blocks or usual_query_blocks(blocks)

    @property
    def queries(self) -> int:
        """Number of queries of the decoder `"eomt"`."""
        return 1 if self.head_in_use == "binary" else self.mask_tokens_in_use

    @property
    def mask_channels(self) -> int:
        """Channels of the features that masks are drawn on."""
        return self.encoder_width if self.decoder == "eomt" else self.mask_decoder_config.hidden_size // 8  # type: ignore[union-attr]

    @property
    def family(self) -> Family:
        """What the encoder is.

        Raises:
            ValueError: If there is no such encoder.
        """
        found = find_family(self.encoder_config.model_type)  # type: ignore[union-attr]
        if found is None:
            raise ValueError(f"there is no vision encoder of the type {self.encoder_config.model_type!r}")  # type: ignore[union-attr]
        return found

    @property
    def grid_size(self) -> tuple[int, int]:
        """Cells of the image embedding, (height, width)."""
        height, width = as_size(self.image_size)
        return height // self.patch_size, width // self.patch_size

    @property
    def patch_size(self) -> int:
        """Side of a cell in pixels."""
        return int(self.encoder_config.patch_size)  # type: ignore[union-attr]

    @property
    def encoder_width(self) -> int:
        """Channels of the vision encoder."""
        return int(self.encoder_config.hidden_size)  # type: ignore[union-attr]
