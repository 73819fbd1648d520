"""Looking at what the adapters of a run do."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np

from convlora.data.reading.stored import StoredImage
from convlora.data.reading.volumes.slicing import Slicing
from convlora.data.sample import Sample
from convlora.data.sources.opening import ALL, open_data
from convlora.errors import InputError
from convlora.inference.inputs import ImageLike
from convlora.inference.segmenter import Segmenter
from convlora.inspecting.findings import Findings, measure
from convlora.inspecting.gate_choices import window_size
from convlora.inspecting.layers import segmenter_of, short_names
from convlora.inspecting.missing import has_gradient, notes_on, why_missing
from convlora.inspecting.page import write_inspection
from convlora.inspecting.plots import SHARES
from convlora.methods.registry import find_method
from convlora.paths import expanded
from convlora.report.run_facts import name_of
from convlora.report.run_files import read_run
from convlora.reporting import Logged, Reporter
from convlora.runs.folds import refuse_folds
from convlora.runs.hub import is_on_hub, resolve_run
from convlora.runs.reading import read_settings
from convlora.storage import make_folder

IMAGES = 8
_SPLITS = {"test": "test", "val": "validation", ALL: "", "train": "training"}


def inspect_run(
    run: str | os.PathLike[str],
    data: str | os.PathLike[str],
    *,
    output: str | os.PathLike[str] | None = None,
    images: int = IMAGES,
    model: str | os.PathLike[str] | None = None,
    device: str = "auto",
    reporter: Reporter | None = None,
) -> dict[str, Any]:
    """Writes a page, `inspect.html`, that shows what the adapters of a run do on a few images.

    It compares the encoder with and without its adapters: how far its heads look, and which pixels a cell depends on.
    It shows which experts the gates choose, how large the update of each layer is, and what the detail branch adds.

    Args:
        run: The run folder that training wrote, or `hf:USER/NAME[@REVISION]` on the Hugging Face Hub.
        data: Data set, as for training. The images are spread evenly over its test split, or else its validation split.
        output: Folder for the page; None: the run folder.
        images: How many images to look at.
        model: The SAM the run was trained from, if it has moved.
        device: `"auto"` or a device by PyTorch's name. All is computed in single precision.
        reporter: Receives progress and messages; default: they are logged.

    Returns:
        `page`, `split` and `images`, and what was measured: `attention_distance` (pixels, by block and head, `base` and
        `adapted`), `expert_shares` by layer, `update_sizes` and `weight_updates` by layer, `receptive_field` (radii in
        pixels) and `detail_share`; None where something does not apply.

    Raises:
        InputError: If the run or the data cannot be read, or the run has no vision encoder.
    """
    reporter = Logged() if reporter is None else reporter
    if isinstance(images, bool) or not isinstance(images, int) or images < 1:
        raise InputError(f"--images must be at least 1, got {images}.")
    if output is None and is_on_hub(run):
        raise InputError("A run on the Hugging Face Hub has no folder for the page. Say with --output where it goes.")
    folder = resolve_run(run)
    refuse_folds(folder, "convlora inspect")
    settings = read_settings(folder)
    method = str(settings["method"]["name"])
    if find_method(method).network is not None:
        raise InputError(
            f"The run {run} trained a U-Net, which has no pretrained encoder and no adapters to look at. Leave out the "
            "data to see what the run is made of, or give another run."
        )
    split, samples = _chosen(os.fspath(data), images, Slicing.of(settings["data"]))
    pictures: list[tuple[str, ImageLike | StoredImage]] = [(sample.name, sample.image) for sample in samples]
    files = read_run(folder)
    segmenter = Segmenter.load(folder, model=model, device=device, precision="fp32")
    findings = measure(
        segmenter,
        pictures,
        fields=has_gradient(method),
        track=lambda items: reporter.track(items, "Looking at images"),
    )
    inner = segmenter_of(segmenter.model)
    kind, size = str(inner.encoder_facts()["kind"]), segmenter.image_size
    cells = window_size(segmenter.model)
    shown = " ".join(word for word in (str(len(samples)), _SPLITS[split], "image" + "s" * (len(samples) > 1)) if word)
    target = make_folder(folder if output is None else expanded(output))
    page = write_inspection(
        target,
        findings,
        title=f"What the adapters of {name_of(folder)} do",
        headline=[
            f"The method {method} in the encoder of {kind}, on {shown} of {Path(data).name}, which the model sees at "
            f"{size[0]} x {size[1]} pixels.",
            "The base encoder is the one before training, the adapted encoder the one after it.",
            *(
                []
                if segmenter.tiles is None
                else ["The run was trained on windows, so the window in the middle of each image is looked at."]
            ),
        ],
        notes=notes_on(method),
        missing=why_missing(method, kind),
        classes=segmenter.classes,
        log=files.log,
        window=None if cells is None else cells * findings.cell,
        whole=inner.encoder_facts().get("blocks_with_global_attention", ()),
    )
    return {
        "run": str(run),
        "data": str(data),
        "split": split,
        "images": findings.names,
        "page": str(page),
        **_numbers(findings),
    }


def _chosen(data: str, images: int, slicing: Slicing) -> tuple[str, list[Sample]]:
    """The split to look at, and samples spread evenly over it."""
    source = open_data(data, slicing=slicing)
    split = next((name for name in ("test", "val", ALL, "train") if source.splits.get(name)), "test")
    samples = source.split(split)
    places = np.linspace(0, len(samples) - 1, min(images, len(samples))).round().astype(int)
    return split, [samples[place] for place in places]


def _numbers(found: Findings) -> dict[str, Any]:
    distances = {"base": _by_block(found.base_distances), "adapted": _by_block(found.distances)}
    fields = {"base": found.base_field, "adapted": found.adapted_field}
    names = short_names([layer.name for layer in found.choices])
    return {
        "attention_distance": distances if found.distances else None,
        "expert_shares": {
            name: {str(scale): share for scale, share in zip(layer.scales, layer.shares)}
            for name, layer in zip(names, found.choices)
        }
        or None,
        "update_sizes": dict(zip(short_names(list(found.updates)), found.updates.values())) or None,
        "weight_updates": dict(zip(short_names(list(found.weights)), found.weights.values())) or None,
        "receptive_field": None
        if found.adapted_field is None
        else {
            name: {f"{share:g}": one.radius(share) for share in SHARES}
            for name, one in fields.items()
            if one is not None
        },
        "detail_share": {
            "share": float(np.mean([one.share for one in found.details])),
            "changed": float(np.mean([one.changed for one in found.details])),
        }
        if found.details
        else None,
    }


def _by_block(blocks: dict[int, list[float]]) -> dict[str, list[float]]:
    return {str(block + 1): heads for block, heads in blocks.items()}
