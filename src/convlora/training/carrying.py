"""Weights of an earlier run in a new model: what fits is kept, and what belongs to one class goes to its namesake.

Everything but the last layers is of no class: adapters, transformer, mask features, detail branch. What belongs to a
class or to a mask token is a row of a tensor. Rows of classes of the same name are carried over, all others stay as
the new model was made.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel, set_peft_model_state_dict
from safetensors import SafetensorError, safe_open

from convlora.data.classes.class_table import ClassTable
from convlora.errors import InputError, shown, shown_list
from convlora.models import SegmentationModel
from convlora.models.build import adapter_config
from convlora.models.detail import CAME_LATER
from convlora.ordinary import open_ordinary, ordinary
from convlora.runs.adapters import check_adapter, difference, saved_weights
from convlora.runs.reading import check_sam, first_line
from convlora.training.earlier import Earlier

Rows = list[tuple[int, int]]  # of the earlier run, and where they go
Checked = tuple[Path, dict[str, list[int]]]  # a file of weights, with the names and sizes of what is in it

_KERNELS = ("mask_decoder.detail.token_kernels", "mask_decoder.detail.half_token_kernels")
_CLASSIFIER = ("mask_decoder.classifier.weight", "mask_decoder.classifier.bias")
_LAST_OF_NETWORK = ("network.final_conv.weight", "network.final_conv.bias")
_DETAIL = ".mask_decoder.detail."
# What a configuration of PEFT says of the head, which may be another one now: parts of a decoder that are trained in
# full, and queries in front of the image. What there is to carry over is compared tensor by tensor.
_OF_THE_HEAD = ("modules_to_save", "num_prefix_tokens_pattern")


@dataclass(frozen=True)
class Carried:
    """What a run has from an earlier one, as in `RUN/from.json`.

    Attributes:
        run: The earlier run, as the settings name it.
        weights_sha256: SHA-256 of its file of weights.
        classes: Names of the classes whose own weights were carried over.
        new_classes: Names of those that start fresh.
        dropped_classes: Names of those that the earlier run had, and the new one has not.
        head: How the new run tells classes apart.
        earlier_head: How the earlier one did.
        mask_tokens: Mask tokens of mask classification that were carried over, and all of them; None: it has none.
        fresh_detail: Whether the detail branch is new.
    """

    run: str
    weights_sha256: str
    classes: list[str]
    new_classes: list[str]
    dropped_classes: list[str]
    head: str
    earlier_head: str
    mask_tokens: list[int] | None
    fresh_detail: bool

    def to_dict(self) -> dict[str, Any]:
        """The attributes by name."""
        return asdict(self)

    def sentences(self) -> list[str]:
        """What was kept and what starts fresh, for people."""
        told = [f"Training begins with the weights of {shown(self.run)}."]
        if self.head != self.earlier_head:
            told.append(
                f"That run told classes apart by the head {self.earlier_head}, and this one does by {self.head}: what "
                "belongs to single classes starts fresh, the rest is kept."
            )
        elif self.new_classes or self.dropped_classes:
            parts = [
                ("Kept classes", self.classes),
                ("New classes, which start fresh", self.new_classes),
                ("Classes that are no longer there", self.dropped_classes),
            ]
            told += [f"{what}: {shown_list(names)}." for what, names in parts if names]
            if self.new_classes and self.dropped_classes:
                told.append("If a class only has another name now, give it its earlier name in classes.json.")
        if self.mask_tokens is not None and self.mask_tokens[0] != self.mask_tokens[1]:
            told.append(f"{self.mask_tokens[0]} of {self.mask_tokens[1]} mask tokens are kept; the others start fresh.")
        if self.fresh_detail:
            told.append("The detail branch starts fresh, because that run had none.")
        if len(told) == 1:
            told.append("Everything that it has trained is kept.")
        return told


@dataclass(frozen=True)
class _Head:
    """What the last layers of a model are like.

    Attributes:
        kind: `"binary"`, `"per-pixel"` or `"mask-classification"`.
        classes: Names of the classes.
        tokens: Name of the tensor of the mask tokens; None: a network without.
        number: Number of mask tokens.
    """

    kind: str
    classes: Sequence[str]
    tokens: str | None
    number: int


def begin_with(model: PeftModel, earlier: Earlier, classes: ClassTable, checked: Checked) -> Carried:
    """Gives a new model the weights of an earlier run.

    Args:
        model: With fresh adapters, in float32 on the CPU; changed in place.
        earlier: The earlier run.
        classes: Classes of the new model.
        checked: What [`check_earlier`] returned.

    Raises:
        InputError: If its weights are damaged or do not fit.
    """
    weights, found = checked
    own = saved_weights(model)
    segmenter = model.base_model.model
    new, old = _head_of(segmenter, classes, own), _earlier_head(segmenter, earlier, found)
    _check_rows(weights, found, old)
    moves = {name: _rows(name, old, new) for name in own.keys() | found.keys()}
    fresh = _has_detail(own) and not _has_detail(found)
    in_one = {name for name in own.keys() ^ found.keys() if name.endswith(CAME_LATER)}
    _check_fit(weights, found, own, {name for name, rows in moves.items() if rows is not None} | in_one, fresh)
    state: dict[str, torch.Tensor] = {}
    try:
        with safe_open(ordinary(weights), "pt", device="cpu") as file:
            for name, value in own.items():
                state[name] = value.detach().clone()
                rows = moves[name]
                if name in in_one and not fresh:  # the earlier run did without
                    state[name].zero_()
                if name in found and rows is None:
                    state[name] = file.get_tensor(name)
                elif name in found and rows:
                    before, after = (torch.tensor(side) for side in zip(*rows))
                    state[name][after] = file.get_tensor(name)[before].to(state[name])
    except (OSError, SafetensorError, IndexError) as error:
        raise InputError(f"{weights} is damaged ({first_line(error)}). Restore it from a copy.") from error
    set_peft_model_state_dict(model, state)
    return _described(weights, earlier, old, new, fresh)


def check_earlier(base: SegmentationModel, sam: dict[str, float], source: str, earlier: Earlier) -> Checked:
    """Checks, before adapters are put into a model, that the weights of an earlier run were trained for it.

    Args:
        base: The model.
        sam: A sample of its weights, see `convlora.models.fingerprint`.
        source: What it is called.
        earlier: The earlier run.

    Returns:
        What [`begin_with`] needs to know.

    Raises:
        InputError: If they were trained for another model, or are damaged.
    """
    check_sam(earlier.folder, sam, source)
    saved = earlier.config
    config = adapter_config(base, saved.method.name, saved.method.options, saved.training.adapt_last)
    return check_adapter(earlier.adapter, config, _OF_THE_HEAD)


def _has_detail(names: Any) -> bool:
    """Whether there is a detail branch among some weights."""
    return any(_DETAIL in name for name in names)


def _head_of(segmenter: Any, classes: ClassTable, own: dict[str, torch.Tensor]) -> _Head:
    tokens = _tokens_name(segmenter)
    number = 0 if tokens is None else len(_find(own, tokens))
    return _Head(segmenter.config.head_in_use, classes.names, tokens, number)


def _earlier_head(segmenter: Any, earlier: Earlier, found: dict[str, list[int]]) -> _Head:
    kind: str = earlier.config.model.head
    names, tokens = earlier.classes.names, _tokens_name(segmenter)
    if kind == "auto":
        several = "per-pixel" if tokens is None or not _has(found, _CLASSIFIER[0]) else "mask-classification"
        kind = "binary" if len(names) == 2 and not _has(found, _CLASSIFIER[0]) else several
    shape = [0] if tokens is None or not _has(found, tokens) else _find(found, tokens)
    return _Head(kind, names, tokens, shape[0] if shape else 0)


def _tokens_name(segmenter: Any) -> str | None:
    decoder = getattr(segmenter, "mask_decoder", None)
    return None if decoder is None else f"mask_decoder.{decoder.read_token}.weight"


def _has(values: Any, end: str) -> bool:
    return any(name.endswith(f".{end}") for name in values)


def _find(values: Any, end: str) -> Any:
    return next(value for name, value in values.items() if name.endswith(f".{end}"))


def _rows(name: str, old: _Head, new: _Head) -> Rows | None:
    """Which rows of a tensor are carried over; None: it belongs to no class and no token, and must fit as a whole."""
    is_token = old.tokens is not None and name.endswith(tuple(f".{end}" for end in (old.tokens, *_KERNELS)))
    is_last = name.endswith(tuple(f".{end}" for end in _LAST_OF_NETWORK))
    is_classifier = name.endswith(tuple(f".{end}" for end in _CLASSIFIER))
    if not (is_token or is_last or is_classifier):
        return None
    if old.kind != new.kind:
        return []
    if new.kind == "binary":  # one mask, of the second class
        same = old.classes[1] == new.classes[1]
        first: Rows = [(0, 0)] if same else []
        return first if is_last else first + [(row, row) for row in range(1, min(old.number, new.number))]
    if new.kind == "mask-classification" and is_token:
        return [(row, row) for row in range(min(old.number, new.number))]
    places = {one: row for row, one in enumerate(old.classes)}
    rows = [(places[one], row) for row, one in enumerate(new.classes) if one in places]
    return [*rows, (len(old.classes), len(new.classes))] if is_classifier else rows  # the last is "no object"


def _check_rows(weights: Path, found: dict[str, list[int]], old: _Head) -> None:
    """Refuses weights that are not of as many classes as their run says."""
    count = len(old.classes)
    of_tokens = count if old.kind == "per-pixel" else old.number
    wanted = dict.fromkeys(_LAST_OF_NETWORK, 1 if old.kind == "binary" else count)
    wanted |= dict.fromkeys(_CLASSIFIER, count + 1 if old.kind == "mask-classification" else 0)
    wanted |= dict.fromkeys(_KERNELS, 0 if old.kind == "binary" else of_tokens) | {str(old.tokens): of_tokens}
    for end, rows in wanted.items():
        for name, shape in found.items():
            if name.endswith(f".{end}") and shape[:1] != [rows]:
                raise InputError(
                    f"{weights} does not fit classes.json and config.yaml of its run ({end} is {shape}). The files do "
                    "not belong to the same run; restore them from a copy."
                )


def _check_fit(
    weights: Path, found: dict[str, list[int]], own: dict[str, torch.Tensor], by_rows: set[str], fresh: bool
) -> None:
    """Compares the sizes of what is carried over before any of it is read."""
    wanted = {name: list(value.shape) for name, value in own.items()}
    whole = {name: shape for name, shape in wanted.items() if name not in by_rows and not (fresh and _DETAIL in name)}
    given = {name: shape for name, shape in found.items() if name not in by_rows}
    different = difference(given, whole)
    for name in by_rows & found.keys() & wanted.keys():
        if found[name][1:] != wanted[name][1:] or len(found[name]) != len(wanted[name]):
            different = different or f"{name[:120]} is {found[name]} there and {wanted[name]} here"
    if different is not None:
        raise InputError(
            f"Training cannot begin with {weights}: {different}. Give the model that run was trained from with "
            "--model, or train without --from."
        )


def _described(weights: Path, earlier: Earlier, old: _Head, new: _Head, fresh: bool) -> Carried:
    alike = old.kind == new.kind
    # A binary task has one mask, that of its second class; the background is what is left.
    had, has = (one.classes[1:] if alike and new.kind == "binary" else one.classes for one in (old, new))
    kept = [name for name in has if alike and name in had]
    with open_ordinary(weights) as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    is_masks = alike and new.kind == "mask-classification"
    return Carried(
        run=earlier.name,
        weights_sha256=digest,
        classes=kept,
        new_classes=[name for name in has if name not in kept],
        dropped_classes=[name for name in had if name not in has],
        head=new.kind,
        earlier_head=old.kind,
        mask_tokens=[min(old.number, new.number), new.number] if is_masks else None,
        fresh_detail=fresh,
    )
