"""What a comparison consists of, and where each of its runs lies."""

from __future__ import annotations

import copy
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from convlora.errors import InputError
from convlora.methods.registry import find_method
from convlora.models.checkpoints import native_size
from convlora.models.configuration import IMAGE_MULTIPLE, as_size
from convlora.settings import MethodSettings
from convlora.training.config import RunConfig
from convlora.training.validation import check_settings, leave_out_sam, settle_window

# Settings in which methods may differ and still be compared.
_OWN_SETTINGS = (
    "lr",
    "lr_decoder",
    "lr_detail",
    "warmup_steps",
    "ema",
    "weight_decay",
    "max_grad_norm",
    "loss",
    "class_weights",
    "set_loss_weights",
    "head",
    "num_mask_tokens",
    "decoder",
    "adapt_last",
)


@dataclass(frozen=True)
class Variant:
    """A method with options, as users write it: `lora`, `conv-lora:top_k=2:lr=3e-4`.

    Attributes:
        label: What was written.
        method: Name of the method.
        settings: `KEY=VALUE` of its options, or of any setting of a run.
        image_size: [height, width] for a network that has no size of its own: that of the SAM it is compared with.
            None: that of the settings.
    """

    label: str
    method: str
    settings: tuple[str, ...] = ()
    image_size: tuple[int, int] | None = None

    @classmethod
    def parse(cls, text: str) -> Variant:
        """Reads a variant.

        Raises:
            InputError: If a part has no value.
        """
        method, *settings = [part.strip() for part in text.split(":")]
        for setting in settings:
            if "=" not in setting:
                raise InputError(f"'{setting}' in --methods {text} has no '='. Write METHOD:OPTION=VALUE.")
        return cls(text.strip(), method, tuple(settings))

    @property
    def folder(self) -> str:
        """The label as the name of a folder."""
        return re.sub(r"[^\w.=,+-]+", "_", self.label)

    @property
    def states_lr(self) -> bool:
        """Whether it has a learning rate of its own."""
        return any(setting.partition("=")[0] in ("lr", "training.lr") for setting in self.settings)


@dataclass(frozen=True)
class PlannedRun:
    """One training run of a comparison.

    Attributes:
        variant: The method.
        fraction: Share of the training images it sees.
        lr: Learning rate, if it is not that of the variant's settings.
        seed: Seed of everything that is drawn.
    """

    variant: Variant
    fraction: float
    lr: float | None
    seed: int

    def folder(self, output: Path) -> Path:
        """The run folder."""
        parts = [] if self.fraction == 1 else [f"fraction-{self.fraction:g}"]
        parts += [] if self.lr is None else [f"lr-{self.lr:g}"]
        return output.joinpath("runs", self.variant.folder, *parts, f"seed-{self.seed}")

    def config(self, base: RunConfig) -> RunConfig:
        """The settings of the run.

        Raises:
            InputError: If the variant has a setting that is not known.
        """
        config = copy.deepcopy(base)
        origin = f"--methods {self.variant.label}"
        config.method = MethodSettings(name=self.variant.method)
        method = find_method(self.variant.method)
        known = method.defaults
        if method.network is not None:
            leave_out_sam(config)
        if self.variant.image_size is not None:
            config.model.image_size = list(self.variant.image_size)
        for setting in self.variant.settings:
            name = setting.partition("=")[0].strip().rpartition(".")[2]
            if name not in known and name not in _OWN_SETTINGS:
                raise InputError(
                    f"'{name}' in {origin} is no option of {self.variant.method} ({', '.join(known) or 'none'}) and no "
                    f"setting in which methods may differ ({', '.join(_OWN_SETTINGS)})."
                )
        config.override(list(self.variant.settings))
        if self.lr is not None:
            config.training.lr = self.lr
        config.training.seed = self.seed
        config.data.train_fraction = self.fraction
        return config


@dataclass(frozen=True)
class Plan:
    """A comparison.

    Attributes:
        variants: The methods.
        seeds: Seeds, alike for all.
        fractions: Shares of the training images, falling.
        rates: Learning rates to try for each method that states none; empty: the settings' or the method's own.
        base: What all runs have in common.
    """

    variants: tuple[Variant, ...]
    seeds: tuple[int, ...]
    fractions: tuple[float, ...]
    rates: tuple[float, ...]
    base: RunConfig

    @property
    def reference(self) -> Variant:
        """What the others are compared with: LoRA if it takes part, else the first."""
        return next((variant for variant in self.variants if variant.label == "lora"), self.variants[0])

    def searched(self, variant: Variant) -> tuple[float, ...]:
        """The learning rates that are tried for a method."""
        return () if variant.states_lr else self.rates


