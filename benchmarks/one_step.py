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
import time

from convlora.allocator import return_large_blocks

if "tuned" in sys.argv:
    return_large_blocks()  # has to come before the first tensor

import torch
from harness import forward_flops, matrix_rate
from layer import mix_directly
from transformers import SamConfig, SamVisionConfig

from convlora.devices import resolve_device
from convlora.inference.evaluate import autocast
from convlora.methods.conv_lora import experts, load_balancing_loss
from convlora.methods.registry import apply_method
from convlora.models import SamForSemanticSegmentation
from convlora.models.attention import FORMS
from convlora.models.layer_names import MODULES_TO_SAVE, sam_layers
from convlora.models.parameters import count_parameters, halve_frozen_weights
from convlora.models.random_sam import random_sam
from convlora.training.run import peak_memory_mb

SIZES = {
    "tiny": {"hidden_size": 192, "num_hidden_layers": 6, "num_attention_heads": 3, "global_attn_indexes": [2, 5]},
    "vit-b": {
        "hidden_size": 768,
        "num_hidden_layers": 12,
        "num_attention_heads": 12,
        "global_attn_indexes": [2, 5, 8, 11],
    },
    "vit-l": {
        "hidden_size": 1024,
        "num_hidden_layers": 24,
        "num_attention_heads": 16,
        "global_attn_indexes": [5, 11, 17, 23],
    },
    "vit-h": {
        "hidden_size": 1280,
        "num_hidden_layers": 32,
        "num_attention_heads": 16,
        "global_attn_indexes": [7, 15, 23, 31],
    },
}


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
    parser.add_argument("--mask-tokens", type=int)
    parser.add_argument("--attention", choices=FORMS, default="auto")
    parser.add_argument("--experts", choices=["fast", "direct"], default="fast")
    parser.add_argument("--precision", choices=["fp32", "bf16"], default="fp32")
    parser.add_argument("--activation-checkpointing", action="store_true")
    parser.add_argument("--allocator", choices=["default", "tuned"], default="default")
    parser.add_argument("--device", default="auto")
    options = parser.parse_args()

    device = resolve_device(options.device)
    if options.experts == "direct":
        experts.mix_experts = mix_directly
    config = SamConfig(vision_config=SamVisionConfig(**SIZES[options.model], initializer_range=0.02))
    base = SamForSemanticSegmentation.from_sam(
        random_sam(config),
        image_size=options.image_size,
        attention=options.attention,
        num_classes=options.classes,
        head=options.head,
        num_mask_tokens=options.mask_tokens,
    )
    model = apply_method(base, options.method, {}, targets=sam_layers, modules_to_save=MODULES_TO_SAVE)
    halve_frozen_weights(base.vision_encoder, options.precision)
    model = model.to(device).train()
    if options.activation_checkpointing:
        model.base_model.model.activation_checkpointing_enable()
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-4)
    shape = (options.batch_size, 3, options.image_size, options.image_size)
    pixels = torch.randn(shape, device=device)
    # Patches rather than single pixels, as in real maps; every class occurs in every image where there is room.
    cells = torch.arange(shape[0] * (options.image_size // 16) ** 2, device=device) % options.classes
    labels = cells.view(shape[0], options.image_size // 16, -1).repeat_interleave(16, 1).repeat_interleave(16, 2)
    before = peak_memory_mb(device)

    def wait() -> float:
        if device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter()

    phases: dict[str, list[float]] = {"forward": [], "backward": [], "optimizer": [], "step": []}
    for _ in range(options.warm_up + options.steps):
        start = wait()
        with autocast(device, options.precision):
            loss = model(pixel_values=pixels, labels=labels).loss + load_balancing_loss(model)
        forward = wait()
        loss.backward()
        backward = wait()
        optimizer.step()
        optimizer.zero_grad()
        end = wait()
        for name, seconds in zip(phases, (forward - start, backward - forward, end - backward, end - start)):
            phases[name].append(seconds)
    trainable, total = count_parameters(model)
    rate = matrix_rate(device, options.precision)
    flops = 2 * options.batch_size * forward_flops(config, options.image_size)
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
