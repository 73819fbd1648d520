"""When a setting has an effect. One that was asked for and has none is an error.

Every setting of a run stands in [`CONDITIONS`].
"""

from __future__ import annotations

import shlex
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import yaml

from convlora.errors import InputError, shown
from convlora.losses import BALANCED_LOSSES
from convlora.methods.registry import Method, find_method
from convlora.settings import SETTINGS
from convlora.settings.model import Head
from convlora.training.config import RunConfig


@dataclass(frozen=True)
class Situation:
    """What decides whether settings have an effect.

    Attributes:
        config: The settings.
        num_classes: Number of classes of the data; None: not known yet.
        has_val: Whether the data have a validation split; None: not known yet.
        volumes: The kinds of volumes in the data; None: not known yet.
    """

    config: RunConfig
    num_classes: int | None = None
    has_val: bool | None = None
    volumes: frozenset[str] | None = None

    @property
    def method(self) -> Method:
        """How the model is fine-tuned."""
        return find_method(self.config.method.name)

    @property
    def head(self) -> Head | None:
        """How classes are told apart; None: not known yet."""
        if self.config.model.head != "auto":
            return self.config.model.head
        if self.num_classes is None:
            return None
        if self.num_classes == 2:
            return "binary"
        model = self.config.model
        # Kernels times fine features serve a soft-max better; without them the published way is the better one. Runs of
        # before have a number of mask tokens.
        masks = model.detail == "none" or isinstance(model.num_mask_tokens, int)
        return "mask-classification" if self.method.network is None and masks else "per-pixel"

    def head_is(self, name: str) -> bool | None:
        """Whether it is this head; None: not known yet."""
        return None if self.head is None else self.head == name

    def __str__(self) -> str:
        count = "" if self.num_classes is None else f" of {self.num_classes} classes"
        return f"a task{count} with the head {self.head}"


class Condition(NamedTuple):
    """When a setting has an effect.

    Attributes:
        holds: Whether it has one; None: not known yet.
        why: Where it has none, as the end of a sentence.
    """

    holds: Callable[[Situation], bool | None]
    why: Callable[[Situation], str]


_SAM = Condition(
    lambda now: now.method.network is None,
    lambda now: f"on the method {now.method.name}, which trains a network without SAM",
)
_SAM_HEAD = Condition(
    lambda now: now.method.network is None or now.config.model.head != "mask-classification",
    _SAM.why,
)
_DETAIL = Condition(lambda now: now.config.model.detail != "none", lambda now: "without the detail branch")
_BINARY = Condition(lambda now: now.head_is("binary"), lambda now: f"on {now}, which has a loss of its own")
_MASKS = "mask-classification"
_MASK_CLASSIFICATION = Condition(
    lambda now: now.head_is(_MASKS),
    lambda now: f"on {now}: it is for mask classification (--set head=mask-classification)",
)
_MASK_TOKENS = Condition(
    lambda now: True if _has_one_token(now) else now.head_is(_MASKS),
    lambda now: (
        f"on {now}: it is for mask classification (--set head=mask-classification)"
        + (", or 1 for a binary task" if now.config.model.decoder == "sam" else "")
    ),
)


def _has_one_token(now: Situation) -> bool:
    """Whether SAM's other three tokens are left out in a binary task."""
    model = now.config.model
    return model.num_mask_tokens == 1 and now.head == "binary" and model.decoder == "sam"


