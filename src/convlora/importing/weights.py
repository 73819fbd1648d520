"""AutoGluon's names of weights, and ours.

| AutoGluon | here |
|---|---|
| `lora_A` `(r, C)`, `lora_B` `(C', r)` | `lora_A.weight`, `lora_B.weight` |
| `lora_moe_gating.w_gate`, `.w_noise` `(r, n)` | `lora_gate.weight`, `lora_gate_noise.weight` `(n, r)` |
| `lora_moe_experts.I.0.weight`, `.bias` of each expert | `lora_experts.weight`, `.bias` of all, stacked |
| `mask_decoder.output_classifier_mlps` | `mask_decoder.classifier` |

What has no use in the prediction is left out: the head of the mask's quality, and constants of the gate. The gate and
the experts mean the same on both sides: one expert for each map, its output added as it is, and the scale of expert I
is I + 1.

Source: Zhong et al., ICLR 2024, and AutoGluon, `multimodal/models/adaptation_layers.py` and `sam.py`, for the names.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from convlora.errors import InputError, shown
from convlora.importing.settings import Training

_DECODER = "mask_decoder."
_ADAPTED = re.compile(r"(vision_encoder\.layers\.(\d+)\.attn\.qkv)\.lora_(\w.*)")
_EXPERT = re.compile(r"moe_experts\.(\d+)\.0\.(weight|bias)")
_LEFT_OUT = re.compile(r"mask_decoder\.iou_prediction_head\.|.*\.lora_moe_gating\.(mean|std)$")
_RENAMED = {"A": "lora_A.weight", "B": "lora_B.weight"}
_GATES = {"moe_gating.w_gate": "lora_gate.weight", "moe_gating.w_noise": "lora_gate_noise.weight"}
_DO_NOT_FIT = "The files do not belong together; copy both again from the predictor's folder."


@dataclass(frozen=True)
class Converted:
    """Weights under our names, in single precision where they are trained.

    Attributes:
        frozen: Weights of the SAM without its mask decoder. All, some or none of them may be there.
        decoder: Weights of the mask decoder, with its name before theirs.
        adapter: Weights of the adapted layers, with their names before theirs.
        blocks: Numbers of the blocks that are adapted.
        num_classes: Number of classes of mask classification, background included; None: it is a binary task.
        mask_tokens: Number of mask tokens.
    """

    frozen: dict[str, torch.Tensor]
    decoder: dict[str, torch.Tensor]
    adapter: dict[str, torch.Tensor]
    blocks: list[int]
    num_classes: int | None
    mask_tokens: int


def convert(weights: Mapping[str, torch.Tensor], training: Training, path: Path) -> Converted:
    """Renames the weights of a predictor.

    Args:
        weights: As of [`convlora.importing.predictor.read_weights`].
        training: What the predictor says about them.
        path: Their file, for messages.

    Raises:
        InputError: If weights are missing, or are others than the settings say.
    """
    frozen, decoder, blocks = dict[str, torch.Tensor](), dict[str, torch.Tensor](), set[int]()
    layers: dict[str, dict[str, torch.Tensor]] = defaultdict(dict)
    for name, value in weights.items():
        adapted = _ADAPTED.fullmatch(name)
        if _LEFT_OUT.match(name):
            continue
        if adapted is not None:
            blocks.add(int(adapted[2]))
            layers[adapted[1]][adapted[3]] = value.float()
        elif ".lora_" in name:
            raise InputError(
                f"'{path}' adapts {shown(name.partition('.lora_')[0])}. convlora imports models whose projections of "
                "query, key and value (vision_encoder.layers.N.attn.qkv) are adapted, and nothing else."
            )
        elif name.startswith(_DECODER):
            decoder[name.replace("output_classifier_mlps", "classifier")] = value.float()
        else:
            frozen[name] = value
    if not layers:
        raise InputError(f"'{path}' holds no adapter (no names with 'lora_'). {_DO_NOT_FIT}")
    adapter = {
        f"{layer}.{name}": value
        for layer, parts in layers.items()
        for name, value in _layer(layer, parts, training, path).items()
    }
    tokens, classifier = decoder.get("mask_decoder.mask_tokens.weight"), decoder.get("mask_decoder.classifier.weight")
    if tokens is None or tokens.ndim != 2 or (classifier is not None and (classifier.ndim != 2 or len(classifier) < 3)):
        raise InputError(f"'{path}' holds no mask decoder of a SAM. {_DO_NOT_FIT}")
    _compare("num_mask_tokens", training.mask_tokens, len(tokens), path)
    return Converted(
        frozen,
        decoder,
        adapter,
        sorted(blocks),
        None if classifier is None else len(classifier) - 1,
        len(tokens),
    )


def _layer(layer: str, parts: Mapping[str, torch.Tensor], training: Training, path: Path) -> dict[str, torch.Tensor]:
    """The weights of one adapted layer under our names."""
    found: dict[str, torch.Tensor] = {}
    experts: dict[str, dict[int, torch.Tensor]] = {"weight": {}, "bias": {}}
    for name, value in parts.items():
        expert = _EXPERT.fullmatch(name)
        if name in _RENAMED:
            found[_RENAMED[name]] = value
        elif name in _GATES and value.ndim == 2:
            found[_GATES[name]] = value.t().contiguous()
        elif expert is not None:
            experts[expert[2]][int(expert[1])] = value
        else:
            raise InputError(
                f"'{path}' holds {shown(layer)}.lora_{shown(name)}, which Conv-LoRA has not. {_DO_NOT_FIT}"
            )
    _compare("lora.r", training.r, len(found["lora_A.weight"]) if "lora_A.weight" in found else 0, path)
    _compare("conv_lora_expert_num", training.experts, len(experts["weight"]) or None, path)
    for part, values in experts.items():
        if not values:
            continue
        if sorted(values) != list(range(len(values))) or len({value.shape for value in values.values()}) > 1:
            raise InputError(f"'{path}' does not hold all experts of {shown(layer)}. {_DO_NOT_FIT}")
        found[f"lora_experts.{part}"] = torch.stack([values[number] for number in range(len(values))])
    return found


def _compare(setting: str, said: int | None, found: int | None, path: Path) -> None:
    if said != found and not (setting == "num_mask_tokens" and said is None):
        told = "none of it" if found is None else str(found)
        raise InputError(
            f"config.yaml beside '{path}' says {setting}={'nothing' if said is None else said}, but its weights have "
            f"{told}. {_DO_NOT_FIT}"
        )
