"""Everything that determines a run."""

from __future__ import annotations

import dataclasses
import difflib
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import yaml

from convlora.errors import InputError, quoted, shown
from convlora.methods.registry import METHODS
from convlora.recipes import PREFIX as RECIPE
from convlora.recipes import read_recipe
from convlora.storage import write_text
from convlora.untrusted import UnreadableError, parse_yaml, read_yaml

Precision = Literal["auto", "fp32", "bf16", "fp16"]


@dataclass
class DataSettings:
    """Where the images come from and how they are read.

    Attributes:
        path: Folder or CSV file.
        augmentation: "none", "flip" (the published one), "flips" or "strong"; null: chosen, see
            `convlora.training.defaults`.
        intensity: How 16-bit images become 8-bit: by the range of their "type", or of each "image".
        val_fraction: Share of the training images held out if there is no validation split. 0: none, so that all are
            trained on; nothing is validated then, and the weights of the last epoch are kept.
        train_fraction: Share of the training images to train on; a smaller share is part of a larger one.
        split_seed: Decides which images are held out; null: the run's seed.
        workers: Processes that read images; null: by the cores that may be used, up to 8 on a GPU, none on a CPU,
            where they would compete.
        on_bad_image: What files do that cannot be used: "stop" the run before it begins, or be left out ("skip") and
            listed in `skipped.json`.
    """

    path: str | None = None
    augmentation: str | None = None
    intensity: Literal["type", "image"] = "type"
    val_fraction: float = 0.1
    train_fraction: float = 1.0
    split_seed: int | None = None
    workers: int | None = None
    on_bad_image: Literal["stop", "skip"] = "stop"


@dataclass
class ModelSettings:
    """Which SAM.

    Attributes:
        source: Hub id, folder, or Meta's .pth file.
        image_size: Side of the square that images are resized to, or [height, width]; null: the checkpoint's own.
        head: How several classes are told apart: "mask-classification" or "per-pixel"; "auto" chooses. Binary tasks
            have one of their own.
        num_mask_tokens: Mask tokens of mask classification; "auto": chosen from the data, more than any image has
            classes.
        detail: A convolutional branch beside SAM for what is thinner than its patches: "half" draws at half of the
            image's size, "full" at all of it, "none" is SAM alone as published; "auto" chooses.
        attention: "auto" (exact and small: "blocks" on a CPU, "vectors" on a GPU), or transformers' "sdpa" or "eager".
    """

    source: str = "facebook/sam-vit-base"
    image_size: int | list[int] | None = None
    head: Literal["auto", "binary", "mask-classification", "per-pixel"] = "auto"
    num_mask_tokens: int | Literal["auto"] | None = "auto"
    attention: Literal["auto", "blocks", "vectors", "sdpa", "eager"] = "auto"
    detail: Literal["auto", "none", "half", "full"] = "auto"


@dataclass
class MethodSettings:
    """How it is fine-tuned: the name of the method, and its options."""

    name: str = "conv-lora"
    options: dict[str, Any] = field(default_factory=dict)


