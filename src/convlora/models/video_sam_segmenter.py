"""What the SAMs that were made for videos have in common as segmenters of images."""

from __future__ import annotations

import os
from typing import Any, ClassVar, Self

import torch
from torch import nn
from transformers import PreTrainedModel
from transformers.models.sam2.modeling_sam2 import Sam2Model
from transformers.models.sam3_tracker.modeling_sam3_tracker import Sam3TrackerModel

from convlora.errors import InputError
from convlora.models.checkpoints import load_whole, read_model_type
from convlora.models.configuration import as_size
from convlora.models.mask_decoder import SemanticMaskDecoder
from convlora.models.positions import positions_of_cells
from convlora.models.quiet import quietly
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


class VideoSamSegmenter(SemanticSegmenter):
    """A SAM 2 or SAM 3 without prompts and memory: pixels in, logits per pixel out.

    The mask decoder is the SAM's own, with finer maps of the encoder, and is trained like SAM's; what is for videos is
    left out.

    Attributes:
        name: For people.
        sam_class: transformers' model for images.
        sam_types: The `model_type`s whose weights fit it.
        renames: Names of weights in files, as regular expressions, that transformers does not know by itself.
    """

    name: ClassVar[str]
    sam_class: ClassVar[type[PreTrainedModel]]
    sam_types: ClassVar[tuple[str, ...]]
    renames: ClassVar[dict[str, str]] = {}
    shared_image_embedding: nn.Module
    prompt_encoder: nn.Module
    no_memory_embedding: nn.Parameter

    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path: str | os.PathLike[str],
        *model_args: Any,
        num_classes: int | None = None,
        image_size: int | tuple[int, int] | None = None,
        **kwargs: Any,
    ) -> Self:
        """Loads a SAM of this kind, of images or videos, or a folder saved by this class.

        Args:
            pretrained_model_name_or_path: Hub id or folder.
            num_classes: Number of classes, background included. Default: 2, or as saved.
            image_size: (height, width) or one side of a square in pixels, see the configuration. Default: the SAM's.
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
        kind, own = read_model_type(source, kwargs), cls.config_class.model_type
        if kind not in (*cls.sam_types, own):
            raise InputError(
                f"'{source}' holds a model of type '{kind}', not a {cls.name}. Load it with "
                "convlora.models.loading.load_segmenter."
            )
        if kind == own:
            check_claims(cls, source, _UNUSED, place)
            new_head = kwargs.pop("ignore_mismatched_sizes", False)
            model: Self = load_whole(super().from_pretrained, source, *model_args, **kwargs)
            model._change_head(task, new_head)
            model._settle_attention()
            model.resize(image_size if image_size is not None else model.config.image_size)
        else:
            with quietly(source):  # that a model of videos is taken for one of images
                check_claims(cls.sam_class, source, _UNUSED, place)
            names = {"key_mapping": cls.renames} if cls.renames else {}
            sam = load_whole(cls.sam_class.from_pretrained, source, *model_args, unused=_UNUSED, **names, **kwargs)
            model = cls.from_sam(sam, image_size=image_size, **cls._read_beside(source, kwargs), **task)
        model.config._name_or_path = str(source)
        model.freeze_prompt_encoder()
        return model.eval()

    @classmethod
    def _read_beside(cls, source: str | os.PathLike[str], kwargs: dict[str, Any]) -> dict[str, Any]:
        """Settings that files beside the weights name."""
        return {}

    @classmethod
    def from_sam(
        cls, sam: Sam2Model | Sam3TrackerModel, *, image_size: int | tuple[int, int] | None = None, **settings: Any
    ) -> Self:
        """Builds a segmenter of a SAM's modules. The weights are taken over, not copied.

        Args:
            sam: transformers' model.
            image_size: (height, width) or one side of a square in pixels. Default: as the SAM's.
            **settings: More of the configuration.

        Raises:
            ValueError: If the settings do not fit each other.
        """
        known = cls.config_class().to_dict().keys() - {"model_type", "architectures", "id2label", "label2id"}
        of_sam = {key: value for key, value in sam.config.to_dict().items() if key in known}
        size = None if image_size is None else list(as_size(image_size))
        task = take_task(settings, None)
        config = cls.config_class(**{**of_sam, **settings, "image_size": size})
        with torch.device("meta"):
            model = cls(config)
        model.shared_image_embedding = sam.shared_image_embedding
        model._use_encoder(sam.vision_encoder)
        model.prompt_encoder = sam.prompt_encoder
        model.no_memory_embedding = sam.no_memory_embedding
        model.mask_decoder = SemanticMaskDecoder.from_sam(sam.mask_decoder)
        model._settle_task(task)
        model._use_head()
        model._settle_attention()
        model.resize(config.image_size)
        model.freeze_prompt_encoder()
        return model

    def _use_encoder(self, encoder: Any) -> None:
        """Takes over transformers' vision encoder."""
        self.vision_encoder = encoder

    def _settle_attention(self) -> None:
        """Gives the vision encoder the attention of the configuration."""
        self.vision_encoder.set_attn_implementation(self._attention())  # type: ignore[operator]

    def freeze_prompt_encoder(self) -> None:
        """Freezes what is never trained."""
        self.prompt_encoder.requires_grad_(False)
        self.no_memory_embedding.requires_grad_(False)

    def _maps(self, pixel_values: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Maps of the vision encoder `(B, C, 4h, 4w)`, `(B, C, 2h, 2w)` and `(B, C, h, w)`."""
        raise NotImplementedError

    def encode(self, pixel_values: torch.Tensor) -> tuple[torch.Tensor, tuple[torch.Tensor, ...]]:
        """Image embeddings `(B, C, h, w)` and finer maps `(B, C, 4h, 4w)` and `(B, C, 2h, 2w)`."""
        *finer, coarse = self._maps(pixel_values)
        return coarse + self.no_memory_embedding.view(1, -1, 1, 1), tuple(finer)

    def get_image_embeddings(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """Image embeddings `(B, C, h, w)` of images `(B, 3, H, W)`."""
        return self.encode(pixel_values)[0]

    def image_positional_embeddings(self) -> torch.Tensor:
        """Position code of every cell of the image embedding, `(1, C, h, w)`."""
        return positions_of_cells(self.shared_image_embedding, self.config.grid_size)

    def no_mask_embedding(self) -> torch.Tensor:
        """The SAM's embedding of "no mask given", `(1, C, 1, 1)`."""
        embedding: Any = self.prompt_encoder.no_mask_embed
        weight: torch.Tensor = embedding.weight
        return weight.reshape(1, -1, 1, 1)
