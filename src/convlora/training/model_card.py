"""The README of an adapter folder, which is its model card on the Hugging Face Hub."""

from __future__ import annotations

import html
import re
from pathlib import Path
from typing import Any

import yaml
from peft import PeftModel

from convlora import __version__
from convlora.errors import printable
from convlora.methods.registry import find_method
from convlora.models import Sam2ForSemanticSegmentation, Sam3ForSemanticSegmentation, SamForSemanticSegmentation
from convlora.training.config import RunConfig

_SHOWN = ("iou", "dice", "iou_pooled", "mae", "ber", "s_measure", "e_measure", "weighted_f")
_SHOWN_OF_SEVERAL = ("miou", "mdice", "mean_accuracy", "accuracy")


def model_card(
    config: RunConfig,
    classes: list[str],
    metrics: dict[str, Any] | None = None,
    *,
    is_sam: bool = True,
    software: str | None = None,
) -> str:
    """Writes the card.

    Args:
        config: Settings of the run.
        classes: Names of the classes.
        metrics: Contents of `metrics.json`, once the run is over.
        is_sam: Whether the model is a SAM, of whichever version, and no other vision encoder.
        software: What has trained it, if it was only imported.
    """
    method = config.to_dict()["method"]
    size = config.model.image_size
    network = find_method(method["name"]).network
    # The Hub cannot link to a folder on a disk, and a network without SAM has no base model.
    is_local = network is not None or Path(config.model.source).exists()
    name = Path(config.model.source).name if is_local else config.model.source
    header = {
        **({} if is_local else {"base_model": config.model.source}),
        "library_name": "peft",
        "pipeline_tag": "image-segmentation",
        "tags": ["convlora", *(["segment-anything", "sam"] if network is None and is_sam else []), method["name"]],
    }
    binary = len(classes) == 2 and config.model.head in ("auto", "binary")
    named = [_plain(one) for one in classes]
    task = f"Segments {named[1]} from {named[0]}." if binary else f"Tells apart {', '.join(named)}."
    per_pixel = config.model.head == "per-pixel" or network is not None
    loss = "cross-entropy and Dice" if per_pixel else "set loss of mask classification"
    loss = str(config.training.loss) if binary else loss
    shown = _SHOWN if len(classes) == 2 else _SHOWN_OF_SEVERAL
    lines = [
        "---",
        *yaml.safe_dump(header, sort_keys=False).splitlines(),
        "---",
        "",
        f"# {_plain(name)} fine-tuned with {method['name']}" if network is None else "# U-Net",
        "",
        f"{task} Made by convlora {__version__}."
        if software is None
        else f"{task} Trained by {_plain(software)}, imported by convlora {__version__}.",
        "",
        "## Use",
        "",
        "```python",
        "from convlora import Segmenter",
        "",
        'prediction = Segmenter.from_run("RUN").predict("image.jpg")   # RUN: the folder that holds this one',
        "prediction.semantic_map      # classes, (height, width) of the image",
        "prediction.probabilities     # (classes, height, width)",
        "```",
        "",
        "## Training",
        "",
        f"- Images resized to {size if isinstance(size, int) or size is None else f'{size[0]} x {size[1]}'} pixels.",
        f"- Method: {', '.join(_plain(f'{key} {value}') for key, value in method.items())}.",
    ]
    if software is None:
        lines.append(
            f"- Loss: {loss}, learning rate {config.training.lr}, "
            f"{config.training.batch_size} x {config.training.grad_accum} images per step, seed {config.training.seed}."
        )
    if metrics is not None:
        lines += [
            f"- {metrics['steps']} steps in {metrics['epochs']:g} epochs.",
            f"- Best epoch by {config.training.select_by}: {metrics['best_epoch']}."
            if metrics.get("val")
            else "- All images were trained on; these are the weights of the last epoch.",
            f"- Parameters trained: {metrics['params']['trainable']:,} of {metrics['params']['total']:,}.",
        ]
        scores = {split: metrics[split] for split in ("val", "test") if metrics.get(split)}
        if scores:
            lines += ["", "## Scores", "", "| split | " + " | ".join(shown) + " |", "|---|" + "---|" * len(shown)]
        for split, values in scores.items():
            lines.append(f"| {split} | " + " | ".join(f"{values[name]:.4f}" for name in shown) + " |")
    return "\n".join(lines) + "\n"


def is_sam(model: PeftModel) -> bool:
    """Whether what was adapted is a SAM, of whichever version."""
    sams = SamForSemanticSegmentation, Sam2ForSemanticSegmentation, Sam3ForSemanticSegmentation
    return isinstance(model.base_model.model, sams)


def _plain(text: str) -> str:
    """Text that neither Markdown nor HTML makes anything of: a card is shown on the Hub."""
    marked = re.sub(r"([\\`*\[\]|])", r"\\\1", printable(text))
    return html.escape(marked, quote=False)
