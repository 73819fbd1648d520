"""Trains the small promptable SAM that comes with the package, with its detail branch, on scenes drawn along the way.

    python scripts/pretrain_tiny.py --output tiny --steps 9000
    python scripts/pretrain_tiny.py --output tiny --steps 9000 --resume
    python scripts/pretrain_tiny.py --output more --steps 4000 --start tiny/model

The recipe is SAM's in small: points and boxes, three masks of which the best is taught, an IoU head. What is added for
short trainings on small machines: a warm-up of the encoder on dense targets, which stay as a second loss; an answer
without prompt (all things); scenes that begin easy; a mask loss that weighs figure and ground alike. The detail branch
learns beside the answer without prompt. The data of a step depend on its number alone.

With `--start`, a SAM that was trained before learns on: there is no warm-up, and scenes are hard from the first step.

Source: Kirillov et al., "Segment Anything", ICCV 2023, section 3 and appendix A.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from pathlib import Path

import torch
from pretraining.dense import DenseHead
from pretraining.evaluation import held_out_prompts, score_prompts
from pretraining.fine import FineHead
from pretraining.model import new_sam
from pretraining.prompts import Prompts, answer, draw_prompts, prompt_loss, random_points
from pretraining.scenes import EASY, HARD, SceneBatches, held_out
from torch import nn
from torch.utils.data import DataLoader
from transformers import SamModel

from convlora.models.detail_file import load_detail, save_detail
from convlora.storage import replacing_file, replacing_folder
from convlora.training.checkpoint import load_state, save_state


def main() -> None:
    """Trains, or goes on training."""
    options = _options()
    torch.manual_seed(options.seed)
    device = torch.device(options.device)
    sam = new_sam(options.seed) if options.start is None else _load(options.start)
    channels = sam.config.vision_config.output_channels
    dense, fine = DenseHead(channels), FineHead(channels)
    if options.start is not None:
        load_detail(fine.branch, options.start)
    both = nn.ModuleDict({"sam": sam, "dense": dense, "fine": fine}).to(device).train()
    trained = [p for p in both.parameters() if p.requires_grad]
    optimizer = optimizer_for(trained, options.lr)
    first = 0
    state_file = options.output / "state.safetensors"
    if options.resume:
        state = load_state(state_file)  # on the CPU; the optimizer takes it where the weights are
        both.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        first = int(state["step"])
    options.output.mkdir(parents=True, exist_ok=True)
    tests = {}
    for name, style in (("easy", EASY), ("hard", HARD)):
        images, instances = (part.to(device) for part in held_out(options.held_out, style))
        tests[name] = (images, held_out_prompts(instances))
    warm_up = round(options.dense_share * options.steps) if options.start is None else 0
    harden = warm_up + round(0.4 * (options.steps - warm_up)) if options.start is None else 0
    batches = SceneBatches(first, options.steps, options.batch_size, harden, options.seed)
    loader = DataLoader(
        batches, batch_size=None, num_workers=options.workers, prefetch_factor=4 if options.workers else None
    )
    sums: dict[str, list[torch.Tensor]] = {}
    start = time.perf_counter()
    for step, (images, instances) in enumerate(loader, start=first):
        for group in optimizer.param_groups:
            group["lr"] = options.lr * rate(step, options.steps)
        generator = torch.Generator().manual_seed(options.seed * 1_000_003 + step)
        images, instances = images.to(device), instances.to(device)
        losses = compute_losses(sam, dense, fine, images, instances, step, warm_up, options, generator)
        total = sum(value for name, value in losses.items() if not name.endswith("_iou"))
        optimizer.zero_grad(set_to_none=True)
        total.backward()
        nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        for name, value in losses.items():
            sums.setdefault(name, []).append(value.detach())
        if (step + 1) % options.log_every == 0:
            line = summed_up(step + 1, sums, options.log_every * options.batch_size / (time.perf_counter() - start))
            sums, start = {}, time.perf_counter()
            log(options.output, line)
        last = step + 1 == options.steps
        if (step + 1) % options.evaluate_every == 0 or last:
            scores = {name: score_prompts(sam, *test) for name, test in tests.items()}
            log(options.output, {"step": step + 1, **scores})
            with replacing_file(state_file) as temporary:
                save_state(
                    temporary, {"model": both.state_dict(), "optimizer": optimizer.state_dict(), "step": step + 1}
                )
            save_model(sam, fine, options.output / "model")
            start = time.perf_counter()


def compute_losses(
    sam: SamModel,
    dense: DenseHead,
    fine: FineHead,
    images: torch.Tensor,
    instances: torch.Tensor,
    step: int,
    warm_up: int,
    options: argparse.Namespace,
    generator: torch.Generator,
) -> dict[str, torch.Tensor]:
    """All losses of a step, weighted, and the IoU of the answers."""
    with torch.autocast(images.device.type, torch.bfloat16, enabled=options.bf16):
        embeddings = sam.vision_encoder(images).last_hidden_state.float()
    weight = 1.0 if step < warm_up else options.dense_weight
    losses = {name: weight * value for name, value in dense.loss(embeddings, instances).items()}
    if step < warm_up:
        return losses
    count = options.prompts // 2
    prompts = draw_prompts(instances, 2 * count, generator)
    by_box = Prompts(*(part[:, :count] for part in prompts))
    by_point = Prompts(*(part[:, count:] for part in prompts))
    logits, quality = answer(sam, embeddings, boxes=by_box.boxes)
    losses["box"], losses["box_iou"] = prompt_loss(logits, quality, by_box.masks)
    # Without a prompt: everything that is a thing. SAM has no such answer; it is where a semantic segmenter starts.
    with torch.autocast(images.device.type, torch.bfloat16, enabled=options.bf16):
        losses |= fine.loss(sam, images, embeddings, instances)
    several = step % 4 != 0
    logits, quality = answer(sam, embeddings, points=by_point.points, several=several)
    losses["point"], losses["point_iou"] = prompt_loss(logits, quality, by_point.masks)
    if step % 8 == 7:  # a correction: the earlier answer, and a point in what it missed
        earlier = logits.detach().float()[:, :, 0]
        missed = by_point.masks & (nn.functional.interpolate(earlier, size=images.shape[-2:]) <= 0)
        points = torch.cat(
            [by_point.points, random_points(missed | (by_point.masks & ~missed.any((-1, -2), True)), generator)], 2
        )
        logits, quality = answer(sam, embeddings, points=points, masks=earlier)
        losses["mask"], losses["mask_iou"] = prompt_loss(logits, quality, by_point.masks)
    return losses


def optimizer_for(trained: list[nn.Parameter], lr: float) -> torch.optim.Optimizer:
    """AdamW, without weight decay for biases and norms."""
    decayed = [p for p in trained if p.ndim >= 2]
    return torch.optim.AdamW(
        [{"params": decayed}, {"params": [p for p in trained if p.ndim < 2], "weight_decay": 0.0}],
        lr=lr, betas=(0.9, 0.98), weight_decay=0.05,
    )  # fmt: skip


def rate(step: int, steps: int, ramp: int = 200) -> float:
    """Linear rise, then half a cosine down to a hundredth."""
    return min(1.0, (step + 1) / ramp) * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * step / steps)))


def save_model(sam: SamModel, fine: FineHead, folder: Path) -> None:
    """Writes SAM and detail branch in half precision."""
    with replacing_folder(folder) as temporary:
        halved = SamModel(sam.config).to(torch.float16)
        halved.load_state_dict(sam.state_dict())
        halved.save_pretrained(temporary)
        save_detail(fine.branch, temporary)


def _load(folder: Path) -> SamModel:
    sam = SamModel.from_pretrained(folder, dtype=torch.float32)
    sam.shared_image_embedding.requires_grad_(False)
    return sam


def summed_up(step: int, sums: dict[str, list[torch.Tensor]], images_per_second: float) -> dict:
    """A line of the log: the means of what was collected since the last one."""
    means = {name: round(float(sum(values)) / len(values), 4) for name, values in sums.items()}
    return {"step": step, **means, "images_per_second": round(images_per_second, 2)}


def log(folder: Path, line: dict) -> None:
    """Prints a line and adds it to the log."""
    text = json.dumps(line)
    print(text, flush=True)
    with (folder / "log.jsonl").open("a", encoding="utf-8") as file:
        file.write(text + "\n")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("--start", type=Path, help="a SAM, as this script or transformers saves it, to train on")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--steps", type=int, default=9000)
    parser.add_argument("--batch-size", type=int, default=4)
    parser.add_argument("--prompts", type=int, default=8, help="per image, half boxes, half points")
    parser.add_argument("--lr", type=float, default=6e-4)
    parser.add_argument("--dense-share", type=float, default=0.2, help="share of the steps without prompts")
    parser.add_argument("--dense-weight", type=float, default=0.3, help="of the dense losses beside the prompts")
    parser.add_argument("--held-out", type=int, default=48, help="scenes to score, easy and hard")
    parser.add_argument("--log-every", type=int, default=100)
    parser.add_argument("--evaluate-every", type=int, default=500)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--bf16", action="store_true", help="encoder and detail branch in mixed precision")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


if __name__ == "__main__":
    main()
