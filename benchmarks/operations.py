"""How many operations PyTorch dispatches: for one adapted layer, the vision encoder, a whole training step.

On a GPU small operations cost their start, not their arithmetic, so their number is what a layer costs. They are
counted on the CPU as well as anywhere, without any timing. What is counted: everything that is dispatched below
autograd in the forward and the backward pass, except views, which compute nothing: operators that by their schema
return an alias of their input, and `_unsafe_view`. In-place operators and allocations count. Constants that are made
once are made before the count.

- layer: `nn.Linear(192, 576)`, adapted with PEFT's defaults, on a map of 64 x 64 cells; the gradient of the sum of its
  output, down to the trained weights.
- encoder: the vision encoder on one image; the gradient of the sum of its output.
- step: forward pass, loss, load-balancing loss, backward pass, clipping, AdamW.

The plain form starts other operations for other experts, so its number depends on the gate's noise, here seed 0.

    python benchmarks/operations.py
    python benchmarks/operations.py --model vit-h --json
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Callable

import torch
from harness import add_output, report
from kinds import BUNDLED, PLAIN, SIZES, Kind, adapted, loss_of, random_batch, segmenter
from kinds import trained_parameters as trained
from peft import LoraConfig, get_peft_model
from tests.helpers.count_operations import CountOperations
from tests.helpers.direct_experts import use_direct_experts
from torch import nn

from convlora.methods.conv_lora import ConvLoraConfig

# Forms of the attention for a GPU, and for a CPU; a layer by itself has none.
KINDS = {
    "lora": Kind("lora", attention="vectors"),
    "conv-lora": Kind(attention="vectors"),
    "conv-lora (cpu)": Kind(attention="blocks"),
    "plain": PLAIN,
}
CPU = torch.device("cpu")


def count(work: Callable[[], None]) -> CountOperations:
    """Counts the operations of the second run of some work; the first makes what is made once."""
    torch.manual_seed(0)
    work()
    with CountOperations() as counter:
        work()
    return counter


def of_layer(kind: Kind) -> CountOperations:
    """Counts one adapted linear layer, forward and backward."""
    config = (LoraConfig if kind.method == "lora" else ConvLoraConfig)(target_modules=["0"])
    model = get_peft_model(nn.Sequential(nn.Linear(192, 576)), config).train()
    if kind.direct_experts:
        use_direct_experts(model)
    x = torch.randn(1, 64, 64, 192)

    def work() -> None:
        model.zero_grad()
        model(x).sum().backward()

    return count(work)


def of_encoder(kind: Kind, size: str, image_size: int) -> CountOperations:
    """Counts a vision encoder, forward and backward."""
    model = adapted(segmenter(size, image_size, attention=kind.attention), kind, "fp32", CPU)
    encoder = model.base_model.model.vision_encoder
    pixels = torch.randn(1, 3, image_size, image_size)

    def work() -> None:
        model.zero_grad()
        encoder(pixels).last_hidden_state.sum().backward()

    return count(work)


def of_step(kind: Kind, size: str, image_size: int) -> CountOperations:
    """Counts a training step."""
    model = adapted(segmenter(size, image_size, attention=kind.attention), kind, "fp32", CPU)
    # As on a GPU, where many tensors are updated at a time.
    optimizer = torch.optim.AdamW(trained(model), lr=1e-4, foreach=True)
    batch = random_batch(1, image_size, 2, CPU)

    def work() -> None:
        loss_of(model, batch, CPU, "fp32").backward()
        nn.utils.clip_grad_norm_(trained(model), 1.0, foreach=True)
        optimizer.step()
        optimizer.zero_grad()

    return count(work)


def main() -> None:
    """Counts all kinds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=SIZES, default="tiny", help="tiny is the bundled one")
    parser.add_argument("--image-size", type=int, default=256, help="of encoder and step, in pixels")
    parser.add_argument("--operators", action="store_true", help="also list the operators of a layer of Conv-LoRA")
    parser.add_argument("--json", action="store_true", help="print the numbers as one JSON object in the last line")
    add_output(parser)
    options = parser.parse_args()
    where = (BUNDLED if options.model == "tiny" else options.model, options.image_size)
    counters = {
        "layer": {name: of_layer(kind) for name, kind in KINDS.items()},
        "encoder": {name: of_encoder(kind, *where) for name, kind in KINDS.items()},
        "step": {name: of_step(kind, *where) for name, kind in KINDS.items()},
    }
    totals = {what: {name: len(one.names) for name, one in row.items()} for what, row in counters.items()}
    if options.operators:
        for operator, times in Counter(counters["layer"]["conv-lora"].names).most_common():
            print(f"{times:5d}  {operator}")
    rows = [{"operations": what, **row} for what, row in totals.items()]
    report(f"Operations, {options.model} at {options.image_size} pixels", rows, options.output)
    if options.json:
        print(json.dumps(totals))


if __name__ == "__main__":
    main()
