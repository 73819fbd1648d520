"""A plain ViT as an end-to-end semantic segmenter, with a fresh mask decoder of SAM's shape."""

from __future__ import annotations

import math
import os
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel
from transformers.models.sam.modeling_sam import SamLayerNorm

from convlora.errors import InputError
from convlora.models.checkpoints import load_whole, read_model_type
from convlora.models.configuration import as_size
from convlora.models.encoder_configuration import EncoderSegmentationConfig
from convlora.models.encoders.family import find_family
from convlora.models.encoders.source import read_normalisation
from convlora.models.encoders.token_encoder import TokenEncoder
from convlora.models.layer_names import vit_layers
from convlora.models.mask_decoder import SemanticMaskDecoder
from convlora.models.query_decoder import QueryMaskDecoder
from convlora.models.quiet import quietly
from convlora.models.random_sam import randomize
from convlora.models.semantic_segmenter import SemanticSegmenter, take_task
from convlora.models.weight_files import check_claims


class EncoderForSemanticSegmentation(SemanticSegmenter):
    """DINOv2, DINOv3, ViT, CLIP's or SigLIP's vision tower, and a mask decoder that starts at random.

    The encoder is transformers' own. A neck of SAM's shape brings its last hidden state to the width of the decoder; it
    is a part of the decoder and trained with it. With `decoder="eomt"` there is no decoder of SAM's shape: queries go
    through the encoder's last blocks, see `convlora.models.query_decoder`.

    Example:
        >>> model = EncoderForSemanticSegmentation.from_pretrained("facebook/dinov2-base")  # doctest: +SKIP
    """

    config_class = EncoderSegmentationConfig
    config: EncoderSegmentationConfig
    base_model_prefix = "segmenter"
    layer_names = vit_layers

    def __init__(self, config: EncoderSegmentationConfig) -> None:
        super().__init__(config)
        encoder: Any = config.encoder_config
        encoder._attn_implementation = self._attention()
        self._use_encoder(config.family.model(encoder, **config.family.build))
        self.num_prefix_tokens = config.family.prefix_tokens(encoder)
        config.mask_decoder_config._attn_implementation = config._attn_implementation  # type: ignore[union-attr]
        self._use_fresh_decoder()
        self.use_training_defaults()
        self.post_init()

    def _use_encoder(self, encoder: PreTrainedModel) -> None:
        config = self.config
        self.vision_encoder = TokenEncoder(encoder, config.family, config.image_mean or (), config.image_std or ())

    def _use_fresh_decoder(self) -> None:
        self._modules.pop("mask_decoder", None)
        self._use_head()

    def _use_head(self) -> None:
        """Gives the model the decoder and the head that the configuration names, see [`SemanticSegmenter`]."""
        config, before = self.config, self._modules.get("mask_decoder")
        self.vision_encoder.let_queries_in(config.query_blocks_in_use)  # type: ignore[operator]
        if config.decoder == "sam":
            if not isinstance(before, SemanticMaskDecoder):
                self.mask_decoder = fresh_decoder(config)
            super()._use_head()
            return
        self.mask_decoder = QueryMaskDecoder(
            config.encoder_width,
            config.patch_size,
            num_classes=config.num_classes,
            num_queries=config.queries,
            head=config.head_in_use,
            normalize=not config.family.ends_with_norm,
        )
        if isinstance(before, QueryMaskDecoder):
            self.mask_decoder.take_from(before)
        self._use_detail()

    def _head(self) -> dict[str, Any]:
        """See [`SemanticSegmenter`]."""
        return {"decoder": self.config.decoder, "query_blocks": self.config.query_blocks_in_use, **super()._head()}

    def _init_weights(self, module: nn.Module) -> None:
        """Nothing: the decoder has been initialised when it is here, and the encoder does it by itself."""

    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path: str | os.PathLike[str],
        *model_args: Any,
        num_classes: int | None = None,
        image_size: int | tuple[int, int] | None = None,
        **kwargs: Any,
    ) -> EncoderForSemanticSegmentation:
        """Loads an encoder, which gets a fresh decoder, or a folder saved by this class.

        Args:
            pretrained_model_name_or_path: Hub id or folder.
            num_classes: Number of classes, background included. Default: 2, or as saved.
            image_size: (height, width) or one side of a square in pixels, divisible by the patch size. Default: the
                encoder's.
            **kwargs: `loss`, `ignore_index`, `head`, `num_mask_tokens`, `decoder`, `query_blocks`, `detail` and
                `attention` of the configuration; everything else goes to transformers.

        Returns:
            The model in evaluation mode.

        Raises:
            InputError: If the model is of another kind, or weights are missing.
            ValueError: If the settings do not fit each other.
        """
        source, place = pretrained_model_name_or_path, kwargs.get("subfolder", "")
        task = take_task(kwargs, num_classes, ("decoder", "query_blocks"))
        kind = read_model_type(source, kwargs)
        if kind == EncoderSegmentationConfig.model_type:
            check_claims(cls, source, (), place)
            new_head = kwargs.pop("ignore_mismatched_sizes", False)
            model: EncoderForSemanticSegmentation = load_whole(super().from_pretrained, source, *model_args, **kwargs)
            model._change_head(task, new_head)
            model.vision_encoder.model.set_attn_implementation(model._attention())  # type: ignore[operator, union-attr]
            if image_size is not None:
                model.resize(image_size)
        else:
            family = find_family(kind)
            if family is None:
                raise InputError(
                    f"'{source}' holds a model of type '{kind}', which is no plain vision encoder. Load it with "
                    "convlora.models.loading.load_segmenter."
                )
            with quietly(source):  # that the type is another one
                check_claims(family.model, source, (), place)
            encoder = load_whole(
                family.model.from_pretrained, source, *model_args, **family.build, **family.settings, **kwargs
            )
            mean, std = family.normalisation_of(kind)
            normalisation = {"image_mean": list(mean), "image_std": list(std)} | read_normalisation(source, kwargs)
            model = cls.from_encoder(encoder, image_size=image_size, **normalisation, **task)
        model.config._name_or_path = str(source)
        return model.eval()

    @classmethod
    def from_encoder(
        cls, encoder: PreTrainedModel, *, image_size: int | tuple[int, int] | None = None, **settings: Any
    ) -> EncoderForSemanticSegmentation:
        """Builds a segmenter on an encoder, whose weights are taken over, not copied; the decoder is random.

        Args:
            encoder: One of transformers' models in `convlora.models.encoders.family`.
            image_size: (height, width) or one side of a square in pixels. Default: the encoder's.
            **settings: More of [`EncoderSegmentationConfig`].

        Raises:
            ValueError: If the settings do not fit each other.
        """
        size = None if image_size is None else list(as_size(image_size))
        config = EncoderSegmentationConfig(encoder_config=encoder.config, image_size=size, **settings)
        with torch.device("meta"):
            model = cls(config)
        model._use_encoder(encoder)
        model._use_fresh_decoder()
        encoder.set_attn_implementation(model._attention())
        model.mask_decoder.to(encoder.dtype)
        return model

    def encoder_facts(self) -> dict[str, Any]:
        """See [`SemanticSegmenter`]."""
        vision: Any = self.config.encoder_config
        return {
            "kind": self.config.family.name,
            "blocks": vision.num_hidden_layers,
            "width": vision.hidden_size,
            "heads": vision.num_attention_heads,
            "patch_size": vision.patch_size,
            "tokens_before_the_image": self.num_prefix_tokens,
        }

    def get_input_embeddings(self) -> nn.Module:
        """The patch embedding."""
        return self.vision_encoder.model.get_input_embeddings()  # type: ignore[union-attr, operator]

    def get_image_embeddings(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """Image embeddings `(B, C, h, w)` of images `(B, 3, H, W)`, as wide as the encoder."""
        if self.config.decoder == "eomt":  # the cells attend to the queries
            return self._with_queries(pixel_values)[0]
        embeddings: torch.Tensor = self.vision_encoder(pixel_values)
        return embeddings

    def _with_queries(self, pixel_values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        cells, queries = self.vision_encoder(pixel_values, self.mask_decoder.mask_tokens.weight)
        return cells, queries

    def draw_masks(self, pixel_values: torch.Tensor) -> Any:
        """See [`SemanticSegmenter`]."""
        if self.config.decoder == "eomt":
            return self.mask_decoder(*self._with_queries(pixel_values), pixel_values)
        return super().draw_masks(pixel_values)

    def prefix_tokens_of(self, block: int) -> int:
        """See [`SemanticSegmenter`]; queries are among them."""
        first = self.config.encoder_config.num_hidden_layers - self.config.query_blocks_in_use  # type: ignore[union-attr]
        return self.num_prefix_tokens + (self.config.queries if block >= first else 0)

    def image_positional_embeddings(self) -> torch.Tensor:
        """Position code of every cell of the image embedding, `(1, C, h, w)`."""
        like = self.mask_decoder.mask_tokens.weight
        return sine_positions(self.config.grid_size, like.shape[1], like.device, like.dtype)

    def no_mask_embedding(self) -> torch.Tensor:
        """Nothing: this decoder never saw a prompt."""
        return self.mask_decoder.mask_tokens.weight.new_zeros(1, 1, 1, 1)


def fresh_decoder(config: EncoderSegmentationConfig) -> SemanticMaskDecoder:
    """A random mask decoder of SAM's shape, with a neck that brings the encoder's output to its width."""
    of_sam: Any = config.mask_decoder_config
    decoder = SemanticMaskDecoder(of_sam)
    decoder.neck = make_neck(config.encoder_width, of_sam.hidden_size)
    randomize(decoder)
    return decoder


def make_neck(width: int, output: int) -> nn.Sequential:
    """Two convolutions and norms from an encoder's width to the decoder's, as SAM has them."""
    return nn.Sequential(
        nn.Conv2d(width, output, kernel_size=1, bias=False),
        SamLayerNorm(output, eps=1e-6, data_format="channels_first"),
        nn.Conv2d(output, output, kernel_size=3, padding=1, bias=False),
        SamLayerNorm(output, eps=1e-6, data_format="channels_first"),
    )


def sine_positions(grid_size: tuple[int, int], channels: int, device: torch.device, dtype: torch.dtype) -> torch.Tensor:
    """A position code of sines and cosines, rows in the first half of the channels, columns in the second.

    Args:
        grid_size: Cells, (height, width).
        channels: A multiple of 4.
        device: Device of the result.
        dtype: Type of the result.

    Returns:
        `(1, channels, height, width)`.

    Source: Carion et al., "End-to-End Object Detection with Transformers", 2020, appendix A.4.
    """
    quarter = channels // 4
    frequencies = 2 * math.pi / 10000 ** (torch.arange(quarter, device=device) / quarter)
    codes = []
    for cells in grid_size:
        angles = ((torch.arange(cells, device=device) + 0.5) / cells)[:, None] * frequencies
        codes.append(torch.cat([angles.sin(), angles.cos()], dim=1))
    rows, columns = codes
    height, width = grid_size
    both = torch.cat([rows[:, None].expand(-1, width, -1), columns[None].expand(height, -1, -1)], dim=-1)
    return both.permute(2, 0, 1)[None].to(dtype)