def make_plan(
    methods: Sequence[str], seeds: int, fractions: Sequence[float], rates: Sequence[float], base: RunConfig
) -> Plan:
    """Checks what was asked for, before anything is trained.

    Raises:
        InputError: If a method, an option or a number is none.
    """
    base = copy.deepcopy(base)
    options = base.method.options
    stated = find_method(base.method.name).defaults
    if any(value != stated.get(key) for key, value in options.items()):
        raise InputError(
            "Options of a method stand beside its name: --methods lora:r=8. Leave method.* out of --set and --config."
        )
    _check_base(base, rates)
    base.method = MethodSettings()
    settle_window(base)
    if base.data.split_seed is None:  # the same images for all seeds
        base.data.split_seed = 0
        base.settled.add("data.split_seed")
    variants = _with_sizes([Variant.parse(text) for text in methods if text.strip()], base)
    if not variants:
        raise InputError("--methods names no method. Write for example --methods lora,conv-lora.")
    folders = [variant.folder for variant in variants]
    repeated = next((variant.label for variant in variants if folders.count(variant.folder) > 1), None)
    if repeated is not None:
        raise InputError(f"--methods names {repeated} more than once. Name each method once.")
    if seeds < 1:
        raise InputError(f"--seeds must be at least 1, got {seeds}.")
    if any(not 0 < fraction <= 1 for fraction in fractions):
        raise InputError("--train-fraction must hold numbers above 0 and up to 1, such as 0.05,0.25,1.")
    plan = Plan(
        variants,
        tuple(range(seeds)),
        tuple(sorted(set(fractions), reverse=True)) or (1.0,),
        tuple(dict.fromkeys(rates)),
        base,
    )
    for rate in plan.rates:
        if not (math.isfinite(rate) and rate > 0):
            raise InputError(f"--lr-search must hold learning rates above 0, got {rate:g}.")
    for variant in variants:
        check_settings(PlannedRun(variant, 1.0, None, 0).config(base))
    if all(find_method(variant.method).network is not None for variant in variants):
        alone = copy.deepcopy(base)  # no other method is there that settings of a SAM could be for
        alone.method = MethodSettings(name=variants[0].method)
        check_settings(alone)
    return plan


def _check_base(base: RunConfig, rates: Sequence[float]) -> None:
    """Refuses settings that a comparison makes itself for each of its runs."""
    if base.model.from_run is not None:
        raise InputError(
            "A comparison trains every method from the same start, so none can begin with the weights of another run. "
            "Leave out --from (model.from_run), and use convlora train for that."
        )
    default = RunConfig()
    idle = {
        "method.name": (base.method.name != default.method.name, "--methods names them"),
        "training.seed": (base.training.seed != default.training.seed, "--seeds counts them from 0"),
        "data.folds": (base.data.folds is not None, "all of them hold out the same images"),
        "data.train_fraction": (base.data.train_fraction != default.data.train_fraction, "--train-fraction lists them"),
        "training.lr": (base.training.lr is not None and bool(rates), "--lr-search lists them"),
    }
    for key, (is_given, instead) in idle.items():
        if is_given:
            section, _, name = key.partition(".")
            value = getattr(getattr(default, section), name)
            raise InputError(
                f"{key} has no effect on a comparison, which sets it for each run: {instead}. Leave it out, or take it "
                f"back with --set {key}={'null' if value is None else value}."
            )


def _with_sizes(variants: Sequence[Variant], base: RunConfig) -> tuple[Variant, ...]:
    """The variants; networks see the images at the size of the model that they are compared with, or near it."""
    is_network = [find_method(variant.method).network is not None for variant in variants]
    if not any(is_network) or all(is_network):
        return tuple(variants)
    given = base.model.image_size
    sides = native_size(base.model.source) if given is None else as_size(given)
    height, width = (max(1, round(side / IMAGE_MULTIPLE)) * IMAGE_MULTIPLE for side in sides)
    if given is not None and (height, width) == as_size(given):
        return tuple(variants)
    return tuple(
        replace(variant, image_size=(height, width)) if alone else variant
        for variant, alone in zip(variants, is_network, strict=True)
    )


def shared_settings(base: RunConfig) -> dict[str, dict[str, object]]:
    """The settings that must stay the same when a comparison is resumed."""
    settings = base.to_dict()
    settings.pop("method", None)
    settings["training"].pop("seed", None)
    return settings
