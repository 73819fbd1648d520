"""Writing a run folder for a model that AutoGluon has fine-tuned."""

from __future__ import annotations

import copy
import os
import re
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

from peft import PeftModel
from safetensors.torch import save_file

from convlora.errors import InputError, shown
from convlora.importing.base import find_base
from convlora.importing.classes import class_table
from convlora.importing.predictor import Predictor, read_predictor, read_weights
from convlora.importing.settings import Training, read_training
from convlora.importing.weights import Converted, convert
from convlora.methods.blocks import number_of_blocks
from convlora.methods.registry import resolve_options
from convlora.models import SamForSemanticSegmentation
from convlora.models.build import adapt
from convlora.models.configuration import as_size
from convlora.models.fingerprint import sample_weights
from convlora.models.parameters import count_parameters
from convlora.models.quiet import quietly
from convlora.runs.adapters import WEIGHTS, load_weights
from convlora.runs.hub import refuse_on_hub
from convlora.runs.reading import OWN_SAM, SAM
from convlora.storage import make_folder, replacing_folder, write_json, write_text
from convlora.training.config import RunConfig
from convlora.training.model_card import model_card

_OF_PEFT = "base_model.model."
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")


def import_predictor(
    source: str | os.PathLike[str],
    output: Path,
    *,
    model: str | None = None,
    classes: Path | None = None,
    tell: Callable[[str], None],
) -> dict[str, Any]:
    """Writes a run folder, whole or not at all.

    Args:
        source: A predictor's folder, or a `.ckpt` file with `config.yaml` beside it.
        output: The run folder; it must not hold anything yet.
        model: The SAM that was fine-tuned, if the run is to refer to it, or the file does not hold it.
        classes: A `classes.json` that names the classes.
        tell: Receives sentences for the user.

    Returns:
        What was imported, by name.

    Raises:
        InputError: If the predictor cannot be imported, or the folder cannot be used.
    """
    refuse_on_hub(output, "convlora import")
    _check_output(output)
    predictor = read_predictor(source)
    training = read_training(predictor)
    converted = convert(read_weights(predictor.checkpoint), training, predictor.checkpoint)
    _check_number_of_classes(predictor, converted)
    table = class_table(converted.num_classes, training.ignore_label, classes)
    task = {
        "num_classes": table.num_classes,
        "id2label": dict(enumerate(table.names)),
        "head": "binary" if converted.num_classes is None else "mask-classification",
        "num_mask_tokens": converted.mask_tokens,
        "ignore_index": table.ignore_index,
    }
    base = find_base(converted, training, model, task, str(predictor.checkpoint))
    place = base.source or str(Path(os.path.realpath(output)) / OWN_SAM)
    config = _config(training, converted, base.model, place)
    with replacing_folder(output) as folder:
        if base.source is None:
            with quietly(folder):
                base.model.save_pretrained(folder / OWN_SAM)
        weights = sample_weights(base.model.vision_encoder)
        adapted = _adapted(base.model, config, converted, folder, str(predictor.checkpoint))
        trainable, total = count_parameters(adapted)
        metrics = {
            "imported": _provenance(predictor, training),
            "best_epoch": None,
            "epochs": None,
            "steps": None,
            "params": {"trainable": trainable, "total": total},
            "seconds_per_step": None,
            "peak_memory_mb": None,
            "versions": {name: version(name) for name in ("convlora", "torch", "transformers", "peft")},
        }
        comment = f"Trained by {predictor.software} and imported; what is not known of its training has the default."
        config.save(folder / "config.yaml", comment)
        write_json(folder / "classes.json", table.to_dict())
        write_json(folder / SAM, weights)
        write_json(folder / "metrics.json", metrics)
        shown_config = copy.deepcopy(config)
        if base.source is None:  # nobody else knows that folder
            shown_config.model.source = training.sam if _HUB_ID.fullmatch(training.sam) else str(folder / OWN_SAM)
        card = model_card(shown_config, list(table.names), software=predictor.software)
        write_text(folder / "adapter" / "README.md", card)
        _check_output(output)  # some minutes later
    if base.source is None:
        tell(_why_written(training, model, output / OWN_SAM))
    return {
        "run": str(output),
        "imported": metrics["imported"],
        "model": place,
        "image_size": config.model.image_size,
        "method": config.to_dict()["method"],
        "classes": list(table.names),
        "params": metrics["params"],
    }


