"""Trains a detail branch at full size for a SAM that has one at half of it, on scenes drawn along the way.

    python scripts/pretrain_detail.py --sam src/convlora/models/tiny --output full --steps 4500
    python scripts/pretrain_detail.py --sam src/convlora/models/tiny --output full --steps 4500 --resume

The SAM stays as it is. The levels that both branches have begin with the weights of the one at half of the size. The
branch learns what `pretrain_tiny.py` teaches its own: everything that is a thing, borders, thin things, and what
belongs together. The data of a step depend on its number alone.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import torch
from pretrain_tiny import log, optimizer_for, rate, summed_up
from pretraining.fine import FineHead, finer
from pretraining.scenes import SceneBatches
from safetensors.torch import load_file
from torch import nn
from torch.utils.data import DataLoader
from transformers import SamModel

from convlora.models.detail import FINEST
from convlora.models.detail_file import NAMES, save_detail
from convlora.storage import replacing_file
from convlora.training.checkpoint import load_state, save_state


def main() -> None:
    """Trains, or goes on training."""
    options = _options()
    torch.manual_seed(options.seed)
    sam = SamModel.from_pretrained(options.sam, dtype=torch.float32).eval().requires_grad_(False).to(options.device)
    fine = FineHead(sam.config.vision_config.output_channels, FINEST["full"])
    half = load_file(options.sam / NAMES[FINEST["half"]])
    fine.branch.load_state_dict(finer({name: value.float() for name, value in half.items()}), strict=False)
    fine = fine.to(options.device).train()
    trained = list(fine.parameters())
    optimizer = optimizer_for(trained, options.lr)
    first, state_file = 0, options.output / "state.safetensors"
    if options.resume:
        state = load_state(state_file)
        fine.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        first = int(state["step"])
    options.output.mkdir(parents=True, exist_ok=True)
    batches = SceneBatches(first, options.steps, options.batch_size, 0, options.seed)
    loader = DataLoader(batches, batch_size=None, num_workers=options.workers)
    sums: dict[str, list[torch.Tensor]] = {}
    start = time.perf_counter()
    for step, (images, instances) in enumerate(loader, start=first):
        for group in optimizer.param_groups:
            group["lr"] = options.lr * rate(step, options.steps, 100)
        images, instances = images.to(options.device), instances.to(options.device)
        with torch.no_grad():
            embeddings = sam.vision_encoder(images).last_hidden_state
        losses = fine.loss(sam, images, embeddings, instances)
        optimizer.zero_grad(set_to_none=True)
        sum(value for name, value in losses.items() if not name.endswith("_iou")).backward()
        nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        for name, value in losses.items():
            sums.setdefault(name, []).append(value.detach())
        if (step + 1) % options.log_every == 0:
            line = summed_up(step + 1, sums, options.log_every * options.batch_size / (time.perf_counter() - start))
            sums, start = {}, time.perf_counter()
            log(options.output, line)
        if (step + 1) % options.save_every == 0 or step + 1 == options.steps:
            with replacing_file(state_file) as temporary:
                save_state(
                    temporary, {"model": fine.state_dict(), "optimizer": optimizer.state_dict(), "step": step + 1}
                )
            save_detail(fine.branch, options.output)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sam", type=Path, required=True, help="folder of a SAM and its branch at half of the size")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--steps", type=int, default=4500)
    parser.add_argument("--batch-size", type=int, default=4)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--log-every", type=int, default=100)
    parser.add_argument("--save-every", type=int, default=500)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--seed", type=int, default=12345, help="not that of the SAM: it has seen those scenes")
    return parser.parse_args()


if __name__ == "__main__":
    main()
