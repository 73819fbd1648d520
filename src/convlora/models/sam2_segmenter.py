"""SAM 2 and 2.1 as an end-to-end semantic segmenter of images."""

from __future__ import annotations

import os
from typing import Any

import torch
from torch import nn
from transformers import Sam2Model, Sam2VisionModel
from transformers.models.sam2.modeling_sam2 import Sam2PositionalEmbedding, Sam2PromptEncoder

from convlora.errors import InputError
from convlora.models.checkpoints import SAM2S, load_whole, read_model_type
from convlora.models.configuration import as_size
from convlora.models.layer_names import hiera_layers
from convlora.models.mask_decoder import SemanticMaskDecoder
from convlora.models.positions import positions_of_cells
from convlora.models.quiet import quietly
from convlora.models.sam2_configuration import Sam2SegmentationConfig
from convlora.models.semantic_segmenter import SemanticSegmenter, take_task
from convlora.models.weight_files import check_claims

_UNUSED = (
    "prompt_encoder.point_embed.",
    "prompt_encoder.mask_embed.",
    "prompt_encoder.not_a_point_embed.",
    "prompt_encoder.shared_embedding.",
    "mask_decoder.pred_obj_score_head.",
    "mask_decoder.iou_prediction_head.",
)


class Sam2ForSemanticSegmentation(SemanticSegmenter):
    """SAM 2 without prompts and memory: pixels in, logits per pixel out.

    Built of transformers' SAM 2 modules. The mask decoder is SAM 2's own, with the finer maps of the Hiera encoder, and
    is trained like SAM's; what is for videos is left out.

    Example:
        >>> model = Sam2ForSemanticSegmentation.from_pretrained("facebook/sam2.1-hiera-tiny")  # doctest: +SKIP

    Source: Ravi et al., "SAM 2: Segment Anything in Images and Videos", 2024.
    """

    config_class = Sam2SegmentationConfig
    config: Sam2SegmentationConfig
    base_model_prefix = "sam2"
    vision_encoder: Sam2VisionModel
    layer_names = hiera_layers

    def __init__(self, config: Sam2SegmentationConfig) -> None:
        super().__init__(config)
        config.vision_config._attn_implementation = self._attention()
        config.mask_decoder_config._attn_implementation = config._attn_implementation
        self.shared_image_embedding = Sam2PositionalEmbedding(config.prompt_encoder_config)
        self.vision_encoder = Sam2VisionModel(config.vision_config)
        self.prompt_encoder = Sam2PromptEncoder(config.prompt_encoder_config)
        self.no_memory_embedding = nn.Parameter(torch.zeros(1, 1, config.vision_config.fpn_hidden_size))
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
        **kwargs: Any,
    ) -> Sam2ForSemanticSegmentation:
        """Loads SAM 2 or 2.1, of images or videos, or a folder saved by this class.

        Args:
            pretrained_model_name_or_path: Hub id or folder.
            num_classes: Number of classes, background included. Default: 2, or as saved.
            image_size: (height, width) or one side of a square in pixels, divisible by 32. Default: 1024.
            **kwargs: `loss`, `ignore_index`, `head`, `num_mask_tokens`, `detail` and `attention` of the configuration;
                everything else goes to transformers.

        Returns:
            The model in evaluation mode.

        Raises:
            InputError: If the model is of another kind, or weights are missing.
            ValueError: If the settings do not fit each other.
        """
        source, place = pretrained_model_name_or_path, kwargs.get("subfolder", "")
        task = take_task(kwargs, num_classes)
        kind = read_model_type(source, kwargs)
        if kind not in (*SAM2S, Sam2SegmentationConfig.model_type):
            raise InputError(
                f"'{source}' holds a model of type '{kind}', not a SAM 2. Load it with "
                "convlora.models.loading.load_segmenter."
            )
        if kind == Sam2SegmentationConfig.model_type:
            check_claims(cls, source, _UNUSED, place)
            new_head = kwargs.pop("ignore_mismatched_sizes", False)
            model: Sam2ForSemanticSegmentation = load_whole(super().from_pretrained, source, *model_args, **kwargs)
            model._change_head(task, new_head)
            model.vision_encoder.set_attn_implementation(model._attention())
            if image_size is not None:
                model.resize(image_size)
        else:
            with quietly(source):  # that a model of videos is taken for one of images
                check_claims(Sam2Model, source, _UNUSED, place)
            sam = load_whole(Sam2Model.from_pretrained, source, *model_args, unused=_UNUSED, **kwargs)
            model = cls.from_sam(sam, image_size=image_size, **task)
        model.config._name_or_path = str(source)
        model.freeze_prompt_encoder()
        return model.eval()

    @classmethod
    def from_sam(
        cls, sam: Sam2Model, *, image_size: int | tuple[int, int] | None = None, **task: Any
    ) -> Sam2ForSemanticSegmentation:
        """Builds a segmenter of SAM 2's modules. The weights are taken over, not copied.

        Args:
            sam: transformers' SAM 2.
            image_size: (height, width) or one side of a square in pixels. Default: as SAM 2's.
            **task: More of [`Sam2SegmentationConfig`].

        Raises:
            ValueError: If the settings do not fit each other.
        """
        settings = sam.config.to_dict()
        for key in ("model_type", "architectures", "id2label", "label2id"):
            settings.pop(key, None)
        size = None if image_size is None else list(as_size(image_size))
        config = Sam2SegmentationConfig(**settings, image_size=size)
        with torch.device("meta"):
            model = cls(config)
        model.shared_image_embedding = sam.shared_image_embedding
        model.vision_encoder = sam.vision_encoder
        model.prompt_encoder = sam.prompt_encoder
        model.no_memory_embedding = sam.no_memory_embedding
        model.mask_decoder = SemanticMaskDecoder.from_sam(sam.mask_decoder)
        model._settle_task(task)
        model._use_head()
        model.vision_encoder.set_attn_implementation(model._attention())
        model.freeze_prompt_encoder()
        return model

    def freeze_prompt_encoder(self) -> None:
        """Freezes what is never trained."""
        self.prompt_encoder.requires_grad_(False)
        self.no_memory_embedding.requires_grad_(False)

    def encoder_facts(self) -> dict[str, Any]:
        """See [`SemanticSegmenter`]."""
        backbone = self.config.vision_config.backbone_config
        return {
            "kind": "SAM 2",
            "blocks_of_stages": list(backbone.blocks_per_stage),
            "width_of_stages": list(backbone.embed_dim_per_stage),
            "heads_of_stages": list(backbone.num_attention_heads_per_stage),
            "window_sizes": list(backbone.window_size_per_stage),
            "blocks_with_global_attention": list(backbone.global_attention_blocks),
        }

    def get_input_embeddings(self) -> nn.Module:
        """The patch embedding."""
        return self.vision_encoder.get_input_embeddings()

    def encode(self, pixel_values: torch.Tensor) -> tuple[torch.Tensor, tuple[torch.Tensor, ...]]:
        """Image embeddings `(B, C, h, w)` and finer maps `(B, C, 4h, 4w)` and `(B, C, 2h, 2w)`."""
        *finer, coarse = self.vision_encoder(pixel_values).fpn_hidden_states
        return coarse + self.no_memory_embedding.view(1, -1, 1, 1), tuple(finer)

    def get_image_embeddings(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """Image embeddings `(B, C, h, w)` of images `(B, 3, H, W)`."""
        return self.encode(pixel_values)[0]

    def image_positional_embeddings(self) -> torch.Tensor:
        """Position code of every cell of the image embedding, `(1, C, h, w)`."""
        return positions_of_cells(self.shared_image_embedding, self.config.grid_size)

    def no_mask_embedding(self) -> torch.Tensor:
        """SAM 2's embedding of "no mask given", `(1, C, 1, 1)`."""
        return self.prompt_encoder.no_mask_embed.weight.reshape(1, -1, 1, 1)
