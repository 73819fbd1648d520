"""Configuration of side networks as a PEFT method."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from convlora.methods.peft_types import PeftTypeName
from convlora.methods.wrapping_tuner import WrappingConfig

PEFT_TYPE = PeftTypeName("SIDE_NETWORK")
KINDS = ("ladder", "prompt-generator")


@dataclass
class SideNetworkConfig(WrappingConfig):
    """Settings of a small network beside a frozen encoder.

    The encoder must consist of `patch_embed` (pixels to maps `(B, h, w, C)`), a list `layers` of blocks that map such
    maps to such maps, and a `neck` behind them. It may have `pos_embed`, which is added to the patches.

    Args:
        kind: `"ladder"`: a chain of small transformer blocks reads the output of every block, and what it ends with is
            added in front of the neck; no gradient passes the encoder (ladder side tuning). `"prompt-generator"`: every
            block's input gets a prompt made from the patches and from the image's high frequencies (SAM-Adapter).
        reduction: The side network is about so many times narrower than the encoder.
        target_modules: Name of the encoder, as in PEFT.
        exclude_modules: Names of modules to leave out.
        modules_to_save: Modules trained in full and saved too.

    Raises:
        ValueError: If the kind is unknown or the reduction below 1.

    Source: Sung et al., "LST: Ladder Side-Tuning", NeurIPS 2022; Chen et al., "SAM Fails to Segment Anything?
        SAM-Adapter", 2023, section 3.2.
    """

    kind: str = field(default="ladder", metadata={"help": f"One of {', '.join(KINDS)}."})
    reduction: int = field(default=13, metadata={"help": "How much narrower than the encoder."})

    def __post_init__(self) -> None:
        super().__post_init__()
        self.peft_type: Any = PEFT_TYPE
        self.require_one_of("kind", KINDS)
        self.require_positive("reduction")
