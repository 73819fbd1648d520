"""Configuration of Conv-LoRA as a PEFT method."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, Literal

from peft import LoraConfig

from convlora.methods.cards import tell_how_to_load
from convlora.methods.peft_types import PeftTypeName

PEFT_TYPE = PeftTypeName("CONV_LORA")
MOST_EXPERTS = 64  # per layer, and the largest scale; the tables of more take minutes to make and gigabytes to hold

# LoRA's own variants replace the very forward pass that Conv-LoRA replaces, so they cannot be combined with it.
_OTHER_VARIANTS = (
    "use_dora",
    "velora_config",
    "alora_invocation_tokens",
    "use_qalora",
    "monteclora_config",
    "use_bdlora",
    "arrow_config",
    "kasa_config",
    "target_parameters",
    "layer_replication",
)


@dataclass
class ConvLoraConfig(LoraConfig):
    """Settings of Conv-LoRA, a [`peft.LoraConfig`] with a mixture of convolution experts in the bottleneck.

    For a frozen linear layer whose input is a feature map, with `z = A x`:

        y = W0 x + bias + (lora_alpha / r) * B (z + sum_i p_i E_i(z))

    Every argument of [`peft.LoraConfig`] that concerns linear layers is valid too (`target_modules`, `rank_pattern`,
    `modules_to_save`, `layers_to_transform`, ...). The defaults are the published ones.

    Args:
        r: Rank of the update, and the number of channels the experts see.
        lora_alpha: The update is scaled by `lora_alpha / r`.
        num_experts: Number of convolution experts per layer, at most 64.
        top_k: How many experts are used for each feature map.
        expert_scales: Scale of each expert: expert `i` convolves the map enlarged `expert_scales[i]` times, at
            most 64. Default: 1, 2, ..., `num_experts`.
        gate_scaling: `"none"` weighs the chosen experts by a soft-max among themselves, which is the constant 1 for
            `top_k = 1`: no task gradient reaches the gate, as published. `"softmax"` weighs them by their soft-max
            probability among all experts, so that the task teaches the gate too. `"average"` is no gate at all: every
            expert is used, all weigh the same, and there is no load-balancing loss.
        convolution: `"experts"`, or `"depthwise"`: one 5x5 convolution of each channel by itself in their place,
            `E(z) = GELU(DW5x5(z))`, for comparison.
        gate_noise: Add learned Gaussian noise to the gate's logits in training (Shazeer et al., 2017).
        load_balancing_weight: Coefficient of the load-balancing loss, see [`convlora.load_balancing_loss`].
        grid_size: (height, width) of the token grid for inputs `(B, L, C)`. Default: from the height and width of the
            image that the model is given; where it is given none, a square is assumed.
        num_prefix_tokens: Number of tokens in front of the grid (class and register tokens). They get the plain
            low-rank update, without experts.
        num_suffix_tokens: The same behind the grid.
        grid_size_pattern: `grid_size` of single layers, as PEFT's `rank_pattern`: what the layer's name ends with, or a
            regular expression.
        num_prefix_tokens_pattern: The same for `num_prefix_tokens`.
        num_suffix_tokens_pattern: The same for `num_suffix_tokens`.

    Raises:
        ValueError: If settings are out of range, or ask for a LoRA variant that cannot be combined with Conv-LoRA.
            All problems are named in one message.

    Source: Zhong et al., "Convolution Meets LoRA", ICLR 2024, section 3.
    """

    r: int = field(default=3, metadata={"help": "Rank of the update."})
    lora_alpha: int = field(default=32, metadata={"help": "The update is scaled by lora_alpha / r."})
    num_experts: int = field(default=8, metadata={"help": "Number of convolution experts per layer."})
    top_k: int = field(default=1, metadata={"help": "How many experts are used for each feature map."})
    expert_scales: list[int] | None = field(
        default=None, metadata={"help": "Scale of each expert; default 1, 2, ..., num_experts."}
    )
    gate_scaling: Literal["none", "softmax", "average"] = field(
        default="none",
        metadata={
            "help": "'none' as published, 'softmax' so that the task teaches the gate as well, 'average' for no gate."
        },
    )
    convolution: Literal["experts", "depthwise"] = field(
        default="experts", metadata={"help": "'experts', or one 5x5 'depthwise' convolution in their place."}
    )
    gate_noise: bool = field(default=True, metadata={"help": "Add learned noise to the gate's logits in training."})
    load_balancing_weight: float = field(
        default=0.01, metadata={"help": "Coefficient of the load-balancing loss of each layer."}
    )
    grid_size: tuple[int, int] | None = field(
        default=None,
        metadata={"help": "(height, width) of the token grid of inputs (B, L, C); default: that of the image."},
    )
    num_prefix_tokens: int = field(
        default=0, metadata={"help": "Tokens in front of the grid that get the plain low-rank update."}
    )
    num_suffix_tokens: int = field(
        default=0, metadata={"help": "Tokens behind the grid that get the plain low-rank update."}
    )
    grid_size_pattern: dict[str, Any] = field(
        default_factory=dict, metadata={"help": "`grid_size` of layers whose names end in a key, as `rank_pattern`."}
    )
    num_prefix_tokens_pattern: dict[str, int] = field(
        default_factory=dict, metadata={"help": "`num_prefix_tokens` of layers whose names end in a key."}
    )
    num_suffix_tokens_pattern: dict[str, int] = field(
        default_factory=dict, metadata={"help": "`num_suffix_tokens` of layers whose names end in a key."}
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        self.peft_type: Any = PEFT_TYPE
        if isinstance(self.grid_size, list):  # JSON knows no tuples
            self.grid_size = tuple(self.grid_size)
        problems = self._problems()
        if problems:
            raise ValueError("ConvLoraConfig: " + "; ".join(problems) + ".")

    def save_pretrained(self, save_directory: str, **kwargs: Any) -> None:
        """Writes the configuration, and into the card beside it how the adapter is loaded."""
        super().save_pretrained(save_directory, **kwargs)
        tell_how_to_load(save_directory)

    @property
    def scales(self) -> tuple[int, ...]:
        """Scale of each expert."""
        if self.expert_scales is None:
            return tuple(range(1, self.num_experts + 1))
        return tuple(self.expert_scales)

    def _problems(self) -> list[str]:
        problems = []
        if not _is_int(self.r) or self.r < 1:
            problems.append(f"`r` must be a whole number from 1 up, got {self.r!r}")
        if not isinstance(self.gate_noise, bool):
            problems.append(f"`gate_noise` must be True or False, got {self.gate_noise!r}")
        if not _is_int(self.num_experts) or self.num_experts < 1:
            problems.append(f"`num_experts` must be at least 1, got {self.num_experts!r}")
        elif self.num_experts > MOST_EXPERTS:
            problems.append(f"`num_experts` must be at most {MOST_EXPERTS}, got {self.num_experts}")
        elif not _is_int(self.top_k) or not 1 <= self.top_k <= self.num_experts:
            problems.append(f"`top_k` must be between 1 and num_experts={self.num_experts}, got {self.top_k!r}")
        if self.expert_scales is not None:
            if not isinstance(self.expert_scales, (list, tuple)) or not all(
                _is_int(s) and s >= 1 for s in self.expert_scales
            ):
                problems.append(f"`expert_scales` must be whole numbers from 1 up, got {self.expert_scales!r}")
            elif max(self.expert_scales, default=0) > MOST_EXPERTS:
                problems.append(f"`expert_scales` must be at most {MOST_EXPERTS}, got {self.expert_scales!r}")
            elif len(self.expert_scales) != self.num_experts:
                problems.append(
                    f"`expert_scales` must name one scale per expert: {len(self.expert_scales)} scales for "
                    f"num_experts={self.num_experts}"
                )
        if self.gate_scaling not in ("none", "softmax", "average"):
            problems.append(f"`gate_scaling` must be 'none', 'softmax' or 'average', got {self.gate_scaling!r}")
        if self.convolution not in ("experts", "depthwise"):
            problems.append(f"`convolution` must be 'experts' or 'depthwise', got {self.convolution!r}")
        if not _is_finite(self.load_balancing_weight) or self.load_balancing_weight < 0:
            problems.append(f"`load_balancing_weight` must be a number from 0 up, got {self.load_balancing_weight!r}")
        if not _is_finite(self.lora_alpha):
            problems.append(f"`lora_alpha` must be a number, got {self.lora_alpha!r}")
        if not _is_finite(self.lora_dropout) or not 0 <= self.lora_dropout < 1:
            problems.append(f"`lora_dropout` must be a number from 0 to below 1, got {self.lora_dropout!r}")
        for name, size in _each(self, "grid_size"):
            if size is not None and not _is_size(size):
                problems.append(f"`{name}` must be (height, width), got {size!r}")
        for setting in ("num_prefix_tokens", "num_suffix_tokens"):
            for name, count in _each(self, setting):
                if not _is_int(count) or count < 0:
                    problems.append(f"`{name}` must be 0 or more, got {count!r}")
        if self.init_lora_weights not in (True, False, "gaussian"):
            problems.append(
                f"`init_lora_weights` must be True, False or 'gaussian', got {self.init_lora_weights!r}, because the "
                "other schemes change the base weights or need the update to be a matrix product"
            )
        used = [name for name in _OTHER_VARIANTS if getattr(self, name, None)]
        if used:
            problems.append(f"Conv-LoRA cannot be combined with {', '.join(f'`{name}`' for name in used)}")
        return problems


def _each(config: ConvLoraConfig, setting: str) -> list[tuple[str, Any]]:
    """The values of a setting, for all layers and for single ones, with their names."""
    pattern = getattr(config, f"{setting}_pattern")
    if not isinstance(pattern, dict):
        return [(f"{setting}_pattern", pattern)]
    return [(setting, getattr(config, setting)), *((f"{setting}_pattern[{k!r}]", v) for k, v in pattern.items())]


def _is_size(value: object) -> bool:
    return isinstance(value, (tuple, list)) and len(value) == 2 and all(_is_int(side) and side >= 1 for side in value)


def _is_finite(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _is_int(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
