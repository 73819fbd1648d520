"""Configuration of feature tuning as a PEFT method."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from convlora.methods.peft_types import PeftTypeName
from convlora.methods.wrapping_tuner import WrappingConfig

PEFT_TYPE = PeftTypeName("FEATURE_TUNING")
KINDS = ("bias", "scale-shift", "bottleneck")


@dataclass
class FeatureTuningConfig(WrappingConfig):
    """Settings of methods that leave a layer frozen and change what comes out of it.

    Args:
        kind: `"bias"`: `y + b`, as if the layer's bias were trained (BitFit). `"scale-shift"`: `s * y + b` (SSF).
            `"bottleneck"`: `y + U gelu(D y + d) + u`, with D to `bottleneck` channels (Houlsby's adapter).
        bottleneck: Channels inside a bottleneck.
        target_modules: Names of the layers, as in PEFT: linear layers, norms, convolutions.
        exclude_modules: Names of modules to leave out.
        modules_to_save: Modules trained in full and saved too.

    Raises:
        ValueError: If the kind is unknown or the bottleneck has no channel.

    Source: Ben Zaken et al., "BitFit", ACL 2022; Lian et al., "Scaling & Shifting Your Features", NeurIPS 2022; Houlsby
        et al., "Parameter-Efficient Transfer Learning for NLP", ICML 2019.
    """

    kind: str = field(default="bias", metadata={"help": f"One of {', '.join(KINDS)}."})
    bottleneck: int = field(default=2, metadata={"help": "Channels inside a bottleneck."})

    def __post_init__(self) -> None:
        super().__post_init__()
        self.peft_type: Any = PEFT_TYPE
        self.require_one_of("kind", KINDS)
        self.require_positive("bottleneck")
