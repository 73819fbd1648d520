"""Memory and time of the losses and of the semantic map of many classes, each in a process of its own.

python benchmarks/class_losses.py --classes 150 --mask-tokens 100 --image-size 1024
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time

from harness import ROOT, add_output, report

KINDS = ("set loss", "per-pixel loss", "semantic map")


def measure(kind: str, classes: int, tokens: int, size: int) -> dict[str, float]:
    """Seconds, and MB above what was taken before: forward and backward of a loss, or a map for one image."""
    import torch

    from convlora.losses import per_pixel_loss, set_loss
    from convlora.models.semantic_maps import bands

    cells = torch.arange((size // 32) ** 2) % min(classes, tokens)
    labels = cells.view(1, size // 32, -1).repeat_interleave(32, 1).repeat_interleave(32, 2)
    maps = classes if kind == "per-pixel loss" else tokens
    masks = torch.randn(1, maps, size // 4, size // 4, requires_grad=kind != "semantic map")
    names = torch.randn(1, tokens, classes + 1, requires_grad=kind != "semantic map")
    before, start = _peak(), time.perf_counter()
    if kind == "set loss":
        set_loss(masks, names, labels).backward()
    elif kind == "per-pixel loss":
        per_pixel_loss(masks, labels).backward()
    else:
        torch.cat([scores.argmax(dim=0) for _, scores in bands(masks[0], names[0], (size, size))])
    return {"seconds": time.perf_counter() - start, "peak MB": _peak() - before}


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)


def main() -> None:
    """Measures every kind in turn."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--classes", type=int, default=150)
    parser.add_argument("--mask-tokens", type=int, default=100)
    parser.add_argument("--image-size", type=int, default=1024)
    parser.add_argument("--kind", choices=KINDS, help="measure one here instead of each in its own process")
    add_output(parser)
    options = parser.parse_args()
    numbers = [str(value) for value in (options.classes, options.mask_tokens, options.image_size)]
    if options.kind:
        print(json.dumps(measure(options.kind, *map(int, numbers))))
        return
    rows = []
    for kind in KINDS:
        command = [sys.executable, __file__, "--kind", kind, "--classes", numbers[0], "--mask-tokens", numbers[1]]
        done = subprocess.run([*command, "--image-size", numbers[2]], capture_output=True, text=True, cwd=ROOT)
        if done.returncode:
            raise SystemExit(done.stderr[-2000:])
        rows.append({"what": kind, **json.loads(done.stdout.splitlines()[-1])})
    title = f"{numbers[0]} classes, {numbers[1]} mask tokens, one image of {numbers[2]} x {numbers[2]}"
    report(title, rows, options.output)


if __name__ == "__main__":
    main()
