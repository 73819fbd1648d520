"""`convlora quickstart`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from convlora.cli.console import err, out, print_json, quiet_libraries
from convlora.cli.options import Json

EPOCHS = 15
IMAGE_SIZE = 128


def quickstart(
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder to make.")] = Path("convlora-quickstart"),
    json: Json = False,
) -> None:
    """Run the whole job in about a minute, offline: make images, train, score, predict.

    The images are drawn on the spot, and the SAM is a small one with random weights, so the scores say nothing of
    the method. It shows that everything works, and what the files look like.
    """
    quiet_libraries()
    from convlora.cli.progress import RunProgress, progress_bar
    from convlora.cli.train import _show
    from convlora.data.synthetic import write_blobs
    from convlora.errors import InputError
    from convlora.inference.files import collect_images, plan
    from convlora.inference.predict import run_jobs
    from convlora.inference.segmenter import Segmenter
    from convlora.models.random_sam import random_sam, small_sam_config
    from convlora.training.config import RunConfig
    from convlora.training.run import train

    if output.exists() and (output.is_file() or any(output.iterdir())):
        raise InputError(f"{output} exists and is not empty. Give another folder with --output, or delete it.")
    err.print("1. Drawing 60 images of cells on tissue, with masks")
    data = write_blobs(output / "data", num_train=40, num_val=10, num_test=10, size=(160, 160))
    err.print("2. Making a small SAM with random weights")
    model = output / "model"
    random_sam(small_sam_config(IMAGE_SIZE)).save_pretrained(model)
    err.print(f"3. Fine-tuning it with Conv-LoRA for {EPOCHS} epochs")
    config = RunConfig()
    config.update(
        {
            "data": {"path": str(data.resolve())},
            "model": {"source": str(model.resolve())},
            "training": {"epochs": EPOCHS, "lr": 1e-3, "batch_size": 4, "grad_accum": 1, "device": "cpu"},
        },
        origin="quickstart",
    )
    run = output / "run"
    with RunProgress() as progress:
        metrics = train(config, run, reporter=progress)
    err.print("4. Predicting the test images")
    segmenter = Segmenter.from_run(run, device="cpu")
    jobs = plan(collect_images([str(data / "test" / "images")]), output / "predictions", with_overlay=True)
    with progress_bar() as bar:
        task = bar.add_task("Predicting", total=len(jobs), note="")
        for _ in run_jobs(segmenter, jobs, progress=lambda done: bar.advance(task, done)):
            pass
    if json:
        print_json({"output": str(output), **metrics})
        return
    _show(metrics, run)
    out.print(f"Look at the pictures in {output / 'predictions'}.", markup=False, soft_wrap=True)
    out.print(
        "With your own images and a trained SAM: convlora train DATA --model facebook/sam-vit-base --output RUN",
        markup=False,
        soft_wrap=True,
    )
