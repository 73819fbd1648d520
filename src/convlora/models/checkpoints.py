"""Meta's original checkpoints, and telling kinds of checkpoints apart."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError
from torch import nn
from transformers import (
    PreTrainedConfig,
    Sam2Config,
    Sam3TrackerConfig,
    SamConfig,
    SamModel,
)
from transformers.utils import find_adapter_config_file

from convlora.errors import InputError, is_out_of_memory, quoted, shown
from convlora.models.architecture import architecture_of
from convlora.models.bundled import resolve_bundled
from convlora.models.configuration import as_size
from convlora.models.detail import CAME_LATER
from convlora.models.encoders.family import FAMILIES, find_family
from convlora.models.kinds import SAM2S, SAM3S, SAM_HQS, SAMS, SEGMENTERS, check_backbone, check_tracker
from convlora.models.quiet import quietly
from convlora.models.weight_files import check_archive, check_tensors

_META_SUFFIXES = {".pth", ".pt"}

_LARGEST_NUMBER = 1 << 16
_LARGEST = {
    "blocks_per_stage": 1024,
    "num_hidden_layers": 1024,
    "num_point_embeddings": 1024,
    "num_multimask_outputs": 4096,
}
_DEEPEST = 8  # levels of a configuration; a SAM's has two

# Parts that no prompt ever reaches here; exports leave them out. The last is the same as shared_image_embedding.
UNUSED = (
    "prompt_encoder.point_embed.",
    "prompt_encoder.mask_embed.",
    "prompt_encoder.not_a_point_embed.",
    "prompt_encoder.shared_embedding.",
)

# Meta's names -> transformers' names; the first that matches is applied.
_RENAMES = [
    (r"^image_encoder\.blocks\.(\d+)\.norm([12])\.", r"vision_encoder.layers.\1.layer_norm\2."),
    (r"^image_encoder\.blocks\.", "vision_encoder.layers."),
    (r"^image_encoder\.patch_embed\.proj\.", "vision_encoder.patch_embed.projection."),
    (r"^image_encoder\.neck\.0\.", "vision_encoder.neck.conv1."),
    (r"^image_encoder\.neck\.1\.", "vision_encoder.neck.layer_norm1."),
    (r"^image_encoder\.neck\.2\.", "vision_encoder.neck.conv2."),
    (r"^image_encoder\.neck\.3\.", "vision_encoder.neck.layer_norm2."),
    (r"^image_encoder\.", "vision_encoder."),
    (r"^prompt_encoder\.pe_layer\.positional_encoding_gaussian_matrix$", "shared_image_embedding.positional_embedding"),
    (r"^prompt_encoder\.point_embeddings\.", "prompt_encoder.point_embed."),
    (r"^prompt_encoder\.mask_downscaling\.0\.", "prompt_encoder.mask_embed.conv1."),
    (r"^prompt_encoder\.mask_downscaling\.1\.", "prompt_encoder.mask_embed.layer_norm1."),
    (r"^prompt_encoder\.mask_downscaling\.3\.", "prompt_encoder.mask_embed.conv2."),
    (r"^prompt_encoder\.mask_downscaling\.4\.", "prompt_encoder.mask_embed.layer_norm2."),
    (r"^prompt_encoder\.mask_downscaling\.6\.", "prompt_encoder.mask_embed.conv3."),
    (r"^mask_decoder\.transformer\.layers\.(\d+)\.norm([1-4])\.", r"mask_decoder.transformer.layers.\1.layer_norm\2."),
    (r"^mask_decoder\.transformer\.norm_final_attn\.", "mask_decoder.transformer.layer_norm_final_attn."),
    (r"^mask_decoder\.output_upscaling\.0\.", "mask_decoder.upscale_conv1."),
    (r"^mask_decoder\.output_upscaling\.1\.", "mask_decoder.upscale_layer_norm."),
    (r"^mask_decoder\.output_upscaling\.3\.", "mask_decoder.upscale_conv2."),
]


def is_meta_checkpoint(source: str | os.PathLike[str]) -> bool:
    """Whether a model is named by one file in Meta's format."""
    return Path(source).suffix.lower() in _META_SUFFIXES


