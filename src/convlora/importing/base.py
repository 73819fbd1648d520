"""The SAM that AutoGluon has fine-tuned, as it was before: from its own file, or from where it came."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from convlora.data.transforms import IMAGE_MEAN, IMAGE_STD
from convlora.errors import InputError, shown
from convlora.importing.settings import NORMS, Training
from convlora.importing.weights import Converted
from convlora.models import SamForSemanticSegmentation, SamSegmentationConfig
from convlora.models.architecture import architecture_of
from convlora.models.bundled import absolute
from convlora.models.checkpoints import UNUSED, is_meta_checkpoint
from convlora.models.loading import load_segmenter
from convlora.runs.adapters import difference

_DECODER = "mask_decoder."
_POSITIONS = "shared_image_embedding.positional_embedding"
_TIED = "prompt_encoder.shared_embedding.positional_embedding"


@dataclass(frozen=True)
class Base:
    """The model beneath the adapter.

    Attributes:
        model: The segmenter.
        source: Where it is; None: it has to be written, because it is nowhere else as it is here.
    """

    model: SamForSemanticSegmentation
    source: str | None


def find_base(converted: Converted, training: Training, model: str | None, task: Mapping[str, Any], place: str) -> Base:
    """Makes the model beneath the adapter.

    Args:
        converted: The weights of the predictor.
        training: What the predictor says about its model.
        model: The SAM that was fine-tuned, if the user names it.
        task: `num_classes`, `id2label`, `head`, `num_mask_tokens` and `ignore_index`.
        place: The file of weights, for messages.

    Raises:
        InputError: If there is none, or another than the file's.
    """
    own, as_ours = _from_file(converted, task, place), training.image_norm == "imagenet"
    if own is not None and model is not None and not as_ours:
        raise InputError(
            f"--model has no effect: '{place}' holds the SAM, and it has to be written into the run, because it takes "
            f"images that are normalised as '{training.image_norm}' does. Leave out --model."
        )
    if own is not None and model is None:
        base = Base(own, None)
    else:
        base = _from_source(converted, training, model, task, place, is_whole=own is not None)
    if not as_ours:
        _take_imagenet_pixels(base.model, training.image_norm)
        return Base(base.model, None)
    return base


def _from_file(converted: Converted, task: Mapping[str, Any], place: str) -> SamForSemanticSegmentation | None:
    """The model from the file of weights alone; None if these are not all."""
    weights = {**converted.frozen, **converted.decoder}
    if "vision_encoder.patch_embed.projection.weight" not in weights:
        return None
    try:
        settings = architecture_of(weights).to_dict()
        for key in ("model_type", "architectures", "id2label", "label2id"):
            settings.pop(key, None)
        config = SamSegmentationConfig(**settings, **task)
        with torch.device("meta"):
            model = SamForSemanticSegmentation(config)
    except KeyError:
        return None
    except (IndexError, ValueError, ArithmeticError, TypeError) as error:
        raise InputError(
            f"The weights in '{place}' are not those of a SAM ({shown(error)}). Restore the file."
        ) from error
    needed = {name: list(value.shape) for name, value in model.state_dict().items()}
    weights[_TIED] = weights[_POSITIONS]
    for name, shape in needed.items():
        if name.startswith(UNUSED):  # what no prompt ever reaches
            weights.setdefault(name, torch.zeros(shape))
    if not needed.keys() <= weights.keys():
        return None
    different = difference({name: list(value.shape) for name, value in weights.items()}, needed)
    if different is not None:
        raise InputError(f"The weights in '{place}' are not those of a SAM: {different}. Restore the file.")
    model.load_state_dict({name: value.float() for name, value in weights.items()}, assign=True)
    model.tie_weights()
    model.freeze_prompt_encoder()
    return model.eval()


def _from_source(
    converted: Converted, training: Training, model: str | None, task: Mapping[str, Any], place: str, *, is_whole: bool
) -> Base:
    """The model from elsewhere, with what the file says about it; it must be the same if the file holds all of it."""
    source = absolute(training.sam if model is None else model)
    lacking = f"'{place}' does not hold all weights of the SAM that was fine-tuned."
    if not source:
        raise InputError(f"{lacking} Name that SAM with --model, such as --model facebook/sam-vit-huge.")
    if is_meta_checkpoint(source):
        raise InputError(
            f"'{source}' is a file of Meta's, whose mask decoder computes with another constant than AutoGluon's. Give "
            "the same SAM as transformers saves it, such as --model facebook/sam-vit-huge."
        )
    try:
        base = load_segmenter(source, detail="none", dtype=torch.float32, **task)
    except ValueError as error:
        told = (
            ""
            if model is not None
            else f" ({lacking} Its config.yaml names '{shown(source)}'; --model names another place.)"
        )
        raise InputError(f"{error}{told}") from error
    if not isinstance(base, SamForSemanticSegmentation):
        raise InputError(
            f"'{source}' is no SAM of the first version, which AutoGluon fine-tunes. Give that one with --model."
        )
    changed = _overlay(base, converted.frozen, source, place)
    if changed and is_whole:
        raise InputError(
            f"'{source}' is not the SAM in '{place}' ({shown(changed[0])} differs, for one). Leave out --model, and "
            "the SAM is taken from that file."
        )
    return Base(base, None if changed else source)


@torch.no_grad()
def _overlay(
    base: SamForSemanticSegmentation, frozen: Mapping[str, torch.Tensor], source: str, place: str
) -> list[str]:
    """Puts weights into a model, and tells which were others."""
    own = base.state_dict()
    changed = []
    for name, value in frozen.items():
        if name.startswith(UNUSED):
            continue
        if name not in own or own[name].shape != value.shape:
            was = "unknown to" if name not in own else "of another size than in"
            raise InputError(
                f"'{place}' holds {shown(name)}, which is {was} '{source}'. Give the SAM that was fine-tuned with "
                "--model."
            )
        if not torch.allclose(own[name], value.float(), rtol=1e-6, atol=1e-8):
            own[name].copy_(value)
            changed.append(name)
    return changed


@torch.no_grad()
def _take_imagenet_pixels(model: SamForSemanticSegmentation, norm: str) -> None:
    """Lets a model that was trained on pixels normalised in another way see the same in ours.

    Both ways are linear, and the patch embedding, which has no padding, is a linear map of the pixels: the change goes
    into its weights.
    """
    (mean, std), convolution = NORMS[norm], model.vision_encoder.patch_embed.projection
    was = torch.tensor([mean, std], dtype=torch.float64)[:, :, None, None]
    now = torch.tensor([IMAGE_MEAN, IMAGE_STD], dtype=torch.float64)[:, :, None, None]
    weight = convolution.weight.double()
    shift = (weight * ((now[0] - was[0]) / was[1])).sum(dim=(1, 2, 3))
    # New ones, because the weights may lie in the predictor's file.
    convolution.bias = nn.Parameter((convolution.bias.double() + shift).float())
    convolution.weight = nn.Parameter((weight * (now[1] / was[1])).float())