@dataclass
class TrainingSettings:
    """The training itself. What is null is chosen when the run begins, see `convlora.training.defaults`.

    Attributes:
        loss: Of binary tasks: "structure" (the published one), "balanced-bce" (for shadows), "bce-dice" or
            "structure-mean-bce"; null: chosen, or with several classes that of the head.
        epochs: Passes over the training images; null: chosen by their number.
        max_steps: Stop after this many optimizer steps; null: after the epochs.
        budget_seconds: Train for about so long in the place of epochs: some steps are timed before training, and
            `max_steps` is set to as many as fit. If both are given, the timing was done before.
        batch_size: Images at a time, per device; null: what makes a step of 4 images, all at once on a GPU where memory
            allows, one by one on a CPU.
        grad_accum: Batches per optimizer step; null: as many as make a step of 4 images.
        lr: Learning rate at the start; it falls linearly to zero. null: chosen by method and SAM.
        lr_decoder: That of the mask decoder without its detail branch; null: as `lr`.
        lr_detail: That of the mask decoder's detail branch; null: chosen, at least `lr`.
        warmup_steps: In so many steps at the beginning the learning rates rise linearly from zero; null: chosen.
        ema: Decay of an exponential moving average of the trained weights, such as 0.99. The average is what is
            validated and kept. 0: none; null: chosen.
        patience: Stop after so many validations in a row without a better `select_by`; null: never.
        class_weights: Whether rare classes weigh more: by the square root of how much rarer than the mean they are, at
            most tenfold.
        set_loss_weights: With mask classification, the weights of the loss over classes, of the masks' cross-entropy
            and of their Dice loss; in the cost of a match too.
        weight_decay: Of AdamW; biases and norms are left out.
        max_grad_norm: Gradients are clipped to this norm; 0: not at all.
        adapt_last: Adapt only so many of the vision encoder's last blocks; null: all. The blocks before them then run
            without a graph, which saves their share of memory and of the backward pass.
        cache: Keep what the blocks below `adapt_last` make of each image on disk, in the run folder, until the run is
            finished: later epochs skip them. Training images are kept unless the augmentation is "strong".
        memory: "given" takes batch size and checkpointing as they are; "auto" tries out what a step takes and picks the
            fastest way to the same number of images per step that fits. The choice is written to `config.yaml`.
        activation_checkpointing: Recompute activations in the backward pass: slower by about a fifth, far less
            memory.
        precision: "fp32", "bf16" or "fp16" for the frozen arithmetic; what is trained stays in fp32. "auto": bf16 or
            fp16 on a GPU; on a CPU bf16 if it has it and the encoder is as wide as a published SAM's, else fp32.
        device: "auto" (a CUDA GPU if there is one), or a device by PyTorch's name: "cpu", "cuda", "cuda:1", "mps".
        compile: "auto" records the steps once and replays them on a GPU, which then does not wait for the host; "none"
            starts every operation by itself, as on a CPU.
        seed: Of everything that is drawn.
        select_by: The score on the validation images that picks the best epoch; null: "iou", or "miou" with several
            classes.
        logging_steps: Optimizer steps between two lines of the log.
        report_to: Loggers of transformers, such as "tensorboard" or "wandb".
    """

    loss: str | None = None
    epochs: int | None = None
    max_steps: int | None = None
    budget_seconds: float | None = None
    batch_size: int | None = None
    grad_accum: int | None = None
    lr: float | None = None
    lr_decoder: float | None = None
    lr_detail: float | None = None
    warmup_steps: int | None = None
    ema: float | None = None
    patience: int | None = None
    class_weights: bool = False
    set_loss_weights: list[float] = field(default_factory=lambda: [2.0, 5.0, 5.0])
    weight_decay: float = 1e-4
    max_grad_norm: float = 1.0
    adapt_last: int | None = None
    cache: bool = False
    memory: Literal["given", "auto"] = "given"
    activation_checkpointing: bool = False
    precision: Precision = "auto"
    device: str = "auto"
    compile: Literal["auto", "none"] = "auto"
    seed: int = 0
    select_by: str | None = None
    logging_steps: int = 1
    report_to: list[str] = field(default_factory=list)

    def rates(self) -> dict[str, float]:
        """Learning rates that differ from `lr`, by the name of their setting."""
        rates = {"lr_decoder": self.lr_decoder, "lr_detail": self.lr_detail}
        return {setting: rate for setting, rate in rates.items() if rate is not None}


