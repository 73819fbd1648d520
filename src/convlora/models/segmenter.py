"""SAM as an end-to-end semantic segmenter."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel, SamModel
from transformers.models.sam.modeling_sam import SamPositionalEmbedding, SamPromptEncoder, SamVisionEncoder

from convlora.losses import SetLossSettings, check_labels, per_pixel_loss, segmentation_loss, set_loss
from convlora.models.attention import set_attention
from convlora.models.bundled import resolve_bundled
from convlora.models.checkpoints import (
    UNUSED,
    is_meta_checkpoint,
    load_meta_checkpoint,
    load_whole,
    read_model_type,
)
from convlora.models.configuration import SamSegmentationConfig, as_size
from convlora.models.detail import FINEST
from convlora.models.detail_file import load_detail
from convlora.models.frozen_blocks import FrozenBlockCache
from convlora.models.labels import KEYS, take_names
from convlora.models.mask_decoder import Masks, MultiClassMaskDecoder, SemanticMaskDecoder
from convlora.models.outputs import BinaryOutput, MultiClassOutput
from convlora.models.positions import resize_vision_encoder
from convlora.models.semantic_maps import class_scores
from convlora.models.weight_files import check_claims


class SamForSemanticSegmentation(PreTrainedModel):
    """The Segment Anything Model without prompts: pixels in, logits per pixel out.

    Built of transformers' SAM modules. The vision encoder sees the image, the prompt encoder only lends its "no mask"
    embedding, the mask decoder predicts one logit map for the foreground, or masks and their classes.

    The prompt encoder is frozen. What else is trained is for a method to say, e.g.
    `peft.get_peft_model(model, ConvLoraConfig(target_modules=["qkv"], modules_to_save=["mask_decoder"]))`.

    Example:
        >>> from convlora import SamForSemanticSegmentation
        >>> model = SamForSemanticSegmentation.from_pretrained("facebook/sam-vit-base", image_size=512)
        >>> loss, logits = model(pixel_values, labels=labels, return_dict=False)  # doctest: +SKIP

    Source: Zhong et al., "Convolution Meets LoRA", ICLR 2024, section 3.3.
    """

    config_class = SamSegmentationConfig
    config: SamSegmentationConfig
    base_model_prefix = "sam"
    main_input_name = "pixel_values"
    input_modalities = ("image",)
    _no_split_modules = ["SamVisionLayer"]  # noqa: RUF012 - transformers reads a list here
    _tied_weights_keys = {  # noqa: RUF012
        "prompt_encoder.shared_embedding.positional_embedding": "shared_image_embedding.positional_embedding"
    }
    supports_gradient_checkpointing = True
    frozen_block_cache: FrozenBlockCache | None = None  # of a training run, see `convlora.models.frozen_blocks`
    _supports_sdpa = True
    accepts_loss_kwargs = False  # the loss is a mean over the batch: a Trainer has to divide it when it accumulates
    class_weights: torch.Tensor | None

    def __init__(self, config: SamSegmentationConfig) -> None:
        super().__init__(config)
        self.shared_image_embedding = SamPositionalEmbedding(config.vision_config)
        self.vision_encoder = SamVisionEncoder(config.vision_config)
        resize_vision_encoder(self.vision_encoder, as_size(config.image_size))
        set_attention(self.vision_encoder, config.attention)
        self.prompt_encoder = SamPromptEncoder(config)
        # The decoder's attention is no PreTrainedModel, so it has to be told.
        config.mask_decoder_config._attn_implementation = config._attn_implementation
        self.mask_decoder = SemanticMaskDecoder(config.mask_decoder_config)
        self._use_head()
        self.register_buffer("class_weights", None, persistent=False)  # of a training run, as are these
        self.set_loss_settings = SetLossSettings()
        self.logits_in_training = True  # several classes: a run that only reads the masks can do without
        self.post_init()
        self.freeze_prompt_encoder()

    @property
    def is_gradient_checkpointing(self) -> bool:
        """Whether activations are computed again in the backward pass; without transformers' warning, as PEFT asks."""
        return self.is_activation_checkpointing

    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path: str | os.PathLike[str],
        *model_args: Any,
        num_classes: int | None = None,
        image_size: int | tuple[int, int] | None = None,
        attention: str | None = None,
        **kwargs: Any,
    ) -> SamForSemanticSegmentation:
        """Loads SAM from wherever it comes.

        Args:
            pretrained_model_name_or_path: A SAM on the Hugging Face Hub (`facebook/sam-vit-base`) or a folder saved
                by transformers, Meta's original `.pth` file, a folder saved by this class, or `"tiny"`, which comes
                with the package.
            num_classes: Number of classes, background included. Default: 2, or as saved. transformers' `num_labels`,
                `id2label` and `label2id` are taken too.
            image_size: (height, width) or one side of a square in pixels, divisible by 16; position tables are
                interpolated to it. Default: the size the checkpoint was made for.
            attention: How the vision encoder computes its attention: `"auto"` (the default, or as saved), `"blocks"`,
                `"vectors"`, or transformers' own `"sdpa"` or `"eager"`, which `attn_implementation` chooses too.
            **kwargs: `loss`, `ignore_index`, `head`, `num_mask_tokens` and `detail` of the configuration; everything
                else goes to transformers. With `ignore_mismatched_sizes=True` a folder saved by this class gets a new
                head where it was saved with one for other classes.

        Returns:
            The model in evaluation mode.

        Raises:
            InputError: If a `.pth` file is not a SAM, the model is of another kind, or weights are missing.
            ValueError: If the settings do not fit each other, or the head that was saved.
        """
        source = resolve_bundled(pretrained_model_name_or_path)
        if str(source) != str(pretrained_model_name_or_path) and "torch_dtype" not in kwargs:
            kwargs.setdefault("dtype", torch.float32)  # half precision is for keeping the package small
        if kwargs.pop("output_loading_info", False):
            raise ValueError("output_loading_info is not supported; load the SAM with transformers to see it.")
        own = ("loss", "ignore_index", "head", "num_mask_tokens", "detail", *KEYS)
        task: dict[str, Any] = {key: kwargs.pop(key) for key in own if key in kwargs}
        if num_classes is not None:
            task["num_classes"] = num_classes
        if attention is None and kwargs.get("attn_implementation") in ("sdpa", "eager"):
            attention = kwargs["attn_implementation"]
        if attention is not None:
            task["attention"] = attention
        if is_meta_checkpoint(source):
            dtype = kwargs.pop("dtype", kwargs.pop("torch_dtype", None))
            dtype = getattr(torch, dtype, None) if isinstance(dtype, str) else dtype  # "auto" is what the file holds
            stock = kwargs.pop("attn_implementation", None)
            model = cls.from_sam(load_meta_checkpoint(source, stock), image_size=image_size, **task)
            if isinstance(dtype, torch.dtype):
                model = model.to(dtype)
        elif read_model_type(source, kwargs) == SamSegmentationConfig.model_type:
            check_claims(cls, source, UNUSED, kwargs.get("subfolder", ""))
            new_head = kwargs.pop("ignore_mismatched_sizes", False)
            model = load_whole(super().from_pretrained, source, *model_args, **kwargs)
            model._change_head(task, new_head)
            if image_size is not None:
                model.resize(image_size)
        else:
            check_claims(SamModel, source, UNUSED, kwargs.get("subfolder", ""))
            sam = load_whole(SamModel.from_pretrained, source, *model_args, **kwargs)
            model = cls.from_sam(sam, image_size=image_size, **task)
            if model.mask_decoder.detail is not None:
                load_detail(model.mask_decoder.detail, Path(source) / kwargs.get("subfolder", ""))
        model.config._name_or_path = str(pretrained_model_name_or_path)
        set_attention(model.vision_encoder, model.config.attention)
        model.freeze_prompt_encoder()
        return model.eval()

    @classmethod
    def from_sam(
        cls, sam: SamModel, *, image_size: int | tuple[int, int] | None = None, **task: Any
    ) -> SamForSemanticSegmentation:
        """Builds a segmenter of a SAM's modules. The weights are taken over, not copied.

        Args:
            sam: transformers' SAM.
            image_size: (height, width) or one side of a square in pixels. Default: as the SAM's.
            **task: `num_classes`, `ignore_index`, `loss`, `attention` and more of [`SamSegmentationConfig`].

        Raises:
            ValueError: If the settings do not fit each other.
        """
        settings = sam.config.to_dict()
        for key in ("model_type", "architectures", "id2label", "label2id"):
            settings.pop(key, None)
        config = SamSegmentationConfig(**settings)
        config._attn_implementation = sam.config._attn_implementation
        with torch.device("meta"):
            model = cls(config)
        model.shared_image_embedding = sam.shared_image_embedding
        model.vision_encoder = sam.vision_encoder
        model.prompt_encoder = sam.prompt_encoder
        model.mask_decoder = SemanticMaskDecoder.from_sam(sam.mask_decoder)
        model._settle_task(task)
        model._use_head()
        set_attention(model.vision_encoder, model.config.attention)
        model.resize(image_size if image_size is not None else config.vision_config.image_size)
        model.freeze_prompt_encoder()
        return model

    def resize(self, image_size: int | tuple[int, int]) -> None:
        """Makes the model take images of another size, in place; position tables are interpolated.

        Args:
            image_size: (height, width) or one side of a square in pixels, divisible by 16.
        """
        settings = self.config.to_dict()
        settings["image_size"] = list(as_size(image_size))
        resized = SamSegmentationConfig(**settings)  # checks the size
        self.config.image_size = resized.image_size
        self.config.vision_config.image_size = resized.vision_config.image_size
        self.config.prompt_encoder_config.image_size = resized.prompt_encoder_config.image_size
        self.config.prompt_encoder_config.image_embedding_size = resized.prompt_encoder_config.image_embedding_size
        resize_vision_encoder(self.vision_encoder, as_size(resized.image_size))

    def _settle_task(self, task: Mapping[str, Any]) -> None:
        """Gives the configuration settings of the task, all of them or none.

        Raises:
            ValueError: If they do not fit each other.
        """
        task = dict(task)
        names = take_names(task, self.config.id2label)
        if names is not None:
            task |= {"id2label": names, "label2id": {name: number for number, name in names.items()}}
        settled = SamSegmentationConfig(**{**self.config.to_dict(), **task})  # checks them
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
                f"the model was saved with {told}. Load it as it is, give the SAM that it was made from, or ask for a "
                "new head that is to be trained (ignore_mismatched_sizes=True)"
            )
        if different.keys() - {"detail"}:
            self._use_head()
        elif different:
            self._use_detail()

    def _head(self) -> dict[str, Any]:
        """What the weights of the mask decoder depend on."""
        config = self.config
        tokens = None if config.head_in_use == "binary" else config.mask_tokens_in_use
        return {
            "num_classes": config.num_classes,
            "head": config.head_in_use,
            "num_mask_tokens": tokens,
            "detail": config.detail,
        }

    def _use_head(self) -> None:
        """Gives the mask decoder the head that the configuration names, a new one unless it is SAM's own."""
        config = self.config
        if config.head_in_use != "binary":
            self.mask_decoder = MultiClassMaskDecoder.from_binary(
                self.mask_decoder,
                num_classes=config.num_classes,
                num_mask_tokens=config.mask_tokens_in_use,
                head=config.head_in_use,
            )
        elif isinstance(self.mask_decoder, MultiClassMaskDecoder):
            raise ValueError("a head for several classes cannot be made into a binary one; give the SAM instead")
        self._use_detail()

    def renew_detail(self) -> None:
        """Replaces the detail branch with a fresh one."""
        self.mask_decoder.detail = None
        self._use_detail()

    def _use_detail(self) -> None:
        """Gives the mask decoder the detail branch that the configuration names, a new one unless it has it."""
        finest, branch = FINEST[self.config.detail], self.mask_decoder.detail
        if finest is None:
            self.mask_decoder.detail = None
        elif branch is None or branch.finest != finest:
            self.mask_decoder.add_detail(finest)

    def freeze_prompt_encoder(self) -> None:
        """Freezes what is never trained: the prompt encoder and the random Fourier features of positions."""
        self.prompt_encoder.requires_grad_(False)
        self.shared_image_embedding.requires_grad_(False)

    def get_input_embeddings(self) -> nn.Module:
        """The patch embedding."""
        return self.vision_encoder.get_input_embeddings()

    def image_positional_embeddings(self) -> torch.Tensor:
        """Position code of every cell of the image embedding, `(1, C, h, w)`."""
        height, width = self.config.grid_size
        table = self.shared_image_embedding.positional_embedding
        y = (torch.arange(height, device=table.device, dtype=table.dtype) + 0.5) / height
        x = (torch.arange(width, device=table.device, dtype=table.dtype) + 0.5) / width
        grid = torch.stack([x[None, :].expand(height, width), y[:, None].expand(height, width)], dim=-1)
        return self.shared_image_embedding(grid).permute(2, 0, 1).unsqueeze(0)

    def get_image_embeddings(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """Image embeddings `(B, C, h, w)` of images `(B, 3, H, W)`."""
        if self.frozen_block_cache is not None:
            return self.frozen_block_cache.encode(self.vision_encoder, pixel_values)
        return self.vision_encoder(pixel_values).last_hidden_state

    def forward(
        self,
        pixel_values: torch.Tensor,
        labels: torch.Tensor | None = None,
        return_dict: bool | None = None,
    ) -> BinaryOutput | MultiClassOutput | tuple[torch.Tensor, ...]:
        """Segments a batch of images.

        Args:
            pixel_values: Images `(B, 3, H, W)` with ImageNet's mean and standard deviation taken out, of the size in
                the configuration.
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
        embeddings = self.get_image_embeddings(pixel_values)
        masks = self.mask_decoder(
            embeddings,
            self.image_positional_embeddings().to(embeddings.dtype),
            self.prompt_encoder.no_mask_embed.weight.reshape(1, -1, 1, 1),
            pixel_values,
        )
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