def read_model_type(source: str | os.PathLike[str], kwargs: dict[str, Any]) -> str:
    """Reads which kind of model a folder or Hub repository holds.

    Args:
        source: Folder or Hub id.
        kwargs: Arguments of `from_pretrained`; those for the Hub are passed on.

    Returns:
        transformers' `model_type`: of a SAM, of a vision encoder that is known, or of a segmenter.

    Raises:
        InputError: If it holds another kind of model, no configuration, or an adapter.
    """
    hub: dict[str, Any] = {
        k: kwargs[k] for k in ("revision", "token", "cache_dir", "local_files_only", "subfolder") if k in kwargs
    }
    path = Path(source)
    if path.exists():
        _refuse_adapter(source, hub)
    if path.exists() and not (path / kwargs.get("subfolder", "") / "config.json").is_file():
        if (path / "config.yaml").is_file():
            raise InputError(
                f"'{source}' is a run, not a model. To train its weights further: convlora train DATA --from {source} "
                "--output RUN. Else give --model the SAM that it was trained from."
            )
        raise InputError(
            f"'{source}' holds no config.json. Give a folder saved by transformers, a Hub id such as "
            "facebook/sam-vit-base, or Meta's .pth file."
        )
    try:
        config, _ = PreTrainedConfig.get_config_dict(source, **hub)
    except (OSError, ValueError) as error:
        raise InputError(
            f"The model '{source}' is neither a local file or folder nor can it be read from the Hugging Face Hub. "
            "Check the spelling and the connection, or download it and give its folder; 'tiny' comes with the package."
        ) from error
    kind = config.get("model_type")
    check_tracker(source, kind)
    if kind not in (*SAMS, *SAM_HQS, *SAM2S, *SAM3S, *SEGMENTERS) and find_family(kind) is None:
        raise InputError(
            f"'{source}' holds a model of type '{shown(str(kind))}', which is not known here. Give a SAM, such as "
            "facebook/sam-vit-base, or one of these: SAM-HQ, SAM 2, SAM 3, "
            f"{', '.join(family.name for family in FAMILIES)}."
        )
    check_backbone(source, kind, config)
    for name in ("vision_config", "encoder_config"):
        if not isinstance(config.get(name, {}), dict):
            raise InputError(f"config.json of '{source}' is damaged: {name} is no table. Download it again.")
    towers = [family.tower_of for family in FAMILIES if family.tower_of is not None]
    _check_numbers(source, config.get("vision_config") or {} if kind in towers else config)
    if not path.exists():
        _refuse_adapter(source, hub)  # only now, because without a connection the question takes long
    return kind


def native_size(source: str | os.PathLike[str]) -> list[int]:
    """[height, width] in pixels of the images that a SAM was made for.

    Args:
        source: As for `SamForSemanticSegmentation.from_pretrained`.

    Raises:
        InputError: If it cannot be read, or holds no SAM.
    """
    source = resolve_bundled(source)
    if is_meta_checkpoint(source):
        return list(as_size(load_meta_checkpoint(source).config.vision_config.image_size))
    kind = read_model_type(source, {})
    config, _ = PreTrainedConfig.get_config_dict(source)
    try:
        with quietly(source):
            return list(as_size(_size_in(source, kind, config)))
    except (ValueError, TypeError, AttributeError, StrictDataclassError) as error:
        raise InputError(f"config.json of '{source}' names no image size. Download it again.") from error