_NOT_BALANCED = Condition(
    lambda now: None if now.head is None else now.head != "binary" or now.config.training.loss not in BALANCED_LOSSES,
    lambda now: f"with the loss {now.config.training.loss}, which weighs both classes alike already",
)
_HELD_OUT = Condition(
    lambda now: True if now.config.data.folds is not None else None if now.has_val is None else not now.has_val,
    lambda now: "on data with a validation split, from which no image is held out",
)
_VALIDATED = Condition(
    lambda now: now.config.data.val_fraction > 0, lambda now: "with data.val_fraction=0, as nothing is validated"
)
_NOT_FOLDED = Condition(
    lambda now: now.config.data.folds is None, lambda now: "with --folds, which hold out every image once"
)
_FOLD = Condition(
    lambda now: now.config.data.folds is not None and (now.config.data.fold or 0) < now.config.data.folds,
    lambda now: (
        "without data.folds"
        if now.config.data.folds is None
        else f"with --folds {now.config.data.folds}, whose folds are 0 to {now.config.data.folds - 1}"
    ),
)
_VOLUMES = Condition(
    lambda now: None if now.volumes is None else bool(now.volumes), lambda now: "on data without volumes"
)
_PLACED = Condition(
    lambda now: None if now.volumes is None else bool(now.volumes - {"stack"}),
    lambda now: "on data without NIfTI files or DICOM series",
)
_STACKS = Condition(
    lambda now: None if now.volumes is None else "stack" in now.volumes,
    lambda now: "on data folders without TIFF files of several pages",
)
_OWN_RANGE = Condition(
    lambda now: now.config.data.value_range is None or now.volumes is None or not now.volumes,
    lambda now: "with data.value_range, which says what is black and white",
)
_NO_BUDGET = Condition(
    lambda now: now.config.training.budget_seconds is None,
    lambda now: "with --budget-seconds, which says how long to train",
)
_BANDS = Condition(
    lambda now: now.config.data.bands is not None or now.config.model.bands is not None,
    lambda now: "without data.bands or model.bands",
)
_NO_BANDS = Condition(
    lambda now: now.config.data.bands is None and now.config.model.bands is None,
    lambda now: "on bands, each of which has a range of its own (data.band_range)",
)
_NO_OTHER_BANDS = Condition(
    _NO_BANDS.holds, lambda now: "on bands, which leave the model no inputs for the slices beside"
)
_MODEL_BANDS = Condition(
    lambda now: now.config.model.bands is not None,
    lambda now: "without model.bands: red, green and blue are normalised as in the pretraining",
)
_GATE = Condition(
    lambda now: now.config.method.options.get("gate_scaling") != "average",
    lambda now: "with gate_scaling=average, which has no gate",
)
_MEMORY_GIVEN = Condition(
    lambda now: now.config.training.memory != "auto", lambda now: "with --memory auto, which chooses it"
)

_WHOLE_IMAGES = Condition(
    lambda now: now.config.data.window is None,
    lambda now: "with --window: windows are drawn anew in each epoch, and none is seen twice",
)

CONDITIONS: dict[str, tuple[Condition, ...]] = {
    "data.path": (),
    "data.window": (),
    "data.augmentation": (),
    "data.intensity": (_NO_BANDS, _OWN_RANGE),  # else images that are predicted later may have 16 bits
    "data.bands": (),
    "data.band_range": (_BANDS,),
    "data.band_mean": (_MODEL_BANDS,),
    "data.band_std": (_MODEL_BANDS,),
    "data.axis": (_PLACED,),
    "data.neighbours": (_VOLUMES, _NO_OTHER_BANDS),
    "data.value_range": (_VOLUMES, _NO_BANDS),
    "data.pages": (_STACKS,),
    "data.val_fraction": (_NOT_FOLDED, _HELD_OUT),
    "data.train_fraction": (),
    "data.foreground_share": (_VOLUMES,),
    "data.split_seed": (_HELD_OUT, _VALIDATED),
    "data.folds": (),
    "data.fold": (_FOLD,),
    "data.workers": (),
    "data.cache": (_WHOLE_IMAGES,),
    "data.on_bad_image": (),
    "model.source": (_SAM,),
    "model.image_size": (),
    "model.head": (_SAM_HEAD,),
    "model.num_mask_tokens": (_SAM, _MASK_TOKENS),
    "model.decoder": (_SAM,),
    "model.bands": (),
    "model.attention": (_SAM,),
    "model.detail": (_SAM,),
    "model.from_run": (),
    "method.name": (),
    "training.loss": (_BINARY,),
    "training.epochs": (_NO_BUDGET,),
    "training.max_steps": (),
    "training.budget_seconds": (),
    "training.batch_size": (),
    "training.grad_accum": (),
    "training.lr": (),
    "training.lr_decoder": (_SAM,),
    "training.lr_detail": (_SAM, _DETAIL),
    "training.warmup_steps": (),
    "training.ema": (),
    "training.patience": (_VALIDATED,),
    "training.class_weights": (_NOT_BALANCED,),
    "training.set_loss_weights": (_SAM, _MASK_CLASSIFICATION),
    "training.weight_decay": (),
    "training.max_grad_norm": (),
    "training.adapt_last": (),  # each method knows, see `check_method`
    "training.cache": (_SAM, _WHOLE_IMAGES),
    "training.memory": (),
    "training.activation_checkpointing": (_SAM, _MEMORY_GIVEN),
    "training.precision": (),
    "training.device": (),
    "training.compile": (),  # "none" is what a CPU does anyway
    "training.seed": (),
    "training.select_by": (),  # each task has its scores, see `settle_task`
    "training.logging_steps": (),
    "training.report_to": (),
}
"""What must hold for each setting to have an effect."""

