"""One projection: frozen, with PEFT's LoRA, with Conv-LoRA in its direct and its fast form; forward and backward.

python benchmarks/layer.py --rounds 10 --output benchmarks/results/layer.json
"""

from __future__ import annotations

import argparse
import copy
import statistics

import torch
from harness import add_output, alternate, report, summarise
from peft import LoraConfig, get_peft_model
from tests.helpers.direct_experts import use_direct_experts
from torch import nn

from convlora.devices import resolve_device
from convlora.methods.conv_lora import ConvLoraConfig, load_balancing_loss

WIDTHS = {"vit-b": 768, "vit-h": 1280}
MAPS = {"global 64x64": (1, 64), "25 windows of 14x14": (25, 14)}


def projection(width: int) -> nn.Sequential:
    """The fused projection of an attention block to queries, keys and values."""
    return nn.Sequential(nn.Linear(width, 3 * width))


def main() -> None:
    """Times the variants at both widths and map shapes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--device", default="auto")
    add_output(parser)
    options = parser.parse_args()
    device = resolve_device(options.device)
    rows = []
    for width_name, width in WIDTHS.items():
        torch.manual_seed(0)
        lora = LoraConfig(r=3, target_modules=["0"])
        conv_lora = ConvLoraConfig(target_modules=["0"], init_lora_weights=False)
        models = {
            "frozen linear": projection(width).requires_grad_(False),
            "PEFT LoRA": get_peft_model(projection(width), lora),
            "Conv-LoRA": get_peft_model(projection(width), conv_lora),
        }
        models = {name: model.to(device).train() for name, model in models.items()}
        # As after some training: the gate sends different maps to different experts.
        gate = models["Conv-LoRA"].base_model.model[0].lora_gate["default"].weight
        nn.init.normal_(gate, std=10.0)
        models["Conv-LoRA direct"] = copy.deepcopy(models["Conv-LoRA"])
        use_direct_experts(models["Conv-LoRA direct"])
        for maps_name, (maps, side) in MAPS.items():
            x = torch.randn(maps, side, side, width, device=device, requires_grad=True)
            grad = torch.randn(maps, side, side, 3 * width, device=device)

            def work(model: nn.Module, x: torch.Tensor = x, grad: torch.Tensor = grad) -> None:
                out = model(x)
                balance = load_balancing_loss(model)
                if balance.requires_grad:
                    torch.autograd.backward([out, balance], [grad, None])
                else:
                    out.backward(grad)

            variants = {name: (lambda work=work, model=model: work(model)) for name, model in models.items()}
            seconds = alternate(variants, options.rounds, device)
            for name, values in seconds.items():
                ratios = [a / b for a, b in zip(values, seconds["PEFT LoRA"])]
                rows.append(
                    {
                        "width": width_name,
                        "maps": maps_name,
                        "layer": name,
                        "ms": 1e3 * summarise(values)["median"],
                        "over PEFT LoRA": statistics.median(ratios),
                        "from": min(ratios),
                        "to": max(ratios),
                    }
                )
    report("One qkv projection, forward + backward", rows, options.output)


if __name__ == "__main__":
    main()
