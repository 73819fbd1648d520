"""The vision encoders that a segmenter can be built on, one entry each."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import transformers

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
HALF = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
CLIP = ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))


def no_tokens(config: Any) -> int:
    """None, of whatever configuration."""
    return 0


def class_token(config: Any) -> int:
    """A class token, of whatever configuration."""
    return 1


def class_and_register_tokens(config: Any) -> int:
    """A class token and registers."""
    return 1 + int(config.num_register_tokens)


@dataclass(frozen=True)
class Family:
    """A kind of vision encoder whose blocks see one row of tokens, the cells of the image among them.

    Attributes:
        name: For people.
        config: The class of its configuration in transformers.
        model: The class of the model in transformers.
        prefix_tokens: Number of tokens before those of the cells, from a configuration.
        normalisation: Mean and standard deviation of the pixels it was pretrained with, unless its folder says
            otherwise.
        tower_of: The `model_type` of models of images and text whose vision tower it is.
        also: Other `model_type`s whose weights fit, each with its normalisation.
        unused: Weights that no answer depends on; they are never trained.
        build: Arguments of the class, for what is not needed to be left out.
        settings: Settings of the configuration, likewise.
        call: Arguments of the forward pass, for sizes other than the one of the pretraining.
        ends_with_norm: Whether its last hidden state is normalised.
    """

    name: str
    config: type[transformers.PreTrainedConfig]
    model: type[transformers.PreTrainedModel]
    prefix_tokens: Callable[[Any], int]
    normalisation: tuple[tuple[float, ...], tuple[float, ...]]
    tower_of: str | None = None
    also: Mapping[str, tuple[tuple[float, ...], tuple[float, ...]]] = field(default_factory=dict)
    unused: tuple[str, ...] = ()
    build: Mapping[str, Any] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    call: Mapping[str, Any] = field(default_factory=dict)
    ends_with_norm: bool = True

    @property
    def model_type(self) -> str:
        """As transformers calls it."""
        return self.config.model_type

    def normalisation_of(self, model_type: str | None) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Mean and standard deviation of the pixels that weights of this type were pretrained with."""
        return self.also.get(str(model_type), self.normalisation)

    def takes(self, model_type: str | None) -> bool:
        """Whether weights of this type fit."""
        return model_type in (self.model_type, self.tower_of, *self.also) and model_type is not None


_ANY_SIZE = {"interpolate_pos_encoding": True}
_MASK_TOKEN = ("embeddings.mask_token",)
FAMILIES = (
    Family("DINOv2", transformers.Dinov2Config, transformers.Dinov2Model, class_token, IMAGENET, unused=_MASK_TOKEN),
    Family(
        "DINOv2 with registers",
        transformers.Dinov2WithRegistersConfig,
        transformers.Dinov2WithRegistersModel,
        class_and_register_tokens,
        IMAGENET,
        unused=_MASK_TOKEN,
    ),
    Family(
        "DINOv3",
        transformers.DINOv3ViTConfig,
        transformers.DINOv3ViTModel,
        class_and_register_tokens,
        IMAGENET,
        unused=_MASK_TOKEN,
        settings={"pos_embed_rescale": None},  # in training it would scale the positions at random
    ),
    Family(
        "ViT",
        transformers.ViTConfig,
        transformers.ViTModel,
        class_token,
        HALF,
        also={"vit_mae": IMAGENET},
        build={"add_pooling_layer": False},
        call=_ANY_SIZE,
    ),
    Family(
        "CLIP",
        transformers.CLIPVisionConfig,
        transformers.CLIPVisionModel,
        class_token,
        CLIP,
        "clip",
        unused=("post_layernorm.weight", "post_layernorm.bias"),
        call=_ANY_SIZE,
        ends_with_norm=False,
    ),
    Family(
        "SigLIP",
        transformers.SiglipVisionConfig,
        transformers.SiglipVisionModel,
        no_tokens,
        HALF,
        "siglip",
        settings={"vision_use_head": False},
        call=_ANY_SIZE,
    ),
)


def find_family(model_type: str | None) -> Family | None:
    """The family whose weights a model of this type has; None if it is of none."""
    return next((family for family in FAMILIES if family.takes(model_type)), None)