def _check_output(output: Path) -> None:
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise InputError(f"{output} exists already and is not empty. Give another --output.")


def _config(training: Training, converted: Converted, model: SamForSemanticSegmentation, place: str) -> RunConfig:
    """The settings of the run, as far as they are known."""
    config = RunConfig()
    config.data.augmentation = "flip" if training.flips else None
    height, width = as_size(model.config.image_size)
    config.model.source, config.model.image_size = place, height if height == width else [height, width]
    config.model.head = "auto" if converted.num_classes is None else "mask-classification"
    config.model.num_mask_tokens, config.model.detail = converted.mask_tokens, "none"
    config.method.name = training.method
    options = {"r": training.r, "lora_alpha": training.alpha}
    if training.experts is not None:
        options["num_experts"] = training.experts
    config.method.options = resolve_options(training.method, options)
    config.training.select_by = "iou" if converted.num_classes is None else "miou"
    config.training.loss = training.loss if converted.num_classes is None else None
    config.training.lr, config.training.epochs = training.lr, training.epochs
    count = number_of_blocks(model.vision_encoder)
    if converted.blocks != list(range(count)):
        config.training.adapt_last = len(converted.blocks)
        if converted.blocks != list(range(count - len(converted.blocks), count)):
            raise InputError(
                f"The blocks {', '.join(map(str, converted.blocks[:20]))} of {count} are adapted. convlora imports "
                "models with adapters in all blocks or in the last ones. Train again with AutoGluon, without "
                "optim.lora.module_filter of your own."
            )
    return config


def _adapted(
    base: SamForSemanticSegmentation, config: RunConfig, converted: Converted, folder: Path, place: str
) -> PeftModel:
    """The model with its adapter, which is written."""
    adapted = adapt(base, config.method.name, config.method.options, config.training.adapt_last)
    adapter = make_folder(folder / "adapter")
    weights = {_OF_PEFT + name: value for name, value in {**converted.adapter, **converted.decoder}.items()}
    save_file({name: value.contiguous().clone() for name, value in weights.items()}, adapter / WEIGHTS)
    try:
        load_weights(adapted, adapter / WEIGHTS)
    except ValueError as error:
        told = str(error).removeprefix(f"{WEIGHTS} ")
        raise InputError(
            f"'{place}' {told}. It was trained with another version of SAM or of AutoGluon than config.yaml beside it "
            "says; copy both again from the predictor's folder."
        ) from error
    # PEFT would ask the Hub about a vocabulary, which there is none of.
    adapted.save_pretrained(adapter, safe_serialization=True, save_embedding_layers=False)
    return adapted


def _check_number_of_classes(predictor: Predictor, converted: Converted) -> None:
    said, found = predictor.assets.get("output_shape"), converted.num_classes or 1
    if isinstance(said, int) and said != found:
        raise InputError(
            f"assets.json beside '{predictor.checkpoint}' says that there are {said} classes, but its weights have "
            f"{found}. The files do not belong together; copy both again from the predictor's folder."
        )
    if converted.num_classes is None and converted.mask_tokens != 1:
        raise InputError(
            f"'{predictor.checkpoint}' has {converted.mask_tokens} mask tokens and no classifier, which AutoGluon does "
            "not make. Copy it again from the predictor's folder."
        )


def _provenance(predictor: Predictor, training: Training) -> dict[str, Any]:
    """Where a run came from."""
    score, metric = predictor.assets.get("best_score"), predictor.assets.get("eval_metric_name")
    found: dict[str, Any] = {
        "software": predictor.software,
        "checkpoint": predictor.checkpoint.name,
        "model": shown(training.sam),
        "image_norm": training.image_norm,
    }
    if isinstance(score, float) and isinstance(metric, str):
        found |= {"best_score": score, "eval_metric": shown(metric)}
    return found


def _why_written(training: Training, model: str | None, folder: Path) -> str:
    written = f"The SAM was written to {folder}"
    if training.image_norm != "imagenet":
        return (
            f"{written}: its patch embedding is changed so that it takes images as convlora normalises them, and not "
            f"as '{training.image_norm}' does."
        )
    if model is None:
        return (
            f"{written}, as the predictor holds it. Give --model with the SAM that was fine-tuned, and the run refers "
            "to that one instead."
        )
    return f"{written}, because the predictor holds some weights that differ from those of '{model}'."
