"""One kind of training step at the true size of a published SAM: seconds and peak memory, in a process of its own.

The weights are random; their values change neither. Prints one JSON object. `step.py` compares several kinds.

    python benchmarks/one_step.py --model vit-b --image-size 1024 --steps 2
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import sys

from convlora.allocator import return_large_blocks

if "tuned" in sys.argv:
    return_large_blocks()  # has to come before the first tensor

import torch
from harness import forward_flops, matrix_rate, wait
from kinds import SIZES, Kind, adapted, loss_of, random_batch, sam_config, segmenter, trained_parameters

from convlora.devices import peak_memory_mb, resolve_device
from convlora.models.attention import FORMS
from convlora.models.parameters import count_parameters


def main() -> None:
    """Builds the model, makes the steps, prints what they cost."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=SIZES, default="vit-b")
    parser.add_argument("--image-size", type=int, default=1024)
    parser.add_argument("--batch-size", type=int, default=1)
    parser.add_argument("--steps", type=int, default=2, help="counted steps")
    parser.add_argument("--warm-up", type=int, default=1, help="steps before them that are not counted")
    parser.add_argument("--method", default="conv-lora")
    parser.add_argument("--classes", type=int, default=2)
    parser.add_argument("--head", default="auto")
    parser.add_argument("--detail", choices=["none", "half", "full"], default="none")
    parser.add_argument("--mask-tokens", type=int)
    parser.add_argument("--attention", choices=FORMS, default="auto")
    parser.add_argument("--experts", choices=["fast", "direct"], default="fast")
    parser.add_argument("--precision", choices=["fp32", "bf16"], default="fp32")
    parser.add_argument("--activation-checkpointing", action="store_true")
    parser.add_argument("--allocator", choices=["default", "tuned"], default="default")
    parser.add_argument("--device", default="auto")
    options = parser.parse_args()

    device = resolve_device(options.device)
    kind = Kind(options.method, options.attention, options.experts == "direct", options.activation_checkpointing)
    base = segmenter(
        options.model,
        options.image_size,
        attention=options.attention,
        num_classes=options.classes,
        head=options.head,
        detail=options.detail,
        num_mask_tokens=options.mask_tokens,
    )
    model = adapted(base, kind, options.precision, device)
    optimizer = torch.optim.AdamW(trained_parameters(model), lr=1e-4)
    batch = random_batch(options.batch_size, options.image_size, options.classes, device)
    before = peak_memory_mb(device)

    phases: dict[str, list[float]] = {"forward": [], "backward": [], "optimizer": [], "step": []}
    for _ in range(options.warm_up + options.steps):
        start = wait(device)
        loss = loss_of(model, batch, device, options.precision)
        forward = wait(device)
        loss.backward()
        backward = wait(device)
        optimizer.step()
        optimizer.zero_grad()
        end = wait(device)
        for name, seconds in zip(phases, (forward - start, backward - forward, end - backward, end - start)):
            phases[name].append(seconds)
    trainable, total = count_parameters(model)
    rate = matrix_rate(device, options.precision)
    flops = 2 * options.batch_size * forward_flops(sam_config(options.model), options.image_size)
    seconds = statistics.median(phases["step"][options.warm_up :])
    result = {
        **vars(options),
        "device": torch.cuda.get_device_name() if device.type == "cuda" else f"cpu, {torch.get_num_threads()} threads",
        "torch": torch.__version__,
        "python": platform.python_version(),
        "seconds": {name: round(statistics.median(values[options.warm_up :]), 3) for name, values in phases.items()},
        "peak_memory_mb": round(peak_memory_mb(device)),
        "memory_before_mb": round(before),
        "matrix_rate_tflops": round(rate / 1e12, 3),
        "useful_tflop": round(flops / 1e12, 3),
        "share_of_matrix_rate": round(flops / seconds / rate, 3),
        "params": {"trainable": trainable, "total": total},
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
