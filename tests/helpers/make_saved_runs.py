"""Makes the runs that later versions must still read: `python -m tests.helpers.make_saved_runs FOLDER`.

Run it once for a version whose files changed, into a folder of its name, and never change what is there already.
"""

import shutil
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

from convlora.data.synthetic.tasks import write_task
from convlora.inference.segmenter import Segmenter
from convlora.training.config import RunConfig
from convlora.training.run import train
from tests.helpers.models import tiny_sam

RUNS = {
    "conv-lora": ("cells", []),
    "several-classes": ("town", ["method=lora", "method.r=2"]),
    "adapter": ("cells", ["method=adapter"]),
    "late": ("cells", ["method=conv-lora", "adapt_last=1", "method.num_experts=2", "method.top_k=2"]),
}


def make(folder: Path) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        work = Path(scratch)
        tiny_sam().save_pretrained(folder / "sam")
        for task in ("cells", "town"):
            write_task(task, work / task, num_train=6, num_val=2, num_test=2, size=(60, 90), seed=3)
        folder.joinpath("images").mkdir(parents=True)
        for task in ("cells", "town"):
            shutil.copy(work / task / "test" / "images" / "test_000.png", folder / "images" / f"{task}.png")
        grey = np.asarray(Image.open(folder / "images" / "cells.png").convert("L")).astype(np.uint16)[:, :50] * 200
        Image.fromarray(grey).save(folder / "images" / "sixteen_bits.png")
        for name, (task, settings) in RUNS.items():
            config = RunConfig()
            config.override(
                [f"data.path={work / task}", f"model.source={folder / 'sam'}", "epochs=3", "lr=1e-2", "batch_size=2",
                 "grad_accum=1", "device=cpu", *settings]
            )  # fmt: skip
            run = work / name
            train(config, run)
            shutil.rmtree(run / "checkpoints")
            for path in [run / "config.yaml", run / "adapter" / "adapter_config.json", run / "adapter" / "README.md"]:
                text = (
                    path.read_text().replace(str((folder / "sam").resolve()), "sam").replace(str(folder / "sam"), "sam")
                )
                path.write_text(text.replace(str(work / task), "data"))
            shutil.copytree(run, folder / name)
            segmenter = Segmenter.from_run(folder / name, model=folder / "sam", device="cpu", precision="fp32")
            answers = {}
            for image in sorted((folder / "images").iterdir()):
                prediction = segmenter.predict(image)
                answers[f"{image.stem}.map"] = prediction.semantic_map
                answers[f"{image.stem}.probabilities"] = prediction.probabilities.astype(np.float32)
            np.savez_compressed(folder / name / "answers.npz", **answers)


if __name__ == "__main__":
    make(Path(sys.argv[1]).resolve())
