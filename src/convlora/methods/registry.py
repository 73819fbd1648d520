"""All ways of fine-tuning by name."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from peft import LoraConfig, PeftConfig, PeftModel, get_peft_model
from peft.utils.constants import DUMMY_TARGET_MODULES
from torch import nn

from convlora.errors import InputError
from convlora.methods.blocks import number_of_blocks, other_prefixes
from convlora.methods.conv_lora import ConvLoraConfig
from convlora.methods.convolution_adapters import ConvolutionAdapterConfig
from convlora.methods.feature_tuning import FeatureTuningConfig
from convlora.methods.layers import Layers
from convlora.methods.low_rank_decoder import adapt_decoder
from convlora.methods.pissa import PissaConfig
from convlora.methods.side_networks import SideNetworkConfig
from convlora.methods.visual_prompts import VisualPromptConfig

LARGEST_OPTION = 4096  # what is above is a mistake, or meant to exhaust the memory
NETWORK = "network"  # the module that a model with no pretrained part consists of


@dataclass(frozen=True)
class Method:
    """A way of fine-tuning.

    Attributes:
        name: What users type.
        summary: One line for help and tables.
        config_class: PEFT's configuration class.
        defaults: The options a user may set, with their defaults.
        fixed: Options of the configuration class that make the method what it is.
        layers: Which layers of the frozen model it changes; None: none.
        late: Whether it changes only the last half of the blocks unless told which.
        adapts_decoder: Whether the mask decoder is adapted too, instead of trained in full.
        trains_encoder: Whether the encoder itself is trained.
        from_scratch: Whether training starts from random weights.
        network: The network that is trained in place of a SAM, for the code that builds models; None: it is a SAM. The
            options are then those of the network.
        choices: The values that options may have, where they are few.
        lr: Learning rate unless another is given.
    """

    name: str
    summary: str
    config_class: Callable[..., PeftConfig]
    defaults: Mapping[str, Any] = field(default_factory=dict)
    fixed: Mapping[str, Any] = field(default_factory=dict)
    layers: Layers | None = Layers.PROJECTIONS
    late: bool = False
    adapts_decoder: bool = False
    trains_encoder: bool = False
    from_scratch: bool = False
    network: str | None = None
    choices: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    lr: float = 1e-4


_LORA: dict[str, Any] = {"r": 3, "lora_alpha": 32, "lora_dropout": 0.0}
_CONV_LORA: dict[str, Any] = {
    **_LORA,
    "num_experts": 8,
    "top_k": 1,
    "expert_scales": None,
    "gate_scaling": "none",
    "gate_noise": True,
    "load_balancing_weight": 0.01,
}

METHODS: dict[str, Method] = {
    method.name: method
    for method in (
        Method(
            "conv-lora",
            "LoRA with a mixture of convolution experts in the bottleneck (Zhong et al., 2024)",
            ConvLoraConfig,
            defaults=_CONV_LORA,
        ),
        Method(
            "lora", "Low-rank adaptation of the attention projections (Hu et al., 2021)", LoraConfig, defaults=_LORA
        ),
        Method(
            "decoder",
            "The mask decoder alone; the image encoder stays as it is",
            LoraConfig,
            layers=None,
        ),
        Method(
            "full",
            "Every weight of image encoder and mask decoder",
            LoraConfig,
            layers=None,
            trains_encoder=True,
        ),
        Method(
            "scratch",
            "Every weight, from random ones: what pretraining is worth",
            LoraConfig,
            layers=None,
            trains_encoder=True,
            from_scratch=True,
        ),
        Method(
            "bitfit",
            "The biases of all layers (Ben Zaken et al., 2022)",
            FeatureTuningConfig,
            fixed={"kind": "bias"},
            layers=Layers.ALL,
        ),
        Method(
            "adapter",
            "Bottlenecks after attention and MLP of every block (Houlsby et al., 2019)",
            FeatureTuningConfig,
            defaults={"bottleneck": 2},
            fixed={"kind": "bottleneck"},
            layers=Layers.BLOCK_OUTPUTS,
        ),
        Method(
            "convpass",
            "Convolutions of 3 x 3 cells in bottlenecks beside attention and MLP of every block (Jie and Deng, 2022)",
            ConvolutionAdapterConfig,
            defaults={"bottleneck": 8, "scale": 1.0},
            fixed={"kind": "bypass"},
            layers=Layers.SUBLAYERS,
        ),
        Method(
            "depthwise-adapter",
            "A depthwise convolution of 3 x 3 cells inside the MLP of every block",
            ConvolutionAdapterConfig,
            fixed={"kind": "depthwise"},
            layers=Layers.MLP_MAPS,
        ),
        Method(
            "vpt",
            "Trained tokens beside the input of every attention layer (Jia et al., 2022)",
            VisualPromptConfig,
            defaults={"num_tokens": 12},
            layers=Layers.ATTENTION,
        ),
        Method(
            "lst",
            "A ladder of small blocks beside the encoder, through which no gradient passes (Sung et al., 2022)",
            SideNetworkConfig,
            defaults={"reduction": 13},
            fixed={"kind": "ladder"},
            layers=Layers.ENCODER,
        ),
        Method(
            "sam-adapter",
            "Prompts for every block, made of patches and high frequencies (Chen et al., 2023)",
            SideNetworkConfig,
            defaults={"reduction": 16},
            fixed={"kind": "prompt-generator"},
            layers=Layers.ENCODER,
        ),
        Method(
            "ssf",
            "Scale and shift of the output of all layers (Lian et al., 2022)",
            FeatureTuningConfig,
            fixed={"kind": "scale-shift"},
            layers=Layers.ALL,
        ),
        Method(
            "dora",
            "LoRA that learns direction and magnitude apart (Liu et al., 2024)",
            LoraConfig,
            defaults=_LORA,
            fixed={"use_dora": True},
        ),
        Method(
            "rslora",
            "LoRA scaled by alpha over the root of the rank (Kalajdzievski, 2023)",
            LoraConfig,
            defaults=_LORA,
            fixed={"use_rslora": True},
        ),
        Method(
            "pissa",
            "LoRA that starts with the largest singular values of the weights (Meng et al., 2024)",
            PissaConfig,
            defaults={**_LORA, "lora_alpha": 3},  # as published: the rank
        ),
        Method(
            "lora-all-linear",
            "LoRA in all linear layers of every block, as in QLoRA (Dettmers et al., 2023)",
            LoraConfig,
            defaults=_LORA,
            layers=Layers.LINEAR,
        ),
        Method(
            "lora-decoder",
            "LoRA in the encoder's attention projections and in the mask decoder's transformer",
            LoraConfig,
            defaults=_LORA,
            adapts_decoder=True,
        ),
        Method("late-lora", "LoRA in the last half of the blocks", LoraConfig, defaults=_LORA, late=True),
        Method(
            "late-conv-lora", "Conv-LoRA in the last half of the blocks", ConvLoraConfig, defaults=_CONV_LORA, late=True
        ),
        Method(
            "multi-scale-lora",
            "Conv-LoRA without a gate: the experts of all scales, averaged",
            ConvLoraConfig,
            defaults={**_LORA, "num_experts": 8, "expert_scales": None},
            fixed={"gate_scaling": "average", "load_balancing_weight": 0.0},
        ),
        Method(
            "depthwise-lora",
            "LoRA with one 5x5 depthwise convolution in the bottleneck instead of experts",
            ConvLoraConfig,
            defaults=_LORA,
            fixed={"convolution": "depthwise", "load_balancing_weight": 0.0},
        ),
        Method(
            "unet",
            "A plain U-Net from random weights, without SAM: whether SAM is worth it (Ronneberger et al., 2015)",
            LoraConfig,
            defaults={"width": 16},
            layers=None,
            network="unet",
            choices={"width": (8, 16, 32, 64, 128)},
            lr=1e-3,
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
        there_are = ", ".join(defaults)
        raise InputError(
            f"The method {name} has no option '{unknown[0]}'. "
            + (f"It has: {there_are}." if there_are else "It has none; leave it out.")
        )
    for key, value in options.items():
        if not _fits(value, defaults[key]):
            raise InputError(f"method.{key} must be like its default, {defaults[key]!r}, got {value!r}.")
    for key, allowed in find_method(name).choices.items():
        if key in options and options[key] not in allowed:
            raise InputError(f"method.{key} must be one of {', '.join(map(str, allowed))}, got {options[key]!r}.")
    return {**defaults, **options}


def _fits(value: Any, default: Any) -> bool:
    """Whether an option has the type of its default; whole numbers do for fractions."""
    if default is None:
        return value is None or isinstance(value, (list, tuple))
    if isinstance(default, float):
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    return type(value) is type(default)


def check_method(name: str, options: Mapping[str, Any], *, chosen_blocks: bool = False) -> None:
    """Checks what can be checked without a model.

    Args:
        name: Name of the method.
        options: Its options; missing ones take their defaults.
        chosen_blocks: Whether blocks are going to be chosen.

    Raises:
        InputError: If an option is unknown or has a value out of range, or there are no blocks to choose from.
    """
    method = find_method(name)
    settings: dict[str, Any] = {**resolve_options(name, options), **method.fixed}
    if method.layers in (None, Layers.ENCODER) and chosen_blocks:
        raise InputError(f"The method {name} has no blocks to choose from. Leave out --adapt-last.")
    if settings.get("r", 1) < 1:
        raise InputError(f"The rank of the method {name} must be at least 1, got method.r={settings['r']}.")
    for key, value in settings.items():
        numbers = [len(value), *value] if isinstance(value, (list, tuple)) else [value]
        largest = max((one for one in numbers if isinstance(one, int)), default=0)
        if largest > LARGEST_OPTION:
            raise InputError(f"method.{key} of {name} must be at most {LARGEST_OPTION}, got {largest}.")
        if any(isinstance(one, float) and not math.isfinite(one) for one in numbers):
            raise InputError(f"method.{key} of {name} must be a finite number, got {value}.")
    if method.network is not None:
        return
    try:
        method.config_class(**settings, target_modules=["any"])
    except (TypeError, ValueError) as error:
        raise InputError(f"The options of the method {name} do not work: {error}") from error


def method_config(
    model: nn.Module,
    name: str,
    options: Mapping[str, Any],
    *,
    targets: Callable[[Layers, Sequence[int] | None], str],
    modules_to_save: Sequence[str],
    blocks: Sequence[int] | None = None,
    num_prefix_tokens: int = 0,
    prefix_tokens_of: Mapping[int, int] = {},
    encoder: str = "vision_encoder",
) -> PeftConfig:
    """What PEFT needs to know to put a method's adapters into a model.

    Args:
        model: The base model.
        name: Name of the method.
        options: Its options; missing ones take their defaults.
        targets: Gives the names of layers of a kind in some blocks as a regular expression for PEFT, and the name of
            the `Layers.ENCODER`.
        modules_to_save: Modules trained in full and saved with the adapters.
        blocks: Numbers of the blocks to adapt; None: all of them, or the last half for a method that is late.
        num_prefix_tokens: Tokens of the encoder that come before those of the image.
        prefix_tokens_of: The same by block, where some blocks have others.
        encoder: Name of the encoder.

    Raises:
        InputError: If an option is unknown or has a value out of range, or the model has no such layers.
    """
    method = find_method(name)
    settings: dict[str, Any] = {**resolve_options(name, options), **method.fixed}
    check_method(name, options, chosen_blocks=blocks is not None)
    if method.network is not None:
        settings, modules_to_save = dict(method.fixed), [NETWORK]
    if method.layers is None:
        settings["target_modules"] = DUMMY_TARGET_MODULES  # what PEFT calls "none"
    else:
        if method.late and blocks is None:
            count = number_of_blocks(model)
            blocks = range(count - count // 2, count)
        try:
            settings["target_modules"] = targets(method.layers, blocks)
        except LookupError as error:
            which = "encoders of the SAMs have: feature maps"
            if method.layers != Layers.MLP_MAPS:
                which = "encoder of the first SAM and SAM-HQ has"
            raise InputError(
                f"The method {name} changes what only the vision {which}. Take another method, such as lora."
            ) from error
    if method.adapts_decoder:
        settings["target_modules"], modules_to_save = adapt_decoder(
            model, str(settings["target_modules"]), modules_to_save
        )
    if method.config_class is ConvLoraConfig and num_prefix_tokens:
        settings["num_prefix_tokens"] = num_prefix_tokens
    if method.config_class is ConvLoraConfig:
        settings |= other_prefixes(num_prefix_tokens, prefix_tokens_of, encoder)
    if method.trains_encoder:
        modules_to_save = [*modules_to_save, encoder]
    try:
        return method.config_class(**settings, modules_to_save=list(modules_to_save))
    except (TypeError, ValueError) as error:
        raise InputError(f"The options of the method {name} do not work: {error}") from error


def apply_method(model: nn.Module, name: str, options: Mapping[str, Any], **where: Any) -> PeftModel:
    """Puts a method's adapters into a model and freezes the rest.

    Args:
        model: The base model, changed in place.
        name: Name of the method.
        options: Its options; missing ones take their defaults.
        **where: `targets`, `modules_to_save` and more, see [`method_config`].

    Returns:
        The model as PEFT wraps it.

    Raises:
        InputError: If an option is unknown or has a value out of range.
    """
    config = method_config(model, name, options, **where)
    try:
        return get_peft_model(model, config)
    except (TypeError, ValueError) as error:
        raise InputError(f"The options of the method {name} do not work: {error}") from error