def _size_in(source: str | os.PathLike[str], kind: str, config: dict[str, Any]) -> Any:
    family, size = find_family(kind), config.get("image_size")
    if family is not None:
        return family.config.from_pretrained(source).image_size
    if kind in SAM3S:
        part = config.get("tracker_config", config)
        return Sam3TrackerConfig(vision_config=part.get("vision_config")).vision_config.backbone_config.image_size
    if size is None and kind in SAM2S:
        return Sam2Config(vision_config=config.get("vision_config")).vision_config.backbone_config.image_size
    return SamConfig.from_dict(config).vision_config.image_size if size is None else size


def _check_numbers(source: str | os.PathLike[str], settings: dict[str, Any], depth: int = 0) -> None:
    """Refuses sizes that no SAM has, before a model of that size is built."""
    for name, value in settings.items():
        if isinstance(value, dict) and depth < _DEEPEST:
            _check_numbers(source, value, depth + 1)
        parts = value if isinstance(value, list) else [value]
        numbers = [one for one in parts if isinstance(one, int) and not isinstance(one, bool)]
        most = _LARGEST.get(name, _LARGEST_NUMBER)
        if max(numbers, default=0) > most or (name == "blocks_per_stage" and sum(numbers) > most):
            raise InputError(
                f"config.json of '{source}' says {name}={quoted(value)}, which no model has. Restore the file, or give "
                "another model."
            )
        if name.endswith("attn_implementation") and "/" in str(value):
            raise InputError(
                f"config.json of '{source}' says {name}={quoted(value)}, which may be code to fetch. Remove that line."
            )


def _refuse_adapter(source: str | os.PathLike[str], hub: dict[str, Any]) -> None:
    """Refuses what transformers would take for an adapter and load with PEFT, which follows its settings blindly."""
    if find_adapter_config_file(str(source), **hub) is not None:
        raise InputError(
            f"{source} holds adapter_config.json, so it is an adapter or a SAM with one, whose settings would be "
            "followed unseen. Give the SAM alone, or a run of convlora to: convlora predict."
        )


def load_whole(
    load: Callable[..., Any],
    source: str | os.PathLike[str],
    *args: Any,
    unused: tuple[str, ...] = UNUSED,
    **kwargs: Any,
) -> Any:
    """Loads a model with transformers, and refuses one whose weights are incomplete or damaged.

    transformers would draw what is missing at random, so that every loading gave another model.

    Args:
        load: `from_pretrained` of a class.
        source: Folder or Hub id.
        *args: For `load`.
        unused: Beginnings of the names of weights that may be missing.
        **kwargs: For `load`.

    Raises:
        InputError: If weights are missing or cannot be read, or the configuration makes no sense.
    """
    try:
        with quietly(source):
            model, found = load(
                source, *args, **{**kwargs, "output_loading_info": True, "ignore_mismatched_sizes": True}
            )
    except InputError:
        raise
    except Exception as error:  # damaged files and made-up numbers make it raise nearly anything
        if is_out_of_memory(error):
            raise
        reason = shown(str(error).strip().split("\n")[0] or type(error).__name__).rstrip(".")
        if "weights_only" in str(error):  # advice that must not be followed
            reason = "they would need code to be run, or are damaged"
        raise InputError(
            f"The weights of '{source}' cannot be loaded ({reason}). Download them again, as safetensors, or give "
            "another model."
        ) from error
    for name, there, wanted in sorted(found.get("mismatched_keys") or ()):
        raise InputError(
            f"The weights of '{source}' cannot be loaded ({shown(name)} is of the size {list(there)}, but config.json "
            f"means {list(wanted)}). Download them again, or give another model."
        )
    missing = sorted(key for key in found["missing_keys"] if not key.startswith(unused))
    for name in [key for key in missing if key.endswith(CAME_LATER)]:
        nn.init.zeros_(model.get_parameter(name))
        missing.remove(name)
    if missing:
        raise InputError(
            f"'{source}' is incomplete: {len(missing)} of its weights are missing ({shown(missing[0])}, for one). "
            "Download it again, or save the whole model."
        )
    return model


