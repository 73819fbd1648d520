"""How AutoGluon has fine-tuned a SAM, as its `config.yaml` says.

Source: AutoGluon, `multimodal/configs/` and `multimodal/models/utils.py`. Older versions say `optimization` for
`optim` and `efficient_finetune` for `peft`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, TypeGuard

from convlora.errors import InputError, quoted, shown
from convlora.importing.predictor import Predictor
from convlora.methods.conv_lora.config import MOST_EXPERTS
from convlora.settings.training import Loss

METHODS = {"conv_lora": "conv-lora", "lora": "lora"}
"""AutoGluon's names of the methods that can be imported, and ours."""

LOSSES: dict[str, Loss] = {"structure_loss": "structure-mean-bce", "balanced_bce": "balanced-bce"}
"""Its names of losses of binary tasks, and ours; its structure loss averages before it weighs the borders."""

NORMS: dict[str, tuple[tuple[float, float, float], tuple[float, float, float]]] = {
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "inception": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
    "clip": ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)),
}
"""Means and standard deviations that images are normalised with, by the name of `image_norm`."""

_LARGEST_RANK, _LARGEST_TOKENS, _LARGEST_LABEL = 4096, 4096, 65535


@dataclass(frozen=True)
class Training:
    """What a predictor says about its model.

    Attributes:
        method: Our name of the method.
        r: Rank of the update.
        alpha: The update is scaled by `alpha / r`.
        experts: Number of experts; None: the method has none.
        sam: The SAM that was fine-tuned: an id of the Hugging Face Hub or a folder; empty: it is not said.
        mask_tokens: Mask tokens of the decoder; None: it is not said.
        image_norm: Key of [`NORMS`].
        ignore_label: Value in masks of pixels that do not count.
        loss: Our name of the loss of a binary task, if it is said and known.
        flips: Whether images were flipped left and right at random, and not changed in another way.
        lr: Learning rate, if it is said.
        epochs: Largest number of epochs, if it is said.
    """

    method: str
    r: int
    alpha: int
    experts: int | None
    sam: str
    mask_tokens: int | None
    image_norm: str
    ignore_label: int
    loss: Loss | None
    flips: bool
    lr: float | None
    epochs: int | None


def read_training(predictor: Predictor) -> Training:
    """Reads the settings of a predictor.

    Raises:
        InputError: If it was trained in a way that cannot be imported, or a setting is missing or makes no sense.
    """
    settings, where = predictor.settings, f"'{predictor.config}'"
    task = predictor.assets.get("problem_type")
    if task not in (None, "semantic_segmentation"):
        raise InputError(
            f"'{predictor.checkpoint.parent}' is a predictor for {shown(task)}, and convlora imports those for "
            "semantic_segmentation."
        )
    optim = settings.get("optim", settings.get("optimization"))
    if not isinstance(optim, dict):
        raise InputError(
            f"{where} has no section 'optim', so it is no configuration of AutoGluon's multimodal predictor."
        )
    peft = optim.get("peft", optim.get("efficient_finetune"))
    if not isinstance(peft, str) or peft not in METHODS:
        how = "without a method for few parameters" if peft is None else f"with {quoted(peft)}"
        raise InputError(
            f"{where} says that the model was fine-tuned {how}. convlora imports models that were fine-tuned with "
            f"{' or '.join(METHODS)}."
        )
    sam, lora = _model(settings, where), optim.get("lora")
    lora = lora if isinstance(lora, dict) else {}
    norm = sam.get("image_norm", "imagenet")
    if not isinstance(norm, str) or norm not in NORMS:
        raise InputError(
            f"{where} says image_norm={quoted(norm)}, but it is one of {', '.join(NORMS)}. Restore the file."
        )
    name = sam.get("checkpoint_name")
    lr, epochs = optim.get("lr", optim.get("learning_rate")), optim.get("max_epochs")
    return Training(
        method=METHODS[peft],
        r=_count(lora.get("r"), f"{where} says lora.r", _LARGEST_RANK),
        alpha=_count(lora.get("alpha"), f"{where} says lora.alpha", 1 << 20),
        experts=_count(lora.get("conv_lora_expert_num", 8), f"{where} says conv_lora_expert_num", MOST_EXPERTS)
        if peft == "conv_lora"
        else None,
        sam=name if isinstance(name, str) else "",
        mask_tokens=None
        if sam.get("num_mask_tokens") is None
        else _count(sam["num_mask_tokens"], f"{where} says num_mask_tokens", _LARGEST_TOKENS),
        image_norm=norm,
        ignore_label=_count(sam.get("ignore_label", 255), f"{where} says ignore_label", _LARGEST_LABEL, least=0),
        loss=LOSSES.get(str(optim.get("loss_func", optim.get("loss_function")))),
        flips=sam.get("train_transforms") == ["random_horizontal_flip"],
        lr=float(lr) if _is_number(lr) and 0 < lr < 1 else None,
        epochs=int(epochs) if _is_number(epochs) and epochs == int(epochs) and 0 < epochs <= 1 << 20 else None,
    )


def _model(settings: dict[str, Any], where: str) -> dict[str, Any]:
    """The section of the SAM, which is the only model."""
    models = settings.get("model")
    models = models if isinstance(models, dict) else {}
    names = models.get("names", ["sam"])
    names = [names] if isinstance(names, str) else names
    if not isinstance(names, list) or len(names) != 1:
        raise InputError(f"{where} names {quoted(names)} as its models. convlora imports predictors of one SAM alone.")
    section = models.get(names[0]) if isinstance(names[0], str) else None
    if not isinstance(section, dict):
        raise InputError(
            f"{where} says nothing of a model {quoted(names[0])}. Give a predictor that segments with SAM, or restore "
            "the file."
        )
    return section


def _count(value: Any, said: str, most: int, least: int = 1) -> int:
    if _is_number(value) and value == int(value) and least <= value <= most:
        return int(value)
    what = "nothing" if value is None else quoted(value)
    raise InputError(
        f"{said}={what}, but it must be a whole number from {least} to {most:,}. Restore the file, or train again."
    )


def _is_number(value: Any) -> TypeGuard[float]:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
