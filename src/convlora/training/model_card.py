"""The README of an adapter folder, which is its model card on the Hugging Face Hub."""

from __future__ import annotations

import html
import re
from pathlib import Path, PureWindowsPath
from typing import Any

import yaml
from peft import PeftModel

from convlora import __version__
from convlora.data.reading.volumes.slicing import Slicing
from convlora.errors import printable
from convlora.methods.registry import find_method
from convlora.models import Sam2ForSemanticSegmentation, Sam3ForSemanticSegmentation, SamForSemanticSegmentation
from convlora.models.bundled import BUNDLED
from convlora.runs.hub import is_on_hub, is_repository
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
    repository: str | None = None,
    base: str | None = None,
    license: str | None = None,
    picture: str | None = None,
) -> str:
    """Writes the card.

    Args:
        config: Settings of the run.
        classes: Names of the classes.
        metrics: Contents of `metrics.json`, once the run is over.
        is_sam: Whether the model is a SAM of any version, and no other vision encoder.
        software: What has trained it, if it was only imported.
        repository: Where it will be on the Hub, `USER/NAME` or `USER/NAME@REVISION`; None: the card stays in the run.
        base: With a repository: what the base model is called elsewhere; None: there is none, or it comes along.
        license: License of the run, by its name on the Hub; None: none is stated.
        picture: Name of a picture beside the card.
    """
    method = config.to_dict()["method"]
    network = find_method(method["name"]).network
    # The Hub cannot link to a folder on a disk, and a network without SAM has no base model.
    source = config.model.source if repository is None or base is None else base
    is_local = network is not None or not is_repository(source) or Path(source).exists()
    name = PureWindowsPath(source).name if is_local else source  # which knows both kinds of slashes
    header = {
        **({} if license is None else {"license": license}),
        **({} if is_local else {"base_model": source}),
        "library_name": "peft" if repository is None else "convlora",
        "pipeline_tag": "image-segmentation",
        "tags": [
            "convlora",
            *([] if repository is None else ["peft"]),
            *(["segment-anything", "sam"] if network is None and is_sam else []),
            method["name"],
        ],
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
        *([] if picture is None else [f"![Result]({picture})", ""]),
        "## Use",
        "",
        *(_USE_HERE if repository is None else _use_from_hub(repository)),
        "",
        "## Training",
        "",
        f"- {_seen(config)}",
        *_bands(config),
        *_slices(config),
        f"- Method: {', '.join(_plain(f'{key} {value}') for key, value in method.items())}.",
    ]
    if software is None:
        lines.append(
            f"- Loss: {loss}, learning rate {config.training.lr}, "
            f"{config.training.batch_size} x {config.training.grad_accum} images per step, seed {config.training.seed}."
        )
    if config.model.from_run is not None:
        lines.append(f"- Training began with the weights of another run, {_plain(run_name(config.model.from_run))}.")
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
    if repository is not None:
        lines += ["", "## Classes", "", *(f"- {index}: {one}" for index, one in enumerate(named))]
        lines += ["", "## Base model", "", _about_base(network is not None, base, is_local, name)]
        lines += ["", "## Licence", "", "No licence is stated." if license is None else f"{license}."]
    return "\n".join(lines) + "\n"


def _seen(config: RunConfig) -> str:
    """How the model saw images."""
    size, window = config.model.image_size, config.data.window
    named = f"{size[0]} x {size[1]}" if isinstance(size, list) else str(size)
    if window is None:
        return f"Images resized to {named} pixels."
    longer = max(size) if isinstance(size, list) else size
    cut, resized = (named, "") if longer == window else (str(window), f", resized to {named}")
    return f"Windows of {cut} pixels at the images' own resolution{resized}. It predicts in such windows too."


def _bands(config: RunConfig) -> list[str]:
    """Which bands an image must have."""
    picked, count = config.data.bands, config.model.bands
    if picked is None and count is None:
        return []
    which = f"{count} bands" if picked is None else f"bands {', '.join(map(str, picked))}, counted from 1"
    return [f"- Input: {which}; their ranges are in config.yaml."]


def _slices(config: RunConfig) -> list[str]:
    """How volumes became images, as far as that is not what it is by default."""
    found = Slicing.of(vars(config.data)).described()
    return [] if found is None else [f"- Input: {found}."]


_ANSWERS = (
    "prediction.semantic_map      # classes, (height, width) of the image",
    "prediction.probabilities     # (classes, height, width)",
)
_USE_HERE = (
    "```python",
    "from convlora import Segmenter",
    "",
    'prediction = Segmenter.from_run("RUN").predict("image.jpg")   # RUN: the folder that holds this one',
    *_ANSWERS,
    "```",
)


def _use_from_hub(repository: str) -> list[str]:
    return [
        "```sh",
        f"convlora predict hf:{repository} photos/ --output results",
        "```",
        "",
        "```python",
        "from convlora import Segmenter",
        "",
        f'prediction = Segmenter.from_run("hf:{repository}").predict("image.jpg")',
        *_ANSWERS,
        "```",
    ]


def _about_base(is_network: bool, base: str | None, is_local: bool, name: str) -> str:
    if is_network:
        return "None: all weights of the network are here."
    if base is None:
        return "It is in the folder `sam`."
    if base in BUNDLED:
        return f"`{base}`, which comes with convlora."
    if is_local:
        return f"{_plain(name)}, which is not on the Hub under a name known here. Give your copy of it with `--model`."
    return f"[{base}](https://huggingface.co/{base}); it is downloaded from there."


def run_name(run: str) -> str:
    """What others may know of the name of a run: of a folder the last part alone."""
    return run if is_on_hub(run) else PureWindowsPath(run).name


def is_sam(model: PeftModel) -> bool:
    """Whether what was adapted is a SAM of any version."""
    sams = SamForSemanticSegmentation, Sam2ForSemanticSegmentation, Sam3ForSemanticSegmentation
    return isinstance(model.base_model.model, sams)


def _plain(text: str) -> str:
    """Text that neither Markdown nor HTML makes anything of: a card is shown on the Hub."""
    marked = re.sub(r"([\\`*\[\]|])", r"\\\1", printable(text))
    return html.escape(marked, quote=False)
