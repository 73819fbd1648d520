"""The models whose training steps are compared: a SAM of the true size with random weights, adapted and set up."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from harness import ROOT  # noqa: F401 - makes tests.helpers importable
from peft import PeftModel
from tests.helpers.direct_experts import use_direct_experts
from torch import nn
from transformers import SamConfig, SamVisionConfig

from convlora.methods.conv_lora import load_balancing_loss
from convlora.models import SamForSemanticSegmentation
from convlora.models.autocast import autocast
from convlora.models.build import adapt
from convlora.models.parameters import halve_frozen_weights
from convlora.models.random_sam import random_sam

SIZES = {
    "mini": {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "global_attn_indexes": [1]},
    "tiny": {"hidden_size": 192, "num_hidden_layers": 6, "num_attention_heads": 3, "global_attn_indexes": [2, 5]},
    "vit-b": {
        "hidden_size": 768,
        "num_hidden_layers": 12,
        "num_attention_heads": 12,
        "global_attn_indexes": [2, 5, 8, 11],
    },
    "vit-l": {
        "hidden_size": 1024,
        "num_hidden_layers": 24,
        "num_attention_heads": 16,
        "global_attn_indexes": [5, 11, 17, 23],
    },
    "vit-h": {
        "hidden_size": 1280,
        "num_hidden_layers": 32,
        "num_attention_heads": 16,
        "global_attn_indexes": [7, 15, 23, 31],
    },
}
BUNDLED = "bundled"  # the SAM that comes with the package, with its own weights


@dataclass(frozen=True)
class Kind:
    """How a model is fine-tuned and computes.

    Attributes:
        method: Its name in the registry.
        attention: The form of the vision encoder's attention, see `convlora.models.attention`.
        direct_experts: Whether the experts enlarge the maps, as the formula says.
        checkpointing: Whether activations are computed again in the backward pass.
        compile: The setting `training.compile`.
    """

    method: str = "conv-lora"
    attention: str = "auto"
    direct_experts: bool = False
    checkpointing: bool = False
    compile: str = "none"


PLAIN = Kind(attention="eager", direct_experts=True)  # the method as it is usually written


def sam_config(size: str) -> SamConfig:
    """The architecture of a published size."""
    return SamConfig(vision_config=SamVisionConfig(**SIZES[size], initializer_range=0.02))


def segmenter(
    size: str,
    image_size: int,
    *,
    attention: str = "auto",
    device: torch.device | None = None,
    **task: int | str | None,
) -> nn.Module:
    """A segmenter that is not adapted yet.

    Args:
        size: A key of [`SIZES`], or [`BUNDLED`].
        image_size: Side of the images in pixels.
        attention: The form of the attention.
        device: Where random weights are drawn, much faster on a GPU; the CPU if it is None.
        **task: `num_classes`, `head`, `num_mask_tokens` and `detail`.
    """
    if size == BUNDLED:
        return SamForSemanticSegmentation.from_pretrained("tiny", image_size=image_size, attention=attention, **task)
    with device or torch.device("cpu"):
        sam = random_sam(sam_config(size))
        return SamForSemanticSegmentation.from_sam(sam, image_size=image_size, attention=attention, **task)


def adapted(base: nn.Module, kind: Kind, precision: str, device: torch.device) -> PeftModel:
    """Adapts a segmenter, in training mode on its device; frozen weights are kept in the precision they are used in."""
    model = adapt(base, kind.method, {})
    if kind.direct_experts:
        use_direct_experts(model)
    base.logits_in_training = False  # as in a run
    halve_frozen_weights(base.vision_encoder, precision)
    model = model.to(device).train()
    if kind.checkpointing:
        base.activation_checkpointing_enable({"use_reentrant": False})
    return model


def random_batch(batch_size: int, image_size: int, classes: int, device: torch.device) -> dict[str, torch.Tensor]:
    """Random pixels, with labels in patches rather than single pixels, as in real maps.

    Every class occurs in every image where there is room.
    """
    side = image_size // 16
    cells = torch.arange(batch_size * side**2, device=device) % classes
    labels = cells.view(batch_size, side, side).repeat_interleave(16, 1).repeat_interleave(16, 2)
    return {"pixel_values": torch.randn(batch_size, 3, image_size, image_size, device=device), "labels": labels}


def loss_of(model: nn.Module, batch: dict[str, torch.Tensor], device: torch.device, precision: str) -> torch.Tensor:
    """What a training step minimises: the task's loss plus the load-balancing loss."""
    with autocast(device, precision):
        return model(**batch).loss + load_balancing_loss(model)


def trained_parameters(model: nn.Module) -> list[nn.Parameter]:
    """The parameters that are trained."""
    return [parameter for parameter in model.parameters() if parameter.requires_grad]