def load_meta_checkpoint(path: str | os.PathLike[str], attn_implementation: str | None = None) -> SamModel:
    """Loads Meta's `.pth` file as transformers' SAM.

    Width, depth, heads and which blocks attend globally are recognised from the weights, so the published vit_b,
    vit_l and vit_h all load, as does any other size of the same architecture.

    Args:
        path: The file.
        attn_implementation: `"eager"` or `"sdpa"`.

    Returns:
        The model, in evaluation mode.

    Raises:
        InputError: If the file cannot be read, or its weights are not a SAM's.
    """
    weights = _read_weights(path)
    try:
        config = recognise_config(weights)
    except (KeyError, IndexError, ValueError, ArithmeticError) as error:
        raise InputError(
            f"'{path}' does not hold the weights of a SAM (missing or unexpected: {error}). Give one of Meta's "
            "sam_vit_*.pth files or a fine-tuned model with the same parameter names."
        ) from error
    if attn_implementation is not None:
        config._attn_implementation = attn_implementation
    renamed = {rename(key): value for key, value in weights.items()}
    renamed["prompt_encoder.shared_embedding.positional_embedding"] = renamed[
        "shared_image_embedding.positional_embedding"
    ]
    with torch.device("meta"):
        model = SamModel(config)
    try:
        missing, unexpected = model.load_state_dict(renamed, strict=False, assign=True)
    except RuntimeError as error:
        raise InputError(f"'{path}' holds a SAM whose tensors have unexpected shapes: {error}") from error
    if missing or unexpected:
        names = ", ".join([*missing, *unexpected][:3])
        raise InputError(
            f"'{path}' is not a plain SAM: {len(missing)} parameters are missing and {len(unexpected)} are unknown "
            f"({names}, ...). Give one of Meta's sam_vit_*.pth files or a model with the same parameter names."
        )
    model.tie_weights()
    return model.eval()


def rename(key: str) -> str:
    """Meta's name of a parameter -> transformers' name."""
    for pattern, replacement in _RENAMES:
        key, count = re.subn(pattern, replacement, key)
        if count:
            break
    match = re.match(
        r"(mask_decoder\.(?:output_hypernetworks_mlps\.\d+|iou_prediction_head))\.layers\.(\d+)\.(.*)", key
    )
    if match:  # a three-layer MLP: transformers names the first and the last apart
        part = {"0": "proj_in", "1": "layers.0", "2": "proj_out"}[match[2]]
        key = f"{match[1]}.{part}.{match[3]}"
    return key


def recognise_config(weights: dict[str, torch.Tensor]) -> SamConfig:
    """Reads the architecture off the weights of a SAM in Meta's naming.

    Raises:
        KeyError: If a weight that every SAM has is missing.
    """
    # Meta's decoder uses PyTorch's default here; the checkpoints converted for transformers use 1e-6.
    return architecture_of({rename(key): value for key, value in weights.items()}, decoder_eps=1e-5)


def _read_weights(path: str | os.PathLike[str]) -> dict[str, torch.Tensor]:
    if not Path(path).is_file():
        raise InputError(f"There is no file '{path}'. Check the path given as the model.")
    check_archive(path)
    try:
        weights = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except Exception:
        try:
            weights = torch.load(path, map_location="cpu", weights_only=True)
        except Exception as error:
            raise InputError(
                f"'{path}' cannot be read as a checkpoint of plain tensors. Download it again, and never load one that "
                "needs code to be run."
            ) from error
    for key in ("model", "state_dict", "model_state_dict"):  # training scripts wrap the weights
        if isinstance(weights, dict) and isinstance(weights.get(key), dict):
            weights = weights[key]
    if not isinstance(weights, dict) or not all(isinstance(v, torch.Tensor) for v in weights.values()):
        raise InputError(f"'{path}' does not hold a table of tensors. Give one of Meta's sam_vit_*.pth files.")
    check_tensors(weights, path)
    return {key.removeprefix("module."): value for key, value in weights.items()}
