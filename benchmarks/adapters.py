"""Is there an adapter better than LoRA of as many weights? Every run is written when it is done.

    python benchmarks/adapters.py --data DATA --output benchmarks/results/adapters.jsonl --split val --seeds 0 1
    python benchmarks/adapters.py --output benchmarks/results/adapters.jsonl --split val --seeds 0 1 --table

DATA holds the data folders `cracks`, `nuclei` and `camvid`; drawn images are made along the way. Each run is a short
training of `tiny` in this process: the library's model, loss, augmentation, order, learning rate and scores, without
its checkpoints and reports. The weights of the last step are scored. Runs that the output holds are not made again.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from adapter_variants import VARIANTS, encoder_weights
from harness import conditions
from transformers import set_seed

from convlora.data.dataset import EpochSampler, SegmentationDataset
from convlora.data.sample import Sample
from convlora.data.synthetic.tasks import TASKS, write_task
from convlora.inference.scoring import score_samples
from convlora.methods.conv_lora import load_balancing_loss
from convlora.training.config import RunConfig
from convlora.training.defaults import default_warm_up, settle_choices
from convlora.training.model import load_base
from convlora.training.usable_data import UsableData, load_data

BATCH, LR = 4, 1e-3
DRAWN = {f"drawn {task}": task for task in TASKS}
PHOTOGRAPHS = ("cracks", "nuclei", "camvid")
SETS = (*PHOTOGRAPHS, *DRAWN)
EVERY = {"camvid": 4}  # of its images, one in so many is used
SIZE = {"camvid": (192, 256)}
RESAMPLES = 4000
COUNTS = ("right", "true", "predicted")  # pixels of each class in an image


@dataclass
class Images:
    """A set of images, of which those to train on are in memory."""

    data: UsableData
    config: RunConfig
    train: SegmentationDataset
    items: list[dict[str, torch.Tensor]]

    def samples(self, split: str) -> list[Sample]:
        """Those of a split that are used."""
        return _thinned(self.data, split, str(self.config.data.path))


def main() -> None:
    """Makes the runs that are missing and prints the table."""
    options = _options()
    setting = {"split": options.split, "steps": options.steps, "detail": options.detail}
    if not options.table:
        with tempfile.TemporaryDirectory() as scratch:
            done = {_key(record) for record in _read(options.output)}
            for seed in options.seeds:
                for data in options.sets:
                    for name in options.variants:
                        run = {"variant": name, "data": data, "seed": seed, **setting}
                        if _key(run) in done:
                            continue
                        images = load_images(data, options.data, Path(scratch), options.detail)
                        record = {**run, **one_run(images, name, seed, options.split, options.steps)}
                        with options.output.open("a", encoding="utf-8") as file:
                            file.write(json.dumps({**record, "conditions": conditions()}) + "\n")
                        shown = ("variant", "data", "seed", "score", "seconds", "weights")
                        print(json.dumps({key: record[key] for key in shown}), flush=True)
    print(table(_read(options.output), options.variants, options.sets, options.seeds, setting))


@lru_cache(maxsize=8)
def load_images(data: str, folder: Path | None, scratch: Path, detail: str) -> Images:
    """Reads a set of images, drawing it first if need be."""
    if data in DRAWN:
        path = scratch / DRAWN[data]
        if not path.exists():
            write_task(DRAWN[data], path, num_train=40, num_val=20, num_test=60)
    elif folder is None:
        raise SystemExit(f"Give the folder that holds {data} by --data, or choose others by --sets.")
    else:
        path = folder / data
    config = RunConfig()
    config.override(["method=decoder", "model.source=tiny", f"model.detail={detail}", f"data.path={path}"])
    size = SIZE.get(data, (256, 256))
    config.model.image_size = list(size)
    settle_choices(config)
    usable = load_data(config, tell=lambda _: None)
    if usable.classes.num_classes > 2:
        config.training.loss, config.model.head = None, "per-pixel"
    samples = _thinned(usable, "train", str(path))
    train = SegmentationDataset(samples, usable.classes, size, str(config.data.augmentation))
    return Images(usable, config, train, [train[index] for index in range(len(train))])


def _thinned(data: UsableData, split: str, path: str) -> list[Sample]:
    return list(data.source.splits[split])[:: EVERY.get(Path(path).name, 1)]


def one_run(images: Images, variant: str, seed: int, split: str, steps: int) -> dict[str, Any]:
    """Trains once and scores the images of a split."""
    start = time.perf_counter()
    set_seed(seed)
    model = VARIANTS[variant].put_into(load_base(images.config, images.data.classes))
    _train(model, images, seed, steps)
    single: list[dict[str, Any]] = []
    size = images.train.image_size
    scores = score_samples(
        model, images.samples(split), images.data.classes, image_size=size, batch_size=4, structure=False, images=single
    ).compute()
    score = "iou" if "iou" in scores else "miou"
    return {
        "score": round(scores[score], 5),
        "weights": encoder_weights(model),
        "seconds": round(time.perf_counter() - start, 1),
        "images": [round(one["iou"], 5) if score == "iou" else [one[key] for key in COUNTS] for one in single],
    }


def _train(model: Any, images: Images, seed: int, steps: int) -> None:
    segmenter = model.base_model.model
    segmenter.logits_in_training = False
    trained = [one for one in model.parameters() if one.requires_grad]
    groups = [
        {"params": [one for one in trained if one.ndim > 1]},
        {"params": [one for one in trained if one.ndim <= 1], "weight_decay": 0.0},
    ]
    settings, warm_up = images.config.training, default_warm_up(steps)
    optimizer = torch.optim.AdamW(groups, lr=LR, weight_decay=settings.weight_decay, fused=True)

    def share(step: int) -> float:
        return step / warm_up if step < warm_up else (steps - step) / (steps - warm_up)

    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, share)
    sampler = EpochSampler(len(images.items), seed)
    keys: list[int] = []
    model.train()
    for _ in range(steps):
        if len(keys) < BATCH:
            keys = list(sampler)
            sampler.set_epoch(sampler.epoch + 1)
        now, keys = keys[:BATCH], keys[BATCH:]
        batch = images.train.model_inputs(_stacked(images, now, seed))
        loss = segmenter.loss_of(model(pixel_values=batch["pixel_values"]), batch["labels"])
        (loss + load_balancing_loss(model)).backward()
        torch.nn.utils.clip_grad_norm_(trained, settings.max_grad_norm)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()


def _stacked(images: Images, keys: Sequence[int], seed: int) -> dict[str, torch.Tensor]:
    items = [images.items[key % len(images.items)] for key in keys]
    stacked = {name: torch.stack([item[name] for item in items]) for name in ("pixel_values", "labels")}
    draw, size = images.train.augmentation.draw, images.train.image_size
    return stacked | {"changes": torch.stack([draw(1_000_003 * seed + key, size) for key in keys])}


def interval(ours: Sequence[Any], theirs: Sequence[Any]) -> tuple[float, float, float]:
    """The difference of two variants and its 95% interval, by a paired bootstrap over the images and the seeds.

    Args:
        ours: Scores, seeds x images; with several classes counts, seeds x images x 3 x classes, see `COUNTS`.
        theirs: The same of the other, with the same seeds and images.
    """
    first, second = np.array(ours, dtype=float), np.array(theirs, dtype=float)
    rng, (seeds, count) = np.random.default_rng(0), first.shape[:2]
    drawn = rng.multinomial(count, np.full(count, 1 / count), size=RESAMPLES).astype(float)
    weights = rng.multinomial(seeds, np.full(seeds, 1 / seeds), size=RESAMPLES) / seeds

    def difference(images: np.ndarray, of_seeds: np.ndarray) -> np.ndarray:
        return ((_scores(first, images) - _scores(second, images)) * of_seeds).sum(axis=1)

    mean = difference(np.ones((1, count)), np.full((1, seeds), 1 / seeds))[0]
    low, high = np.percentile(difference(drawn, weights), [2.5, 97.5])
    return float(mean), float(low), float(high)


def _scores(numbers: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """The score of each seed for rows of image weights `(R, I)`: `(R, S)`."""
    if numbers.ndim == 2:
        return weights @ numbers.T / weights.sum(axis=1, keepdims=True)
    right, true, predicted = np.einsum("ri,sick->crsk", weights, numbers)
    either = true + predicted - right
    with np.errstate(invalid="ignore"):
        return np.nanmean(np.where(either > 0, right / np.where(either > 0, either, 1), np.nan), axis=-1)


def table(
    records: Sequence[dict[str, Any]],
    variants: Sequence[str],
    sets: Sequence[str],
    seeds: Sequence[int],
    setting: dict[str, Any],
) -> str:
    """The difference of each variant to the first, with its interval; of the first the score."""
    runs = {_key(record): record for record in records}
    lines = ["| | weights | " + " | ".join(sets) + " |", "|---|---|" + "---|" * len(sets)]
    for name in variants:
        cells, weights = [], ""
        for data in sets:
            known = [
                [_key({"variant": one, "data": data, "seed": seed, **setting}) for one in (name, variants[0])]
                for seed in seeds
            ]
            both = [(runs[ours], runs[theirs]) for ours, theirs in known if ours in runs and theirs in runs]
            if not both:
                cells.append("")
                continue
            weights = f"{both[0][0]['weights']:,}"
            if name == variants[0]:
                values = [ours["score"] for ours, _ in both]
                cells.append(f"{np.mean(values):.3f} ({min(values):.3f} to {max(values):.3f})")
                continue
            mean, low, high = interval([one["images"] for one, _ in both], [one["images"] for _, one in both])
            cells.append(f"{mean:+.3f} [{low:+.3f}, {high:+.3f}]")
        lines.append(f"| `{name}` | {weights} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _read(output: Path) -> list[dict[str, Any]]:
    if not output.is_file():
        return []
    return [json.loads(line) for line in output.read_text(encoding="utf-8").splitlines()]


def _key(record: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(record[key] for key in ("variant", "data", "seed", "split", "steps", "detail"))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder that holds cracks, nuclei and camvid")
    parser.add_argument("--output", type=Path, required=True, help="one line of JSON for each run")
    parser.add_argument("--seeds", type=int, nargs="*", default=[0])
    parser.add_argument("--sets", nargs="*", default=list(SETS), choices=SETS, metavar="SET")
    parser.add_argument("--variants", nargs="*", default=list(VARIANTS), choices=list(VARIANTS), metavar="NAME")
    parser.add_argument("--split", choices=("val", "test"), default="val", help="which images are scored")
    parser.add_argument("--steps", type=int, default=120)
    parser.add_argument("--detail", choices=("none", "half"), default="none")
    parser.add_argument("--table", action="store_true", help="print what there is, and train nothing")
    return parser.parse_args()


if __name__ == "__main__":
    main()