@dataclass
class RunConfig:
    """All settings of a run, as in `RUN/config.yaml`.

    Attributes:
        settled: Settings, such as "training.loss", that a run filled in by itself. They are no error where they have no
            effect.
    """

    data: DataSettings = field(default_factory=DataSettings)
    model: ModelSettings = field(default_factory=ModelSettings)
    method: MethodSettings = field(default_factory=MethodSettings)
    training: TrainingSettings = field(default_factory=TrainingSettings)
    settled: set[str] = field(default_factory=set, compare=False, repr=False)

    @classmethod
    def load(cls, path: Path) -> RunConfig:
        """Reads a YAML file, or a published experiment by `recipe:NAME`.

        Raises:
            InputError: If it cannot be read or holds an unknown key or a value of the wrong type.
        """
        if str(path).startswith(RECIPE):
            config = cls()
            config.update(IN_OLDER_VERSIONS, origin=str(path))
            config.update(read_recipe(str(path).removeprefix(RECIPE)).settings, origin=str(path))
            return config
        try:
            values = read_yaml(path)
        except OSError as error:
            raise InputError(f"Cannot read the configuration {path}: {error}. Check the path.") from error
        except UnreadableError as error:
            raise InputError(f"The configuration {path} cannot be read as YAML: {error}.") from error
        if not isinstance(values, dict):
            raise InputError(f"The configuration {path} is empty or no table of settings. Compare a RUN/config.yaml.")
        config = cls()
        is_whole = set(_SECTIONS) <= values.keys()  # a run's, maybe of an older version
        if is_whole:
            config.update(IN_OLDER_VERSIONS, origin=str(path))
        config.update(values, origin=str(path))
        if is_whole:
            config.settled = {key for key in _FILLED_IN if config.is_filled_in(key)}
        return config

    def save(self, path: Path) -> None:
        """Writes the YAML file."""
        write_text(path, "# Repeat with: convlora train --config THIS_FILE --output NEW_FOLDER\n" + self.to_yaml())

    def to_yaml(self) -> str:
        """The settings as YAML, in the order of this file."""
        return yaml.safe_dump(self.to_dict(), sort_keys=False, allow_unicode=True)

    def is_filled_in(self, key: str) -> bool:
        """Whether a setting has a value that runs fill in where it has no effect."""
        section, _, name = key.partition(".")
        return getattr(getattr(self, section), name) in _FILLED_IN.get(key, ())

    def to_dict(self) -> dict[str, Any]:
        """The settings as nested dictionaries; the options of the method stand beside its name."""
        values = dataclasses.asdict(self)
        del values["settled"]
        method = values["method"]
        values["method"] = {"name": method["name"], **method["options"]}
        return values

    def update(self, values: Mapping[str, Any], origin: str) -> None:
        """Overwrites settings with those of nested dictionaries.

        Args:
            values: By section and name.
            origin: What the error message calls their source.
        """
        for section, entries in values.items():
            if section not in _SECTIONS:
                raise InputError(_unknown(str(section), list(_SECTIONS), origin))
            if section == "method" and isinstance(entries, str):
                entries = {"name": entries}
            if not isinstance(entries, Mapping):
                raise InputError(
                    f"'{section}' in {origin} must hold settings, such as: {', '.join(_SECTIONS[section])}."
                )
            # First what resets others: another method's options do not apply, nor another length of the run.
            for key, value in sorted(entries.items(), key=lambda entry: entry[0] not in ("name", "budget_seconds")):
                self._set(section, str(key), value, origin)

    def override(self, assignments: list[str]) -> None:
        """Applies `KEY=VALUE` assignments; the section may be left out where the name is unique.

        Raises:
            InputError: If one is malformed, unknown or of the wrong type.
        """
        for assignment in assignments:
            key, separator, text = assignment.partition("=")
            origin = f"--set {assignment}"
            if not separator:
                raise InputError(f"'{origin}' has no '='. Write --set KEY=VALUE, for example --set training.lr=3e-4.")
            section, _, name = key.strip().rpartition(".")
            if not section and name == "method":
                section, name = "method", "name"
            if not section:
                homes = [s for s, names in _SECTIONS.items() if name in names]
                if any(name in method.defaults for method in METHODS.values()):
                    homes.append("method")
                if len(homes) != 1:
                    raise InputError(_unknown(name, _all_keys(), origin))
                section = homes[0]
            if section not in _SECTIONS:
                raise InputError(_unknown(key, _all_keys(), origin))
            try:
                value = parse_yaml(text)
            except UnreadableError as error:
                raise InputError(
                    f"The value in '{origin}' cannot be read: {error}. Quote it if it holds special signs."
                ) from error
            self._set(section, name, value, origin)

    def _set(self, section: str, key: str, value: Any, origin: str) -> None:
        settings = getattr(self, section)
        self.settled.discard(f"{section}.{key}")
        if section == "method" and key != "name":
            settings.options[key] = value
            return
        if section == "method" and value != settings.name:
            settings.options = {}
        if key == "budget_seconds" and value != settings.budget_seconds:
            settings.epochs = settings.max_steps = None
        for other in _CHOSEN_BY.get(f"{section}.{key}", ()):
            if other in self.settled and value != getattr(settings, key):
                setattr(self.training, other.removeprefix("training."), None)
        if key not in _SECTIONS[section]:
            raise InputError(_unknown(f"{section}.{key}", _all_keys(), origin))
        kind = typing.get_type_hints(type(settings))[key]
        try:
            setattr(settings, key, _convert(value, kind))
        except (TypeError, ValueError, OverflowError):
            raise InputError(
                f"{section}.{key} must be {_describe(kind)}, but {origin} gives {quoted(value)}."
            ) from None


