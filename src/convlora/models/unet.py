"""A U-Net as a semantic segmenter: what a SAM has to be better than."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import torch
from huggingface_hub.dataclasses import strict
from torch import nn
from transformers import PreTrainedConfig, PreTrainedModel

from convlora.losses import LOSSES, check_labels, per_pixel_loss, segmentation_loss
from convlora.models.configuration import IMAGE_MULTIPLE, checked_size, input_channels, settle_names
from convlora.models.outputs import BinaryOutput, MultiClassOutput
from convlora.models.semantic_maps import class_scores

IMAGE_SIZE = 256  # side in pixels, where none is given: a U-Net has no size of its own
GROUPS = 8


@strict
class UNetSegmentationConfig(PreTrainedConfig):
    """Configuration of [`UNetForSemanticSegmentation`].

    Args:
        image_size: Size of the images the model sees, (height, width) in pixels or one side of a square, divisible by
            16, as for a SAM. Default: 256.
        width: Channels at full resolution, divisible by 8; they double at each of the four levels below.
        num_classes: Number of classes, background included; transformers' `num_labels` is the same. `id2label` names
            them. Default: 2.
        head: `"binary"`, one logit map, for two classes; `"per-pixel"` for any number. `"auto"`: binary for two
            classes and per pixel for more.
        ignore_index: Label of pixels that count nowhere.
        loss: Name of the training loss of a binary task, see `convlora.losses`.
        bands: Channels of the input. Default: red, green and blue.
    """

    model_type = "convlora_unet"
    attribute_map: ClassVar[dict[str, str]] = {"num_classes": "num_labels"}
    keys_to_ignore_at_inference: ClassVar[list[str]] = ["mask_logits", "class_logits"]  # the Trainer's predictions

    image_size: int | list[int] | tuple[int, int] | None = None
    width: int = 16
    head: str = "auto"
    ignore_index: int = 255
    loss: str = "structure"
    bands: int | None = None

    if TYPE_CHECKING:
        num_classes: int

    def __post_init__(self, **kwargs: Any) -> None:
        """Checks the values."""
        settle_names(self, kwargs)
        super().__post_init__(**kwargs)
        self.image_size = checked_size(IMAGE_SIZE if self.image_size is None else self.image_size, IMAGE_MULTIPLE)
        if self.width < GROUPS or self.width % GROUPS:
            raise ValueError(f"width must be a multiple of {GROUPS}, got {self.width}")
        if self.num_classes < 2:
            raise ValueError(f"num_classes must be at least 2, background included, got {self.num_classes}.")
        if self.head not in ("auto", "binary", "per-pixel"):
            raise ValueError(f"the head of a U-Net is auto, binary or per-pixel, got '{self.head}'")
        if self.head == "binary" and self.num_classes != 2:
            raise ValueError(f"the head 'binary' is for two classes, got {self.num_classes}; leave it at 'auto'")
        if self.loss not in LOSSES:
            raise ValueError(f"loss must be one of {', '.join(LOSSES)}, got '{self.loss}'")

    @property
    def head_in_use(self) -> str:
        """The head, with `"auto"` decided."""
        if self.head != "auto":
            return self.head
        return "binary" if self.num_classes == 2 else "per-pixel"


class UNetForSemanticSegmentation(PreTrainedModel):
    """MONAI's `BasicUNet` behind the same interface as [`SamForSemanticSegmentation`]; all of it is trained.

    Its norms are group norms. They treat each image by itself, so a step of four images one by one is the step of four
    at once, and there are no running means that would differ between training and prediction.

    Source: Ronneberger et al., "U-Net", MICCAI 2015; https://docs.monai.io/en/stable/networks.html#basicunet.
    """

    config_class = UNetSegmentationConfig
    config: UNetSegmentationConfig
    base_model_prefix = "unet"
    main_input_name = "pixel_values"
    input_modalities = ("image",)
    accepts_loss_kwargs = False  # the loss is a mean over the batch
    class_weights: torch.Tensor | None
    vision_encoder = None  # nothing of it is pretrained or stays frozen
    frozen_block_cache = None

    def __init__(self, config: UNetSegmentationConfig) -> None:
        super().__init__(config)
        from monai.networks.nets import BasicUNet  # takes a second or two, and runs with a SAM do not need it

        width = config.width
        self.network: nn.Module = BasicUNet(
            spatial_dims=2,
            in_channels=input_channels(config),
            out_channels=1 if config.head_in_use == "binary" else config.num_classes,
            features=(width, 2 * width, 4 * width, 8 * width, 16 * width, width),
            norm=("group", {"num_groups": GROUPS}),
        )
        self.register_buffer("class_weights", None, persistent=False)  # of a training run, as is this
        self.logits_in_training = True
        self.post_init()

    @property
    def is_gradient_checkpointing(self) -> bool:
        """Whether activations are computed again in the backward pass; without transformers' warning, as PEFT asks."""
        return self.is_activation_checkpointing

    def _init_weights(self, module: nn.Module) -> None:
        # Those of PyTorch, which the network was built with; transformers' are meant for transformers.
        reset = getattr(module, "reset_parameters", None)
        if reset is not None:
            reset()

    def forward(
        self,
        pixel_values: torch.Tensor,
        labels: torch.Tensor | None = None,
        return_dict: bool | None = None,
    ) -> BinaryOutput | MultiClassOutput | tuple[torch.Tensor, ...]:
        """Segments a batch of images.

        Args:
            pixel_values: Images `(B, 3, H, W)` with ImageNet's mean and standard deviation taken out.
            labels: Class of each pixel, `(B, H, W)` integers, `ignore_index` where it is not known.
            return_dict: Return an output object or a tuple. Default: what the configuration says, an object.

        Returns:
            The loss, if labels are given, and the logits at the input's size: for the head `"binary"` those of both
            classes, `(B, 2, H, W)`, see [`BinaryOutput`]. For several classes the logarithm of the class scores,
            `(B, K, H, W)`, and `mask_logits`, from which they are made.

        Raises:
            ValueError: If a label is neither a class nor `ignore_index`.
        """
        if labels is not None and not torch.compiler.is_compiling():
            check_labels(labels, self.config.num_classes, self.config.ignore_index)
        # The loss in single precision: half precision cannot tell probabilities near 1 apart.
        logits = self.network(pixel_values).float()
        output: BinaryOutput | MultiClassOutput
        if self.config.head_in_use == "binary":
            output = BinaryOutput.of(logits)
        else:
            wanted = self.logits_in_training or not self.training
            scores = class_scores(logits, None).clamp(min=1e-12).log() if wanted else None
            output = MultiClassOutput(logits=scores, mask_logits=logits)
        if labels is not None:
            output = type(output)(loss=self.loss_of(output, labels), **output)
        as_object = self.config.return_dict if return_dict is None else return_dict
        return output if as_object else output.to_tuple()

    def loss_of(self, output: BinaryOutput | MultiClassOutput, labels: torch.Tensor) -> torch.Tensor:
        """The loss of what [`forward`] returned, a scalar in single precision; nothing waits for the device.

        Args:
            output: An output object.
            labels: As for `forward`, but not checked.
        """
        common: dict[str, Any] = {"ignore_index": self.config.ignore_index, "class_weights": self.class_weights}
        if isinstance(output, BinaryOutput):
            return segmentation_loss(self.config.loss, output.foreground.contiguous(), labels, **common)
        if output.mask_logits is None:
            raise ValueError("this output has no masks")
        return per_pixel_loss(output.mask_logits, labels, **common)