OPTION_CONDITIONS: dict[str, tuple[Condition, ...]] = {
    "top_k": (_GATE,),
    "gate_noise": (_GATE,),
    "load_balancing_weight": (_GATE,),
}
"""The same of options of methods, where a method has them; others always have one."""

# Values beside the default that ask for nothing where the setting has no effect.
_ASK_FOR_NOTHING: dict[str, tuple[Any, ...]] = {
    "model.num_mask_tokens": (None,),
    "model.detail": ("none",),
}


def check_effects(
    config: RunConfig,
    *,
    num_classes: int | None = None,
    has_val: bool | None = None,
    volumes: frozenset[str] | None = None,
) -> None:
    """Refuses settings that were asked for and have no effect.

    What is not known yet is not decided on: call it again when it is.

    Args:
        config: The settings, before what they leave open is filled in.
        num_classes: Number of classes of the data.
        has_val: Whether the data have a validation split.
        volumes: The kinds of volumes in the data.

    Raises:
        InputError: With every such setting.
    """
    problems = without_effect(Situation(config, num_classes, has_val, volumes))
    if problems:
        raise InputError(" ".join(problems))


def without_effect(now: Situation) -> list[str]:
    """Sentences about settings that were asked for and have no effect."""
    config, problems = now.config, []
    for key, conditions in CONDITIONS.items():
        broken = next((one for one in conditions if one.holds(now) is False), None)
        if broken is not None and _is_asked_for(key, now):
            problems.append(
                f"{_named(key, now)} has no effect {broken.why(now)}. {_remedy(key, SETTINGS[key].default)}"
            )
    for option, conditions in OPTION_CONDITIONS.items():
        default = now.method.defaults.get(option)
        value = config.method.options.get(option, default)
        broken = next((one for one in conditions if one.holds(now) is False), None)
        if broken is not None and value != default:
            key = f"method.{option}"
            problems.append(f"{key}={_written(value)} has no effect {broken.why(now)}. {_remedy(key, default)}")
    return problems


def _is_asked_for(key: str, now: Situation) -> bool:
    value = now.config.get(key)
    nothing = [SETTINGS[key].default, *_ASK_FOR_NOTHING.get(key, ())]
    if key == "model.source":
        nothing.append(now.method.network)
    return key not in now.config.settled and value not in nothing


def _named(key: str, now: Situation) -> str:
    value = now.config.get(key)
    if SETTINGS[key].about.option is None:
        return f"{key}={_written(value)}"
    option = SETTINGS[key].label
    return option if value is True else f"{option} {shown(value)}"


def _remedy(key: str, default: Any) -> str:
    """To leave it out is no help where a file or a recipe gives it."""
    return f"Leave it out, or take it back with --set {shlex.quote(f'{key}={_written(default)}')}."


def _written(value: Any) -> str:
    return shown(yaml.safe_dump(value, default_flow_style=True).splitlines()[0].replace(", ", ","))
