"""All ways of fine-tuning by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from peft import LoraConfig, PeftConfig, PeftModel, get_peft_model
from peft.utils.constants import DUMMY_TARGET_MODULES
from torch import nn

from convlora.errors import InputError
from convlora.methods.conv_lora import ConvLoraConfig


@dataclass(frozen=True)
class Method:
    """A way of fine-tuning.

    Attributes:
        name: What users type.
        summary: One line for help and tables.
        config_class: PEFT's configuration class.
        defaults: The options a user may set, with their defaults.
        adapts: Whether it changes layers of the frozen model; if not, only `modules_to_save` are trained.
    """

    name: str
    summary: str
    config_class: Callable[..., PeftConfig]
    defaults: Mapping[str, Any]
    adapts: bool = True


METHODS: dict[str, Method] = {
    method.name: method
    for method in (
        Method(
            name="conv-lora",
            summary="LoRA with a mixture of convolution experts in the bottleneck (Zhong et al., 2024)",
            config_class=ConvLoraConfig,
            defaults={
                "r": 3,
                "lora_alpha": 32,
                "lora_dropout": 0.0,
                "num_experts": 8,
                "top_k": 1,
                "expert_scales": None,
                "gate_scaling": "none",
                "gate_noise": True,
                "load_balancing_weight": 0.01,
            },
        ),
        Method(
            name="lora",
            summary="Low-rank adaptation of the attention projections (Hu et al., 2021)",
            config_class=LoraConfig,
            defaults={"r": 3, "lora_alpha": 32, "lora_dropout": 0.0},
        ),
        Method(
            name="decoder",
            summary="The mask decoder alone; the image encoder stays as it is",
            config_class=LoraConfig,
            defaults={},
            adapts=False,
        ),
    )
}


def find_method(name: str) -> Method:
    """Returns a method by name.

    Raises:
        InputError: If there is none of that name.
    """
    if name not in METHODS:
        raise InputError(f"There is no method '{name}'. Choose one of: {', '.join(METHODS)}.")
    return METHODS[name]


def resolve_options(name: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Completes a method's options with their defaults.

    Raises:
        InputError: If the method has no such option.
    """
    defaults = find_method(name).defaults
    unknown = [key for key in options if key not in defaults]
    if unknown:
        raise InputError(f"The method {name} has no option '{unknown[0]}'. It has: {', '.join(defaults)}.")
    for key, value in options.items():
        if not _fits(value, defaults[key]):
            raise InputError(f"method.{key} must be like its default, {defaults[key]!r}, got {value!r}.")
    return {**defaults, **options}


def _fits(value: Any, default: Any) -> bool:
    """Whether an option has the type of its default; whole numbers do for fractions."""
    if default is None:
        return value is None or isinstance(value, (list, tuple))
    if isinstance(default, float):
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    return type(value) is type(default)


def apply_method(
    model: nn.Module,
    name: str,
    options: Mapping[str, Any],
    *,
    target_modules: Sequence[str] | str,
    modules_to_save: Sequence[str],
    layers: Sequence[int] | None = None,
) -> PeftModel:
    """Puts a method's adapters into a model and freezes the rest.

    Args:
        model: The base model, changed in place.
        name: Name of the method.
        options: Its options; missing ones take their defaults.
        target_modules: The linear layers to adapt, as in PEFT.
        modules_to_save: Modules trained in full and saved with the adapters.
        layers: Numbers of the blocks (in a list called `layers`) to adapt; None: all of them.

    Returns:
        The model as PEFT wraps it.

    Raises:
        InputError: If an option is unknown or has a value out of range.
    """
    method = find_method(name)
    settings = resolve_options(name, options)
    if not method.adapts:
        if layers is not None:
            raise InputError(f"The method {name} adapts no block, so there are none to choose. Leave out --adapt-last.")
        target_modules = DUMMY_TARGET_MODULES  # what PEFT calls "none"
    try:
        config = method.config_class(
            **settings,
            target_modules=target_modules if isinstance(target_modules, str) else list(target_modules),
            modules_to_save=list(modules_to_save),
            layers_to_transform=None if layers is None else list(layers),
            layers_pattern=None if layers is None else "layers",
        )
        return get_peft_model(model, config)
    except (TypeError, ValueError) as error:
        raise InputError(f"The options of the method {name} do not work: {error}") from error
