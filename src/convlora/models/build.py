"""The model that a method trains: loaded, and with the adapters of the method in it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, cast

import torch
from peft import PeftConfig, PeftModel

from convlora.errors import InputError
from convlora.methods.blocks import number_of_blocks
from convlora.methods.registry import apply_method, check_method, find_method, method_config
from convlora.models import SegmentationModel
from convlora.models.bands import trained_inputs
from convlora.models.configuration import as_size
from convlora.models.layer_names import ENCODER, MODULES_TO_SAVE, sam_layers
from convlora.models.loading import load_segmenter
from convlora.models.random_sam import randomize
from convlora.models.semantic_segmenter import SemanticSegmenter
from convlora.models.unet import UNetForSemanticSegmentation, UNetSegmentationConfig


def load_model(
    method: str,
    options: Mapping[str, Any],
    source: str,
    *,
    image_size: int | list[int] | None,
    attention: str,
    num_mask_tokens: int | str | None,
    detail: str,
    decoder: str = "sam",
    bands: int | None = None,
    **task: Any,
) -> SegmentationModel:
    """The SAM or other encoder that is fine-tuned, or the network that is trained in its place, in float32 on the CPU.

    Args:
        method: Name of the method.
        options: Its options.
        source: Where the SAM, or another vision encoder, is.
        image_size: One side of a square or [height, width] in pixels; None: the model's own.
        attention: Form of attention in a SAM, see `SamForSemanticSegmentation.from_pretrained`.
        num_mask_tokens: Number of mask tokens of a SAM.
        detail: Detail branch of a SAM.
        decoder: `"sam"`, or `"eomt"` for an encoder that is no SAM.
        bands: Channels of the input; None: red, green and blue.
        **task: `num_classes`, `id2label`, `head`, `loss` and `ignore_index`.

    Raises:
        InputError: If an option of the method does not fit, or the SAM cannot be read.
        ValueError: If the model cannot be what is asked for.
    """
    size = None if image_size is None else as_size(image_size)
    if find_method(method).network == "unet":
        check_method(method, options)  # before weights of any size are made
        return UNetForSemanticSegmentation(
            UNetSegmentationConfig(image_size=size, bands=bands, **options, **task)
        ).eval()
    return load_segmenter(
        source,
        image_size=size,
        attention=attention,
        num_mask_tokens=num_mask_tokens,
        detail=detail,
        decoder=decoder,
        bands=bands,
        dtype=torch.float32,
        **task,
    )


def adapter_config(
    model: SegmentationModel, method: str, options: Mapping[str, Any], adapt_last: int | None = None
) -> PeftConfig:
    """What PEFT needs to know to put the adapters of a method into a segmenter, and to train its decoder.

    Args:
        model: The segmenter.
        method: Name of the method.
        options: Its options.
        adapt_last: How many of the last blocks are adapted; None: what the method does by itself.

    Raises:
        InputError: If an option does not fit, or there are fewer blocks.
    """
    return method_config(model, method, options, **_where(model, method, adapt_last))


def adapt(
    model: SegmentationModel, method: str, options: Mapping[str, Any], adapt_last: int | None = None
) -> PeftModel:
    """Puts fresh adapters of a method into a segmenter, which is changed in place; see [`adapter_config`].

    Raises:
        InputError: If an option does not fit, or there are fewer blocks.
    """
    if isinstance(model, SemanticSegmenter) and find_method(method).from_scratch:
        randomize(model.vision_encoder)  # right after the seed was set
        randomize(model.mask_decoder)
        model.renew_detail()
    return apply_method(model, method, options, **_where(model, method, adapt_last))


def _blocks(model: SegmentationModel) -> int:
    return 0 if model.vision_encoder is None else number_of_blocks(model.vision_encoder)


def _where(model: SegmentationModel, method: str, adapt_last: int | None) -> dict[str, Any]:
    """Which layers are adapted, and what is trained beside them."""
    count = _blocks(model)
    if adapt_last is not None and adapt_last > count:
        raise InputError(f"--adapt-last {adapt_last} is more than the {count} blocks of the vision encoder. Lower it.")
    blocks = None if adapt_last is None else range(max(0, count - adapt_last), count)
    # Inputs for more bands are a part of an encoder that is trained as a whole.
    saved = [*MODULES_TO_SAVE, *([] if find_method(method).trains_encoder else trained_inputs(model))]
    where: dict[str, Any] = {"targets": sam_layers, "modules_to_save": saved, "blocks": blocks, "encoder": ENCODER}
    if isinstance(model, SemanticSegmenter):
        where |= {"targets": model.layer_names, "num_prefix_tokens": model.num_prefix_tokens}
        where["prefix_tokens_of"] = {number: model.prefix_tokens_of(number) for number in range(count)}
    if trained_inputs(model):  # what is trained as a whole cannot lie inside of a layer that is adapted
        names = cast("Callable[..., str]", where["targets"])
        where["targets"] = lambda kind, numbers: r"(?!.*\.patch_embed\w*\.projection$)" + names(kind, numbers)
    return where
