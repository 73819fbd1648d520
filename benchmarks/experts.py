"""The experts alone: the fast form against the direct one, forward and backward, scale by scale.

python benchmarks/experts.py --rounds 10 --output benchmarks/results/experts.json
"""

from __future__ import annotations

import argparse
import statistics

import torch
from harness import add_output, alternate, report, summarise
from tests.helpers.direct_experts import use_direct_experts
from torch import nn

from convlora.devices import resolve_device
from convlora.methods.conv_lora.experts import ConvExperts

SCALES = tuple(range(1, 9))


def main() -> None:
    """Times every scale on 25 windows of 14 x 14 cells and one map of 64 x 64."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--rank", type=int, default=3)
    parser.add_argument("--device", default="auto")
    add_output(parser)
    options = parser.parse_args()
    device = resolve_device(options.device)
    rank = options.rank
    forms = {"fast": ConvExperts(rank, SCALES).to(device), "direct": ConvExperts(rank, SCALES).to(device)}
    use_direct_experts(forms["direct"])

    rows = []
    for maps, side in ((25, 14), (1, 64)):
        for scale in SCALES:
            z = torch.randn(maps, side, side, rank, device=device, requires_grad=True)
            indices = torch.full((maps, 1), scale - 1, device=device)
            weights = torch.ones(maps, 1, device=device)

            def work(
                form: nn.Module,
                z: torch.Tensor = z,
                indices: torch.Tensor = indices,
                weights: torch.Tensor = weights,
            ) -> None:
                out = form(z, indices, weights)
                out.backward(torch.ones_like(out))

            seconds = alternate(
                {name: lambda work=work, form=form: work(form) for name, form in forms.items()}, options.rounds, device
            )
            ratios = [a / b for a, b in zip(seconds["direct"], seconds["fast"])]
            rows.append(
                {
                    "maps": f"{maps} of {side}x{side}",
                    "scale": scale,
                    "fast ms": 1e3 * summarise(seconds["fast"])["median"],
                    "direct ms": 1e3 * summarise(seconds["direct"])["median"],
                    "direct / fast": statistics.median(ratios),
                    "from": min(ratios),
                    "to": max(ratios),
                }
            )
    total = {form: sum(row[f"{form} ms"] for row in rows) / len(SCALES) for form in ("fast", "direct")}
    summary = {"mean over scales, both sizes, ms": total, "direct / fast": total["direct"] / total["fast"]}
    report("Experts alone, forward + backward", rows, options.output, summary=summary)
    print(f"\nMean over scales, both sizes: direct {total['direct']:.2f} ms, fast {total['fast']:.2f} ms, ", end="")
    print(f"{summary['direct / fast']:.2f} times faster")


if __name__ == "__main__":
    main()
