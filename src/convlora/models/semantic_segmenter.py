"""A segmenter: a vision encoder, a mask decoder with a head, and the loss."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

from convlora.losses import SetLossSettings, check_labels, per_pixel_loss, segmentation_loss, set_loss
from convlora.models.bands import encoder_bands, spread, take_bands
from convlora.models.configuration import as_size
from convlora.models.detail import FINEST
from convlora.models.drawing import MaskDecoder, Masks
from convlora.models.labels import KEYS, take_names
from convlora.models.layer_names import LayerNames
from convlora.models.mask_decoder import MultiClassMaskDecoder
from convlora.models.outputs import BinaryOutput, MultiClassOutput
from convlora.models.semantic_maps import class_scores

_TASK = ("loss", "ignore_index", "head", "num_mask_tokens", "detail", "bands", "attention", *KEYS)


def take_task(settings: dict[str, Any], num_classes: int | None, more: Sequence[str] = ()) -> dict[str, Any]:
    """Takes the settings of the task out of the arguments of `from_pretrained`.

    Args:
        settings: The arguments by name. What is left is for transformers.
        num_classes: Number of classes, if it was given.
        more: Settings that only this model has.
    """
    task = {key: settings.pop(key) for key in (*_TASK, *more) if key in settings}
    if num_classes is not None:
        task["num_classes"] = num_classes
    if settings.get("attn_implementation") in ("sdpa", "eager"):
        task.setdefault("attention", settings.pop("attn_implementation"))
    return task


class SemanticSegmenter(PreTrainedModel):
    """Pixels in, logits per pixel out; what all segmenters with a mask decoder share.

    A subclass makes `vision_encoder` and `mask_decoder` and says what they need of each other: image embeddings, their
    position code, and the names of the encoder's layers.

    Attributes:
        layer_names: The names of the encoder's layers, for methods that change them.
        num_prefix_tokens: Tokens of the encoder's rows that come before those of the image.
    """

    config: Any  # a PreTrainedConfig that is a TaskSettings
    main_input_name = "pixel_values"
    input_modalities = ("image",)
    supports_gradient_checkpointing = True
    _supports_sdpa = True
    accepts_loss_kwargs = False  # the loss is a mean over the batch: a Trainer has to divide it when it accumulates
    frozen_block_cache: Any = None  # of a training run, see `convlora.models.frozen_blocks`
    class_weights: torch.Tensor | None
    vision_encoder: nn.Module
    mask_decoder: MaskDecoder
    layer_names: LayerNames
    num_prefix_tokens = 0

    def _attention(self) -> str:
        """Transformers' name of how the encoder computes its attention."""
        return "sdpa" if self.config.attention == "auto" else self.config.attention

    def resize(self, image_size: int | tuple[int, int]) -> None:
        """Makes the model take images of another size.

        Args:
            image_size: (height, width) or one side of a square in pixels, divisible by the patch size.
        """
        resized = type(self.config)(**{**self.config.to_dict(), "image_size": list(as_size(image_size))})
        self.config.image_size = resized.image_size

    def use_training_defaults(self) -> None:
        """Sets what a training run may change later."""
        self.register_buffer("class_weights", None, persistent=False)
        self.set_loss_settings = SetLossSettings()
        self.logits_in_training = True  # several classes: a run that only reads the masks can do without

    def get_image_embeddings(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """Image embeddings `(B, C, h, w)` of images `(B, 3, H, W)`."""
        raise NotImplementedError

    def encoder_facts(self) -> dict[str, Any]:
        """What the vision encoder is like, for people: its kind under `kind`, and the rest by name."""
        raise NotImplementedError

    def encode(self, pixel_values: torch.Tensor) -> tuple[torch.Tensor, tuple[torch.Tensor, ...]]:
        """Image embeddings, and finer maps for a decoder that takes them, the finest first."""
        return self.get_image_embeddings(pixel_values), ()

    def draw_masks(self, pixel_values: torch.Tensor) -> Any:
        """What the mask decoder says of images `(B, 3, H, W)`: masks, and with several classes their class logits."""
        embeddings, finer = self.encode(pixel_values)
        return self.mask_decoder(
            embeddings,
            self.image_positional_embeddings().to(embeddings.dtype),
            self.no_mask_embedding(),
            pixel_values,
            finer,
        )

    def prefix_tokens_of(self, block: int) -> int:
        """Tokens that come before those of the image in a block of the encoder, which are numbered from 0."""
        return self.num_prefix_tokens

    def image_positional_embeddings(self) -> torch.Tensor:
        """Position code of every cell of the image embedding, `(1, C, h, w)`."""
        raise NotImplementedError

    def no_mask_embedding(self) -> torch.Tensor:
        """What a mask decoder that was trained with prompts expects where no mask is given, `(1, C, 1, 1)`."""
        raise NotImplementedError

    @property
    def is_gradient_checkpointing(self) -> bool:
        """Whether activations are computed again in the backward pass; without transformers' warning, as PEFT asks."""
        return self.is_activation_checkpointing

    def _settle_task(self, task: Mapping[str, Any]) -> None:
        """Gives the configuration settings of the task, all of them or none.

        Raises:
            ValueError: If they do not fit each other.
        """
        task = dict(task)
        names = take_names(task, self.config.id2label)
        if names is not None:
            task |= {"id2label": names, "label2id": {name: number for number, name in names.items()}}
        settled = type(self.config)(**{**self.config.to_dict(), **task})  # checks them
        for key in task:
            setattr(self.config, key, getattr(settled, key))

    def _change_head(self, task: Mapping[str, Any], new_head: bool) -> None:
        """Gives a saved model settings of the task.

        Args:
            task: The settings.
            new_head: Whether it may get a new head where the one that was saved does not fit them.

        Raises:
            ValueError: If it does not, or the settings do not fit each other.
        """
        before = self._head()
        self._settle_task(task)
        different = {key: (old, self._head()[key]) for key, old in before.items() if self._head()[key] != old}
        if different and not new_head:
            told = ", ".join(f"{key} {old}, not {new}" for key, (old, new) in different.items())
            raise ValueError(
                f"the model was saved with {told}. Load it as it is, give the model that it was made from, or ask "
                "for a new head that is to be trained (ignore_mismatched_sizes=True)"
            )
        if different.keys() - {"detail"}:
            self._use_head()
        elif different:
            self._use_detail()

    def _head(self) -> dict[str, Any]:
        """What the weights of the mask decoder depend on."""
        config = self.config
        tokens = config.mask_tokens_in_use
        if config.head_in_use == "binary":
            tokens = 1 if config.has_one_token else config.mask_decoder_config.num_multimask_outputs + 1
        return {
            "num_classes": config.num_classes,
            "head": config.head_in_use,
            "num_mask_tokens": tokens,
            "detail": config.detail,
            "bands": config.bands,
        }

    def _use_head(self) -> None:
        """Gives the mask decoder the head that the configuration names, a new one unless it is SAM's own."""
        config = self.config
        decoder: Any = self.mask_decoder
        if config.head_in_use != "binary":
            self.mask_decoder = MultiClassMaskDecoder.from_binary(
                decoder,
                num_classes=config.num_classes,
                num_mask_tokens=config.mask_tokens_in_use,
                head=config.head_in_use,
            )
        elif isinstance(decoder, MultiClassMaskDecoder):
            raise ValueError(
                "a head for several classes cannot be made into a binary one; give the model it was made from instead"
            )
        elif config.has_one_token:
            decoder.keep_first_token()
            config.mask_decoder_config.num_multimask_outputs = 0  # so that it is loaded as it was saved
        self._use_detail()

    def renew_detail(self) -> None:
        """Replaces the detail branch with a fresh one."""
        self.mask_decoder.detail = None
        self._use_detail()

    def _use_detail(self) -> None:
        """Gives the mask decoder the detail branch that the configuration names, a new one unless it has it."""
        bands = encoder_bands(self.config.bands)
        take_bands(self.vision_encoder, bands)
        finest, branch = FINEST[self.config.detail], self.mask_decoder.detail
        if finest is None:
            self.mask_decoder.detail = None
        elif branch is None or branch.finest != finest or branch.channels != bands:
            self.mask_decoder.add_detail(finest, bands)

    def forward(
        self,
        pixel_values: torch.Tensor,
        labels: torch.Tensor | None = None,
        return_dict: bool | None = None,
    ) -> BinaryOutput | MultiClassOutput | tuple[torch.Tensor, ...]:
        """Segments a batch of images.

        Args:
            pixel_values: Images `(B, 3, H, W)` with ImageNet's mean and standard deviation taken out, of the size in
                the configuration; or `(B, bands, H, W)` with those of each band taken out.
            labels: Class of each pixel, `(B, H, W)` integers, `ignore_index` where it is not known.
            return_dict: Return an output object or a tuple. Default: what the configuration says, an object.

        Returns:
            The loss, if labels are given, and the logits. The largest names the class: for the head `"binary"`
            those of both classes at the input's size, `(B, 2, H, W)`, see [`BinaryOutput`]; for several classes the
            logarithm of the class scores at a quarter of the input's size, `(B, K, h, w)`, and what they are made from,
            for `convlora.models.semantic_maps`: `mask_logits` `(B, N, h, w)` and `class_logits` `(B, N, K + 1)` (None
            for the head `"per-pixel"`). A tuple has them in this order.

        Raises:
            ValueError: If a label is neither a class nor `ignore_index`.
        """
        if labels is not None and not torch.compiler.is_compiling():  # a compiler cannot look at values
            check_labels(labels, self.config.num_classes, self.config.ignore_index)
        output: BinaryOutput | MultiClassOutput
        pixel_values = spread(pixel_values, self.config.bands)
        masks = self.draw_masks(pixel_values)
        if self.config.head_in_use != "binary":
            output = self._several_classes(*masks)
        else:
            output = self._binary(masks, pixel_values.shape[-2:])
        if labels is not None:
            output = type(output)(loss=self.loss_of(output, labels), **output)
        as_object = self.config.return_dict if return_dict is None else return_dict
        return output if as_object else output.to_tuple()

    def loss_of(self, output: BinaryOutput | MultiClassOutput, labels: torch.Tensor) -> torch.Tensor:
        """The loss of what [`forward`] returned, a scalar in single precision.

        Nothing waits for the device, except that the matches of mask classification are found on the host.

        Args:
            output: An output object.
            labels: As for `forward`, but not checked.
        """
        common: dict[str, Any] = {"ignore_index": self.config.ignore_index, "class_weights": self.class_weights}
        if isinstance(output, BinaryOutput):
            return segmentation_loss(self.config.loss, output.foreground.contiguous(), labels, **common)
        if output.mask_logits is None:
            raise ValueError("this output has no masks")
        if output.class_logits is None:
            return per_pixel_loss(output.mask_logits, labels, **common)
        return set_loss(output.mask_logits, output.class_logits, labels, settings=self.set_loss_settings, **common)

    @staticmethod
    def _binary(masks: Masks, size: torch.Size) -> BinaryOutput:
        # Interpolation and loss in single precision: half precision cannot tell probabilities near 1 apart.
        return BinaryOutput.of(masks.at(size))

    def _several_classes(self, masks: Masks, class_logits: torch.Tensor | None) -> MultiClassOutput:
        mask_logits = masks.finest()
        class_logits = None if class_logits is None else class_logits.float()
        wanted = self.logits_in_training or not self.training
        logits = class_scores(mask_logits, class_logits).clamp(min=1e-12).log() if wanted else None
        return MultiClassOutput(logits=logits, mask_logits=mask_logits, class_logits=class_logits)
