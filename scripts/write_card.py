"""Puts a pretrained SAM into the package, with its model card.

python scripts/write_card.py tiny/model --log tiny/log.jsonl --nuclei DATA --accuracy benchmarks/results/accuracy.jsonl

The folder holds what pretrain_tiny.py saved, and `detail-full.safetensors` of pretrain_detail.py.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
from pathlib import Path

import torch
from pretraining.evaluation import held_out_prompts, read_components, score_prompts
from pretraining.model import new_sam
from pretraining.scenes import EASY, HARD, held_out
from transformers import SamModel

from convlora.models.bundled import BUNDLED
from convlora.models.detail_file import NAMES
from convlora.storage import replacing_folder

CONTENDERS = ("conv-lora", "conv-lora, random frozen SAM", "unet")


def main() -> None:
    """Scores the model beside an untrained one and writes folder and card."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--log", type=Path, required=True)
    parser.add_argument("--template", type=Path, default=Path(__file__).parent / "tiny_card.md")
    parser.add_argument("--nuclei", type=Path, help="a binary data folder of things that do not touch much")
    parser.add_argument("--accuracy", type=Path, required=True, help="what benchmarks/accuracy.py wrote")
    parser.add_argument("--scenes", type=int, default=200)
    options = parser.parse_args()
    trained = SamModel.from_pretrained(options.model, dtype=torch.float32)
    untrained = new_sam(seed=1)
    tests = {}
    for name, style in (("easy scenes", EASY), ("hard scenes", HARD)):
        images, instances = held_out(options.scenes, style, seed=2 * 10**6)
        tests[name] = (images, held_out_prompts(instances))
    if options.nuclei is not None:
        tests["nuclei, real images"] = read_components(options.nuclei)
    lines = ["| | box | point | untrained, box | untrained, point | the box itself |", "|---|---|---|---|---|---|"]
    for name, test in tests.items():
        ours, none = score_prompts(trained, *test), score_prompts(untrained, *test)
        values = (ours["box"], ours["point"], none["box"], none["point"], ours["filled_box"])
        lines.append(f"| {name} | " + " | ".join(f"{value:.3f}" for value in values) + " |")
        print(lines[-1], flush=True)
    log = [json.loads(line) for line in options.log.read_text(encoding="utf-8").splitlines()]
    card = options.template.read_text(encoding="utf-8")
    card = card.replace("{scores}", "\n".join(lines)).replace("{steps}", f"{log[-1]['step']:,}")
    card = card.replace("{comparison}", comparison_table(options.accuracy))
    with replacing_folder(BUNDLED["tiny"]) as folder:
        for name in ("config.json", "model.safetensors", *NAMES.values()):
            shutil.copy(options.model / name, folder / name)
        (folder / "README.md").write_text(card, encoding="utf-8")


def comparison_table(file: Path) -> str:
    """Test scores after fine-tuning from this model, from random weights, and of a U-Net; mean and range over seeds."""
    records = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    found: dict[str, dict[str, dict[int, float]]] = {}
    for record in records:  # later runs replace earlier ones
        found.setdefault(record["row"], {}).setdefault(record["contender"], {})[record["seed"]] = record["test"]
    lines = ["| data | from this model | from random frozen weights | U-Net |", "|---|---|---|---|"]
    for row, contenders in found.items():
        if any(name not in contenders for name in CONTENDERS):
            continue
        seeds = set.intersection(*(set(contenders[name]) for name in CONTENDERS))
        cells = []
        for name in CONTENDERS:
            values = [contenders[name][seed] for seed in sorted(seeds)]
            cells.append(f"{statistics.mean(values):.3f} ({min(values):.3f} to {max(values):.3f})")
        epochs, _, data = row.partition("/")
        lines.append(f"| {data}, {epochs}, seeds {', '.join(map(str, sorted(seeds)))} | {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
