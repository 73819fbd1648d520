"""SAM as an end-to-end semantic segmenter."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel, SamModel
from transformers.models.sam.modeling_sam import SamPositionalEmbedding, SamPromptEncoder, SamVisionEncoder

from convlora.errors import InputError
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
from convlora.models.detail_file import load_detail
from convlora.models.frozen_blocks import FrozenBlockCache
from convlora.models.kinds import SAMS
from convlora.models.labels import KEYS
from convlora.models.layer_names import sam_layers
from convlora.models.mask_decoder import SemanticMaskDecoder
from convlora.models.positions import positions_of_cells, resize_vision_encoder
from convlora.models.semantic_segmenter import SemanticSegmenter
from convlora.models.weight_files import check_claims


class SamForSemanticSegmentation(SemanticSegmenter):
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
    vision_encoder: SamVisionEncoder
    layer_names = sam_layers
    stock: type[PreTrainedModel] = SamModel  # transformers' class
    stock_kinds: tuple[str, ...] = SAMS
    name_of_kind = "SAM"
    frozen_block_cache: FrozenBlockCache | None = None
    _no_split_modules = ["SamVisionLayer"]  # noqa: RUF012 - transformers reads a list here
    _tied_weights_keys = {  # noqa: RUF012
        "prompt_encoder.shared_embedding.positional_embedding": "shared_image_embedding.positional_embedding"
    }

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
        self.use_training_defaults()
        self.post_init()
        self.freeze_prompt_encoder()

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
            **kwargs: `loss`, `ignore_index`, `head`, `num_mask_tokens`, `detail` and `bands` of the configuration;
                everything else goes to transformers. With `ignore_mismatched_sizes=True` a folder saved by this class
                gets a new head where it was saved with one for other classes.

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
        own = ("loss", "ignore_index", "head", "num_mask_tokens", "detail", "bands", *KEYS)
        task: dict[str, Any] = {key: kwargs.pop(key) for key in own if key in kwargs}
        if num_classes is not None:
            task["num_classes"] = num_classes
        if attention is None and kwargs.get("attn_implementation") in ("sdpa", "eager"):
            attention = kwargs["attn_implementation"]
        if attention is not None:
            task["attention"] = attention
        if is_meta_checkpoint(source):
            if cls.stock is not SamModel:
                raise InputError(f"'{source}' is one file. Give {cls.name_of_kind} as a folder saved by transformers.")
            dtype = kwargs.pop("dtype", kwargs.pop("torch_dtype", None))
            dtype = getattr(torch, dtype, None) if isinstance(dtype, str) else dtype  # "auto" is what the file holds
            stock = kwargs.pop("attn_implementation", None)
            model = cls.from_sam(load_meta_checkpoint(source, stock), image_size=image_size, **task)
            if isinstance(dtype, torch.dtype):
                model = model.to(dtype)
        elif (kind := read_model_type(source, kwargs)) not in (*cls.stock_kinds, cls.config_class.model_type):
            raise InputError(
                f"'{source}' holds a model of type '{kind}', not a {cls.name_of_kind}. Load it with "
                "convlora.models.loading.load_segmenter."
            )
        elif kind == cls.config_class.model_type:
            check_claims(cls, source, UNUSED, kwargs.get("subfolder", ""))
            new_head = kwargs.pop("ignore_mismatched_sizes", False)
            model = load_whole(super().from_pretrained, source, *model_args, **kwargs)
            model._change_head(task, new_head)
            if image_size is not None:
                model.resize(image_size)
        else:
            check_claims(cls.stock, source, UNUSED, kwargs.get("subfolder", ""))
            sam = load_whole(cls.stock.from_pretrained, source, *model_args, **kwargs)
            model = cls.from_sam(sam, image_size=image_size, **task)
            if model.mask_decoder.detail is not None:
                load_detail(model.mask_decoder.detail, Path(source) / kwargs.get("subfolder", ""))
        model.config._name_or_path = str(pretrained_model_name_or_path)
        set_attention(model.vision_encoder, model.config.attention)
        model.freeze_prompt_encoder()
        return model.eval()

    @classmethod
    def from_sam(
        cls, sam: Any, *, image_size: int | tuple[int, int] | None = None, **task: Any
    ) -> SamForSemanticSegmentation:
        """Builds a segmenter of a SAM's modules. The weights are taken over, not copied.

        Args:
            sam: transformers' model, a `SamModel` for this class.
            image_size: (height, width) or one side of a square in pixels. Default: as the SAM's.
            **task: `num_classes`, `ignore_index`, `loss`, `attention` and more of [`SamSegmentationConfig`].

        Raises:
            ValueError: If the settings do not fit each other.
        """
        settings = sam.config.to_dict()
        for key in ("model_type", "architectures", "id2label", "label2id"):
            settings.pop(key, None)
        config = cls.config_class(**settings)
        config._attn_implementation = sam.config._attn_implementation
        with torch.device("meta"):
            model = cls(config)
        model.shared_image_embedding = sam.shared_image_embedding
        model.take_encoder(sam)
        model.prompt_encoder = sam.prompt_encoder
        model.mask_decoder = SemanticMaskDecoder.from_sam(sam.mask_decoder)
        model._settle_task(task)
        model._use_head()
        set_attention(model.vision_encoder, model.config.attention)
        model.resize(image_size if image_size is not None else config.vision_config.image_size)
        model.freeze_prompt_encoder()
        return model

    def take_encoder(self, sam: Any) -> None:
        """Takes over the vision encoder of transformers' model."""
        self.vision_encoder = sam.vision_encoder

    def resize(self, image_size: int | tuple[int, int]) -> None:
        """Makes the model take images of another size, in place; position tables are interpolated.

        Args:
            image_size: (height, width) or one side of a square in pixels, divisible by 16.
        """
        settings = self.config.to_dict()
        settings["image_size"] = list(as_size(image_size))
        resized = self.config_class(**settings)  # checks the size
        self.config.image_size = resized.image_size
        self.config.vision_config.image_size = resized.vision_config.image_size
        self.config.prompt_encoder_config.image_size = resized.prompt_encoder_config.image_size
        self.config.prompt_encoder_config.image_embedding_size = resized.prompt_encoder_config.image_embedding_size
        resize_vision_encoder(self.vision_encoder, as_size(resized.image_size))

    def freeze_prompt_encoder(self) -> None:
        """Freezes what is never trained: the prompt encoder and the random Fourier features of positions."""
        self.prompt_encoder.requires_grad_(False)
        self.shared_image_embedding.requires_grad_(False)

    def encoder_facts(self) -> dict[str, Any]:
        """See [`SemanticSegmenter`]."""
        vision = self.config.vision_config
        return {
            "kind": self.name_of_kind,
            "blocks": vision.num_hidden_layers,
            "width": vision.hidden_size,
            "heads": vision.num_attention_heads,
            "window_size": vision.window_size,
            "blocks_with_global_attention": list(vision.global_attn_indexes),
        }

    def get_input_embeddings(self) -> nn.Module:
        """The patch embedding."""
        return self.vision_encoder.get_input_embeddings()

    def image_positional_embeddings(self) -> torch.Tensor:
        """Position code of every cell of the image embedding, `(1, C, h, w)`."""
        return positions_of_cells(self.shared_image_embedding, self.config.grid_size)

    def no_mask_embedding(self) -> torch.Tensor:
        """SAM's embedding of "no mask given", `(1, C, 1, 1)`."""
        return self.prompt_encoder.no_mask_embed.weight.reshape(1, -1, 1, 1)

    def get_image_embeddings(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """Image embeddings `(B, C, h, w)` of images `(B, 3, H, W)`."""
        if self.frozen_block_cache is not None:
            return self.frozen_block_cache.encode(self.vision_encoder, pixel_values)[0]
        return self.vision_encoder(pixel_values).last_hidden_state
