"""Settings of the method, and what its options mean."""

from dataclasses import dataclass, field
from typing import Annotated, Any

from convlora.settings.declaration import BASICS, About, Option


@dataclass
class MethodSettings:
    """How SAM is fine-tuned: the name of the method, and its options.

    Attributes:
        name: The method.
        options: Its options by name. In files they stand beside the name.
    """

    name: Annotated[
        str,
        About(
            "The way of fine-tuning.",
            more="See [methods.md](methods.md). The options of the method stand beside it, see below.",
            option=Option(
                "--method",
                BASICS,
                metavar="NAME",
                help="The way of fine-tuning: conv-lora, lora, dora, rslora, pissa, lora-all-linear, lora-decoder, "
                "late-lora, late-conv-lora, multi-scale-lora, depthwise-lora, bitfit, adapter, convpass, "
                "depthwise-adapter, vpt, lst, sam-adapter, ssf, decoder, full or scratch. unet trains a U-Net without "
                "SAM.",
            ),
        ),
    ] = "conv-lora"
    options: dict[str, Any] = field(default_factory=dict)


METHOD_OPTIONS: dict[str, str] = {
    "r": "Rank of the update.",
    "lora_alpha": "The update is scaled by alpha over rank; by alpha over the root of the rank in `rslora`.",
    "lora_dropout": "Share of the inputs of an adapter that are dropped while training.",
    "num_experts": "Number of experts in each layer.",
    "top_k": "Number of experts that each feature map uses.",
    "expert_scales": "Scale of each expert; null: 1 to `num_experts`.",
    "gate_scaling": "`none`: as published. `softmax`: the task also trains the gate. `average`: there is no gate, and "
    "all experts weigh the same.",
    "gate_noise": "Whether learned noise is added to the gate while training.",
    "load_balancing_weight": "Weight of the load-balancing loss of each layer.",
    "bottleneck": "Channels of the bottleneck.",
    "scale": "What each bottleneck adds is multiplied by this.",
    "num_tokens": "Number of trained tokens in each attention layer.",
    "reduction": "By how much the blocks beside the encoder are narrower than it.",
    "width": "Channels at full resolution: 8, 16, 32, 64 or 128.",
}
"""What the options of methods mean. Types and defaults are in `convlora.methods.registry`."""
