"""Conv-LoRA's forward pass, as a variant of PEFT's LoRA layer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from peft.tuners.lora.layer import LoraLayer, LoraVariant
from torch import nn

from convlora.methods.conv_lora.balance import BalanceRecord
from convlora.methods.conv_lora.config import ConvLoraConfig
from convlora.methods.conv_lora.experts import ConvExperts
from convlora.methods.conv_lora.gate import keep_in_graph, noisy_top_k
from convlora.methods.conv_lora.grid import TokenGrid
from convlora.tracing import is_traced

# The parameters Conv-LoRA adds to a LoRA layer, one entry per adapter in each.
ADAPTER_LAYER_NAMES = ("lora_gate", "lora_gate_noise", "lora_experts", "lora_depthwise")

_NOT_MERGEABLE = (
    "Conv-LoRA cannot be merged into the base weights, because its update depends on the input: every feature map "
    "picks its own experts. Keep the adapter beside the base model (`save_pretrained`, then "
    "`PeftModel.from_pretrained`), or call `unload()` to get the base model back."
)


def refuse_merge() -> ValueError:
    """The error for every way of merging."""
    return ValueError(_NOT_MERGEABLE)


def refuse_delta_weight(adapter: str) -> torch.Tensor:
    """Takes the place of a layer's `get_delta_weight`, which would give `B A` without the experts.

    Raises:
        ValueError: Always.
    """
    raise ValueError(
        f"The Conv-LoRA adapter '{adapter}' has no delta weight, because its update depends on the input. Call the "
        "layer with and without the adapter (`disable_adapter`) to see what it changes."
    )


class Scalings(dict[str, float]):
    """The scaling of each adapter of a layer, which stays a number.

    PEFT makes a tensor of it to prepare a model for swapping compiled adapters, and then pads their ranks. The experts
    have a kernel for each pair of ranks, which it does not pad.
    """

    def __setitem__(self, adapter: str, scaling: float) -> None:
        """Sets a scaling.

        Raises:
            ValueError: If it is a tensor.
        """
        if isinstance(scaling, torch.Tensor):
            raise ValueError(
                "Conv-LoRA adapters cannot be prepared for hot-swapping, because their experts have no rank to be "
                "padded. Load them beside each other, and switch with `set_adapter`."
            )
        super().__setitem__(adapter, scaling)


@dataclass
class LayerSettings:
    """How one adapter of one layer reads its input and chooses its experts."""

    top_k: int
    gate_scaling: str
    gate_noise: bool
    grid: TokenGrid


class ConvLoraVariant(LoraVariant):
    """Replaces LoRA's `B A x` by `B (z + sum_i p_i E_i(z))` with `z = A x`.

    PEFT calls it from its layers for plain, 8-bit and 4-bit base layers alike, so all of them work.

    Source: Zhong et al., ICLR 2024, section 3.2.
    """

    def supports_lora_conversion(self) -> bool:
        """The update is no matrix product, so there is no LoRA that equals it."""
        return False

    @staticmethod
    def init(module: LoraLayer, adapter_name: str, **kwargs: Any) -> None:
        """Adds gate and experts for `adapter_name` to a LoRA layer."""
        config: ConvLoraConfig = kwargs["config"]
        if not hasattr(module, "lora_experts"):
            module.adapter_layer_names = module.adapter_layer_names + ADAPTER_LAYER_NAMES
            for name in ADAPTER_LAYER_NAMES:
                setattr(module, name, nn.ModuleDict())
            module.conv_lora_settings = {}
            module.conv_lora_balance = {}
            module.scaling = Scalings(module.scaling)
            module.get_delta_weight = refuse_delta_weight
        r = module.r[adapter_name]
        for name in ADAPTER_LAYER_NAMES:  # an adapter of the same name may have had others
            if adapter_name in getattr(module, name):
                del getattr(module, name)[adapter_name]
        if config.convolution == "depthwise":
            module.lora_depthwise[adapter_name] = nn.Conv2d(r, r, kernel_size=5, padding=2, groups=r)
        else:
            module.lora_experts[adapter_name] = ConvExperts(r, config.scales)
            if config.gate_scaling != "average":
                gate = nn.Linear(r, config.num_experts, bias=False)
                gate_noise = nn.Linear(r, config.num_experts, bias=False)
                if config.init_lora_weights:
                    nn.init.zeros_(gate.weight)
                    nn.init.zeros_(gate_noise.weight)
                module.lora_gate[adapter_name] = gate
                module.lora_gate_noise[adapter_name] = gate_noise
        module.conv_lora_settings[adapter_name] = LayerSettings(
            top_k=config.top_k,
            gate_scaling=config.gate_scaling,
            gate_noise=config.gate_noise,
            grid=TokenGrid.of(config, kwargs.get("layer", "")),
        )
        module.conv_lora_balance[adapter_name] = BalanceRecord(config.load_balancing_weight)

    @staticmethod
    def forward(
        module: LoraLayer, active_adapter: str, x: torch.Tensor, result: torch.Tensor, **kwargs: Any
    ) -> torch.Tensor:
        """Adds the update of one adapter to the base layer's output.

        Args:
            module: The LoRA layer.
            active_adapter: Name of the adapter.
            x: Input of the layer, `(B, H, W, C_in)` or `(B, L, C_in)`.
            result: Output of the base layer, of the shape of `x` with `C_out` channels.

        Returns:
            The sum, of the shape of `result`.

        Raises:
            ValueError: If `x` cannot be read as feature maps; the message holds its shape and the layer's name.
        """
        settings: LayerSettings = module.conv_lora_settings[active_adapter]
        height, width = settings.grid.read(x.shape)
        prefix, suffix = (0, 0) if x.ndim == 4 else (settings.grid.prefix, settings.grid.suffix)

        z = module.lora_A[active_adapter](module.lora_dropout[active_adapter](x))
        end = z.shape[1] - suffix
        tokens = z if prefix == suffix == 0 else z[:, prefix:end]
        # The bottleneck is only r channels wide: single precision costs nothing there, and half precision would upset
        # the gate and the interpolation.
        with torch.autocast(z.device.type, enabled=False):
            z_map = tokens.reshape(-1, height, width, z.shape[-1])
            z_map = z_map if z_map.dtype == torch.float64 else z_map.float()
            u = (z_map + _convolved(module, active_adapter, z_map, settings)).reshape(tokens.shape)
        if prefix or suffix:
            u = torch.cat([z[:, :prefix].to(u.dtype), u, z[:, end:].to(u.dtype)], dim=1)
        return add_low_rank(result, u, module.lora_B[active_adapter], module.scaling[active_adapter])

    @staticmethod
    def merge_safe(module: LoraLayer, active_adapter: str, orig_weight: torch.Tensor) -> torch.Tensor:
        """Refuses, see the message."""
        raise refuse_merge()

    @staticmethod
    def merge_unsafe(module: LoraLayer, active_adapter: str, orig_weight: torch.Tensor) -> None:
        """Refuses, see the message."""
        raise refuse_merge()

    @staticmethod
    def unmerge(module: LoraLayer, active_adapter: str, orig_weight: torch.Tensor) -> torch.Tensor:
        """Refuses, see the message."""
        raise refuse_merge()


def _convolved(module: LoraLayer, name: str, z_map: torch.Tensor, settings: LayerSettings) -> torch.Tensor:
    """What the convolutions make of the bottleneck `(B, H, W, r)`; how the gate chose is stored on the way."""
    if name in module.lora_depthwise:
        convolution = module.lora_depthwise[name]
        weight, bias = convolution.weight.to(z_map.dtype), convolution.bias.to(z_map.dtype)
        channels_first = F.conv2d(z_map.permute(0, 3, 1, 2), weight, bias, padding=2, groups=len(weight))
        return F.gelu(channels_first).permute(0, 2, 3, 1)
    experts = module.lora_experts[name]
    if name not in module.lora_gate:
        count, batch = len(experts.scales), z_map.shape[0]  # `len` of a tensor would settle an exporter on this batch
        indices = torch.arange(count, device=z_map.device).expand(batch, -1)
        mean: torch.Tensor = experts(z_map, indices, z_map.new_full((batch, count), 1 / count))
        return mean
    gate = module.lora_gate[name].weight.to(z_map.dtype)
    gate_noise = module.lora_gate_noise[name].weight.to(z_map.dtype)
    gating = noisy_top_k(
        z_map.mean(dim=(1, 2)),
        gate,
        gate_noise,
        top_k=settings.top_k,
        scaling=settings.gate_scaling,
        noisy=settings.gate_noise and module.training,
    )
    if not is_traced():  # it would keep stand-ins for tensors
        module.conv_lora_balance[name].store(gating, module.training)
    mixture: torch.Tensor = experts(z_map, gating.indices, gating.weights)
    return keep_in_graph(mixture, gate, gate_noise)


def add_low_rank(result: torch.Tensor, u: torch.Tensor, lora_B: nn.Linear, scaling: float) -> torch.Tensor:
    """`result + scaling * B u` in one pass over the wide tensor.

    The scaling goes into the small matrix, and one fused product adds to the base output.

    Args:
        result: Output of the base layer, `(..., C_out)`.
        u: Bottleneck, `(..., r)`.
        lora_B: Linear layer `r -> C_out`.
        scaling: `lora_alpha / r`.

    Returns:
        `(..., C_out)` in the type of `result`.
    """
    dtype = result.dtype
    with torch.autocast(result.device.type, enabled=False):
        low, matrix = u.reshape(-1, u.shape[-1]).to(dtype), (lora_B.weight * scaling).to(dtype)
        out = torch.addmm(result.reshape(-1, result.shape[-1]), low, matrix.t()).reshape(result.shape)
        if lora_B.bias is not None:
            out = out + (lora_B.bias * scaling).to(dtype)
    return out
