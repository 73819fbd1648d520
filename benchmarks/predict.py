"""Images segmented per second, batch 1 and 8: forms of attention, with and without the detail branch.

python benchmarks/predict.py --model tiny --image-size 512 --output benchmarks/results/predict.json
"""

from __future__ import annotations

import argparse
import itertools
import statistics

import torch
from harness import add_output, alternate, forward_flops, matrix_rate, report, summarise
from kinds import SIZES, Kind, adapted, sam_config, segmenter

from convlora.devices import resolve_device, resolve_precision
from convlora.models.autocast import autocast
from convlora.models.detail import FINEST


def main() -> None:
    """Times all pairs of attention and detail branch in turn at every batch size."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=SIZES, default="vit-b")
    parser.add_argument("--image-size", type=int, default=1024)
    parser.add_argument("--batch-size", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--attention", nargs="+", default=["auto", "sdpa", "eager"])
    parser.add_argument("--detail", nargs="+", choices=FINEST, default=["none"])
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--device", default="auto")
    add_output(parser)
    options = parser.parse_args()
    device = resolve_device(options.device)
    precision = resolve_precision(options.precision, device)
    models = {}
    for form, detail in itertools.product(options.attention, options.detail):
        base = segmenter(options.model, options.image_size, attention=form, detail=detail)
        models[f"{form}, {detail}"] = adapted(base, Kind(attention=form), precision, device).eval()
    rate, flops = matrix_rate(device, precision), forward_flops(sam_config(options.model), options.image_size)
    rows = []
    for batch in options.batch_size:
        pixels = torch.randn(batch, 3, options.image_size, options.image_size, device=device)

        def work(model: torch.nn.Module, pixels: torch.Tensor = pixels) -> None:
            with torch.inference_mode(), autocast(device, precision):
                model(pixel_values=pixels)

        variants = {kind: (lambda work=work, model=model: work(model)) for kind, model in models.items()}
        measured = alternate(variants, options.rounds, device)
        first = next(iter(measured.values()))
        for kind, values in measured.items():
            speed = summarise(batch / value for value in values)
            share = flops * speed["median"] / rate
            rows.append(
                {
                    "batch": batch,
                    "attention, detail": kind,
                    "images/s": speed["median"],
                    "time ratio": statistics.median(a / b for a, b in zip(values, first)),
                    "share of matrix rate": share,
                    **speed,
                }
            )
    title = f"Prediction, {options.model} with Conv-LoRA, {options.image_size} pixels, {precision}"
    report(title, rows, options.output)


if __name__ == "__main__":
    main()
