"""How accurate is it, beside a plain U-Net? Every run is written when it is done, so that it can be interrupted.

    python benchmarks/accuracy.py --data DATA --output benchmarks/results/accuracy.jsonl
    python benchmarks/accuracy.py --output benchmarks/results/accuracy.jsonl --table

DATA holds the data folders `cracks`, `nuclei` and `camvid`; drawn images are made along the way. Runs that the output
holds with the same settings are not made again. Several processes may share an output: give each other `--seeds` and
one core (`OMP_NUM_THREADS=1`). Comparisons at equal seconds want an idle machine: `--rows "five minutes"` alone.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import tempfile
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness import conditions
from transformers import SamConfig

from convlora.data.synthetic.tasks import TASKS, write_task
from convlora.models.bundled import BUNDLED
from convlora.models.random_sam import random_sam
from convlora.training.config import RunConfig
from convlora.training.run import Interrupted, train

COMMON = ("model.source=tiny", "training.batch_size=4", "training.grad_accum=1", "training.device=cpu")
SQUARE = ("model.image_size=256",)
FIVE_MINUTES = ("training.budget_seconds=300",)
PHOTOGRAPHS = ("cracks", "nuclei")
DRAWN = {f"drawn {task}": task for task in TASKS}
SCORES = ("miou", "iou")  # of several classes and of two
RANDOM_SAM = "RANDOM"  # a SAM of the size of `tiny` with random weights, made along the way


@dataclass(frozen=True)
class Contender:
    """A method, and the settings in which it differs from what `convlora train` does by itself."""

    name: str
    method: str
    settings: tuple[str, ...] = ()


OURS = Contender("conv-lora", "conv-lora")
UNET = Contender("unet", "unet")
LORA = Contender("lora", "lora")
HALF = Contender("conv-lora, branch at half size", "conv-lora", ("model.detail=half",))
UNTRAINED = Contender(
    "conv-lora, random frozen SAM", "conv-lora", (f"model.source={RANDOM_SAM}", "model.detail=full")
)  # with a fresh branch of the same size: the pretrained one lies beside `tiny`
PLAIN = Contender("conv-lora, no branch", "conv-lora", ("model.detail=none",))


@dataclass(frozen=True)
class Row:
    """A comparison on one set of images."""

    group: str
    data: str
    settings: tuple[str, ...]
    contenders: tuple[Contender, ...]

    @property
    def name(self) -> str:
        """Group and data."""
        return f"{self.group}/{self.data}"


def rows() -> list[Row]:
    """All comparisons."""

    def epochs(number: int) -> str:
        return f"training.epochs={number}"

    found = [Row("five minutes", data, (*SQUARE, *FIVE_MINUTES), (UNET, OURS, HALF)) for data in PHOTOGRAPHS]
    for number, contenders in ((12, (UNET, OURS, HALF, LORA, UNTRAINED, PLAIN)), (48, (UNET, OURS, HALF))):
        found += [Row(f"{number} epochs", data, (*SQUARE, epochs(number)), contenders) for data in PHOTOGRAPHS]
    found.append(
        Row(
            "10 epochs",
            "camvid",
            ("model.image_size=[192,256]", epochs(10)),
            (UNET, OURS, HALF, LORA, UNTRAINED, PLAIN),
        )
    )
    found += [Row("12 epochs", data, (*SQUARE, epochs(12)), (UNET, OURS, HALF)) for data in DRAWN]
    for fraction in (0.25, 0.1):
        few = (*SQUARE, epochs(48), f"data.train_fraction={fraction}")
        found += [Row(f"{fraction:g} of the images", data, few, (UNET, OURS, HALF)) for data in PHOTOGRAPHS]
    return found


def main() -> None:
    """Makes the runs that are missing, seed by seed, and prints the table."""
    options = _options()
    chosen = [row for row in rows() if _matches(row.name, options.rows)]
    if not options.table:
        done = {_key(record) for record in read_records(options.output)}
        waiting = [
            (row, contender, seed)
            for seed in options.seeds
            for row in chosen
            for contender in row.contenders
            if not options.contenders or contender.name in options.contenders
        ]
        for row, contender, seed in waiting:
            settings = settings_of(row, contender, options.set)
            if (row.name, contender.name, seed, tuple(settings)) in done:
                continue
            record = {"row": row.name, "contender": contender.name, "seed": seed, "settings": settings}
            try:
                keep = options.keep and options.keep / _folder(row, contender, seed)
                record |= one_run(row.data, contender.method, settings, seed, options.data, keep)
            except Interrupted:
                raise SystemExit("Interrupted. The same command makes this run anew and goes on.") from None
            record["conditions"] = conditions()
            with options.output.open("a", encoding="utf-8") as file:  # short lines: several processes may do so
                file.write(json.dumps(record) + "\n")
            print(json.dumps({k: record[k] for k in ("row", "contender", "seed", "test", "val")}), flush=True)
    print(table(read_records(options.output), chosen, options.set))


def settings_of(row: Row, contender: Contender, more: Sequence[str]) -> list[str]:
    """All settings of a run but its method, data and seed."""
    return [*COMMON, *row.settings, *contender.settings, *more]


def one_run(
    data: str, method: str, settings: Sequence[str], seed: int, folder: Path | None, keep: Path | None = None
) -> dict[str, Any]:
    """Trains once and says what came of it. The run folder is moved to `keep` when it is whole."""
    if keep is not None and keep.exists():
        raise SystemExit(f"{keep} exists. Move it away, or give another folder by --keep.")
    with tempfile.TemporaryDirectory() as scratch:
        work = Path(scratch)
        if data in DRAWN:
            path = write_task(DRAWN[data], work / data)
        elif folder is None:
            raise SystemExit(f"Give the folder that holds {data} by --data, or choose others by --rows.")
        else:
            path = folder / data
        if f"model.source={RANDOM_SAM}" in settings:
            random_sam(SamConfig.from_pretrained(BUNDLED["tiny"])).save_pretrained(work / "sam")
        settings = [entry.replace(RANDOM_SAM, str(work / "sam")) for entry in settings]
        if method == "unet":
            settings = [entry for entry in settings if not entry.startswith(("model.source", "model.detail"))]
        config = RunConfig()
        config.override([f"method={method}", f"data.path={path}", f"training.seed={seed}", *settings])
        start = time.perf_counter()
        metrics = train(config, work / "run")
        minutes = round((time.perf_counter() - start) / 60, 1)
        if keep is not None:
            keep.parent.mkdir(parents=True, exist_ok=True)
            shutil.move(work / "run", keep)
        score = next(name for name in SCORES if name in metrics["test"])
        return {
            "score": score,
            "test": round(metrics["test"][score], 4),
            "val": round(metrics["val"][score], 4),
            "steps": metrics["steps"],
            "epochs": metrics["epochs"],
            "best_epoch": metrics["best_epoch"],
            "seconds_per_step": round(metrics["seconds_per_step"], 3),
            "minutes": minutes,
            "trained_weights": metrics["params"]["trainable"],
        }


def table(records: Iterable[dict[str, Any]], chosen: Sequence[Row], more: Sequence[str] = ()) -> str:
    """Test scores of the contenders with these settings, mean and range over the seeds, and their lead over the U-Net.

    Args:
        records: The runs.
        chosen: The comparisons to show.
        more: Settings of all runs, as `--set` gives them; runs with others are left out.
    """
    lines = ["| | | seeds | test score | lead over the U-Net |", "|---|---|---|---|---|"]
    tests: dict[tuple[str, str, tuple[str, ...]], dict[int, float]] = {}
    for record in records:
        row_name, contender_name, seed, settings = _key(record)
        tests.setdefault((row_name, contender_name, settings), {})[seed] = record["test"]
    for row in chosen:
        scores = {
            contender.name: tests.get((row.name, contender.name, tuple(settings_of(row, contender, more))), {})
            for contender in row.contenders
        }
        for name, values in scores.items():
            if not values:
                continue
            spread = f" ({min(values.values()):.3f} to {max(values.values()):.3f})" if len(values) > 1 else ""
            shared = values.keys() & scores.get(UNET.name, {}).keys() if name != UNET.name else ()
            lead = [values[seed] - scores[UNET.name][seed] for seed in shared]
            lines.append(
                f"| {row.name} | {name} | {len(values)} | {statistics.mean(values.values()):.3f}{spread} | "
                + (f"{statistics.mean(lead):+.3f} |" if lead else "|")
            )
    return "\n".join(lines)


def read_records(output: Path) -> list[dict[str, Any]]:
    """The runs that were made so far."""
    if not output.is_file():
        return []
    return [json.loads(line) for line in output.read_text(encoding="utf-8").splitlines()]


def _folder(row: Row, contender: Contender, seed: int) -> str:
    return "-".join(f"{row.name}-{contender.name}-{seed}".replace("/", " ").replace(",", "").split())


def _key(record: dict[str, Any]) -> tuple[str, str, int, tuple[str, ...]]:
    return record["row"], record["contender"], record["seed"], tuple(record["settings"])


def _matches(name: str, parts: Sequence[str]) -> bool:
    return not parts or any(part in name for part in parts)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder that holds cracks, nuclei and camvid")
    parser.add_argument("--output", type=Path, required=True, help="one line of JSON for each run")
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1, 2])
    parser.add_argument("--rows", nargs="*", default=[], help="only rows whose name holds one of these")
    parser.add_argument("--contenders", nargs="*", default=[], help="only these contenders")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="a setting of all runs")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="keep the run folders here, for pictures")
    parser.add_argument("--table", action="store_true", help="print what there is, and train nothing")
    return parser.parse_args()


if __name__ == "__main__":
    main()