# What a run did whose version did not have the setting yet; and published experiments.
IN_OLDER_VERSIONS: dict[str, dict[str, Any]] = {
    "model": {"detail": "none"},
    "training": {"lr_decoder": None, "lr_detail": None, "warmup_steps": 0, "ema": 0.0, "patience": None},
}

# What runs write into their `config.yaml` by themselves: the loss and the epochs were defaults of older versions,
# comparisons hold out the same images for all seeds, and the rest is what `convlora.training.defaults` chooses.
_FILLED_IN: dict[str, tuple[Any, ...]] = {
    "training.loss": ("structure", "bce-dice"),
    "training.epochs": (20,),
    "training.warmup_steps": tuple(range(1, 21)),
    "training.lr": (1e-4, 1e-3),
    "training.lr_detail": (1e-3,),
    "data.split_seed": (0,),
}

# Settings that are chosen by another. When that changes, they are chosen anew, unless they were asked for.
_CHOSEN_BY: dict[str, tuple[str, ...]] = {
    "training.epochs": ("training.warmup_steps",),
    "training.max_steps": ("training.warmup_steps",),
    "training.budget_seconds": ("training.warmup_steps",),
    "model.source": ("training.lr", "training.lr_detail"),
    "model.detail": ("training.lr_detail",),
    "method.name": ("training.lr", "training.lr_detail"),
}

_SECTIONS: dict[str, list[str]] = {
    section.name: [entry.name for entry in dataclasses.fields(kind) if entry.name != "options"]
    for section, kind in zip(
        dataclasses.fields(RunConfig)[:4], (DataSettings, ModelSettings, MethodSettings, TrainingSettings), strict=True
    )
}


def _all_keys() -> list[str]:
    options = dict.fromkeys(f"method.{option}" for method in METHODS.values() for option in method.defaults)
    return [f"{section}.{key}" for section, keys in _SECTIONS.items() for key in keys] + list(options)


def _unknown(key: str, known: list[str], origin: str) -> str:
    leaves = {name.rpartition(".")[2]: name for name in known}
    close = difflib.get_close_matches(key, known, n=1) or [
        leaves[match] for match in difflib.get_close_matches(key.rpartition(".")[2], list(leaves), n=1)
    ]
    hint = f"Did you mean '{close[0]}'?" if close else "The config.yaml of any run lists all of them."
    return f"There is no setting '{shown(key)}' ({origin}). {hint}"


def _convert(value: Any, kind: Any) -> Any:
    """Converts a value read from YAML to a setting's type.

    Raises:
        TypeError: If it does not fit.
        ValueError: If it does not fit.
    """
    origin = typing.get_origin(kind)
    if origin in (types.UnionType, typing.Union):
        for option in typing.get_args(kind):
            try:
                return _convert(value, option)
            except (TypeError, ValueError):
                continue
        raise TypeError
    if origin is Literal:
        if value in typing.get_args(kind):
            return value
        raise ValueError
    if origin is list:
        (inner,) = typing.get_args(kind)
        if isinstance(value, str) and inner is str:
            return [value]
        if not isinstance(value, list):
            raise TypeError
        return [_convert(entry, inner) for entry in value]
    if kind is type(None):
        if value is not None:
            raise TypeError
        return None
    if kind is float and not isinstance(value, bool):
        return float(value)  # YAML reads 1e-4, without a point, as text
    if kind is int and isinstance(value, float) and value.is_integer():
        return int(value)
    if type(value) is not kind:
        raise TypeError
    return value


def _describe(kind: Any) -> str:
    origin = typing.get_origin(kind)
    if origin in (types.UnionType, typing.Union):
        return " or ".join(_describe(option) for option in typing.get_args(kind))
    if origin is Literal:
        return "one of " + ", ".join(f"'{value}'" for value in typing.get_args(kind))
    if origin is list:
        return "a list"
    return {int: "a whole number", float: "a number", bool: "true or false", str: "a text", type(None): "null"}[kind]
