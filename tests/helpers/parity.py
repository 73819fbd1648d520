"""Loss and gradients of the same small segmenter on several devices, in several forms."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import nn

from convlora.methods.conv_lora import load_balancing_loss
from convlora.methods.registry import METHODS, apply_method
from convlora.models.autocast import autocast
from convlora.models.layer_names import MODULES_TO_SAVE, sam_layers
from convlora.models.parameters import halve_frozen_weights
from tests.helpers.models import tiny_segmenter


class Gradients(NamedTuple):
    """A loss, and the gradients of all that is trained in one vector in double precision on the CPU."""

    loss: float
    vector: torch.Tensor


def small_model(method: str = "conv-lora", attention: str = "auto") -> nn.Module:
    """A small adapted segmenter in training mode, whose trained weights have moved from where they start.

    The gate draws no noise, because generators of different devices give different numbers.
    """
    base = tiny_segmenter(method, attention=attention)
    options = {"gate_noise": False} if "gate_noise" in METHODS[method].defaults else {}
    torch.manual_seed(0)
    model = apply_method(base, method, options, targets=sam_layers, modules_to_save=MODULES_TO_SAVE)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(0.05 * torch.randn_like(parameter))
    return model.train()


def small_batch(batch_size: int = 2) -> dict[str, torch.Tensor]:
    """Random pixels, and labels that depend on them."""
    pixels = torch.randn(batch_size, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    return {"pixel_values": pixels, "labels": (pixels[:, 0] > 0).long()}


def gradients(model: nn.Module, batch: dict[str, torch.Tensor], device: torch.device, precision: str) -> Gradients:
    """Computes loss and gradients of a copy of a model."""
    model = copy.deepcopy(model)
    halve_frozen_weights(model.base_model.model.vision_encoder, precision)
    model = model.to(device)
    batch = {name: value.to(device) for name, value in batch.items()}
    with exact_float32():
        with autocast(device, precision):
            loss = model(**batch).loss + load_balancing_loss(model)
        loss.backward()
    found = [p.grad.detach().double().flatten().cpu() for p in model.parameters() if p.requires_grad]
    return Gradients(loss.item(), torch.cat(found))


def difference(one: Gradients, other: Gradients) -> dict[str, float]:
    """How far the loss and the vector of gradients are apart, relative to those of the second."""
    distance = (one.vector - other.vector).norm() / other.vector.norm()
    return {"loss": abs(one.loss - other.loss) / abs(other.loss), "gradient": distance.item()}


@contextlib.contextmanager
def exact_float32() -> Iterator[None]:
    """Single precision that is not rounded to TF32, which convolutions are on a GPU unless told otherwise."""
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    before = matmul.allow_tf32, cudnn.allow_tf32
    matmul.allow_tf32 = cudnn.allow_tf32 = False
    try:
        yield
    finally:
        matmul.allow_tf32, cudnn.allow_tf32 = before
