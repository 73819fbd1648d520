"""What a fine-tuning step takes with each model of the catalogue: Conv-LoRA, detail branch, one image of 1024 pixels.

    python benchmarks/models.py --output benchmarks/results/models.json

The weights are random, of the true shape. Each model runs in a process of its own. Its memory is that of the process.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from harness import ROOT, add_output, report

from convlora.devices import peak_memory_mb, resolve_device
from convlora.models.build import adapt
from convlora.models.loading import load_segmenter

sys.path.insert(0, str(ROOT))
from tests.helpers.architectures import SAM2S, SAM3S, SAM_HQS, SAMS, VITS, architecture

SIDE = 1024


def one_model(source: str, side: int, steps: int) -> dict[str, float | str | int]:
    """The last of some steps: the first takes longer, but no more memory."""
    device = resolve_device("cpu")
    with tempfile.TemporaryDirectory() as folder:
        architecture(source).save_pretrained(folder)
        native = load_segmenter(folder)
        multiple = getattr(native.config, "patch_size", 16)
        side = round((side or max(native.config.image_size)) / multiple) * multiple
        del native
        model = adapt(load_segmenter(folder, image_size=side, detail="half"), "conv-lora", {}).train()
    pixels, labels = torch.randn(1, 3, side, side), torch.randint(0, 2, (1, side, side))
    seconds = 0.0
    for _ in range(steps):
        start = time.perf_counter()
        model(pixels, labels=labels).loss.backward()
        seconds = time.perf_counter() - start
    encoder = sum(p.numel() for n, p in model.named_parameters() if "vision_encoder" in n and "lora_" not in n)
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    return {
        "model": source, "image": side, "encoder, million": round(encoder / 1e6, 1),
        "trained, million": round(trained / 1e6, 2), "seconds": round(seconds, 2),
        "peak GB": round(peak_memory_mb(device) / 1024, 2),
    }  # fmt: skip


def main() -> None:
    """Runs each model in turn."""
    known = [*SAMS, *SAM_HQS, *SAM2S, *SAM3S, *VITS]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", choices=known, default=known)
    parser.add_argument("--side", type=int, default=SIDE, help="pixels; 0: the model's own")
    parser.add_argument("--steps", type=int, default=2, help="the last one is timed")
    parser.add_argument("--alone", action="store_true", help=argparse.SUPPRESS)
    add_output(parser)
    options = parser.parse_args()
    if options.alone:
        print(json.dumps(one_model(options.models[0], options.side, options.steps)))
        return
    rows = []
    for source in options.models:
        command = [
            sys.executable,
            str(Path(__file__)),
            "--alone",
            "--models",
            source,
            "--side",
            str(options.side),
            "--steps",
            str(options.steps),
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            print(f"{source}: {done.stderr[-300:]}", file=sys.stderr)
            continue
        rows.append(json.loads(done.stdout.splitlines()[-1]))
        print(rows[-1], flush=True)
    report("One fine-tuning step of each model", rows, options.output)


if __name__ == "__main__":
    main()
