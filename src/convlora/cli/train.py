"""`convlora train`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from convlora.api.settings import Given, check, settings_of
from convlora.cli.console import loading_libraries, out, print_json
from convlora.cli.training_options import Config, Json, Set, takes_settings
from convlora.settings.declaration import BASICS


@takes_settings()
def train(
    output: Annotated[
        Path,
        typer.Option(
            "--output", "-o", metavar="RUN", help="Run folder to write.", show_default=False, rich_help_panel=BASICS
        ),
    ],
    given: Given,
    resume: Annotated[
        bool, typer.Option("--resume", metavar="", help="Resume the run in --output.", rich_help_panel=BASICS)
    ] = False,
    config: Config = None,
    set_: Set = None,
    json: Json = False,
) -> None:
    """Fine-tune a SAM on your images.

    The epoch with the best score on the validation images is kept. A first try on a GPU:

        convlora train DATA --model facebook/sam-vit-base --image-size 512 --output RUN
    """
    settings = settings_of(config, given, resumed=output if resume else None)
    settings.override(set_ or [])
    check(settings, given)
    # Everything heavy is imported here, so that --help and wrong settings are answered at once.
    with loading_libraries():
        from accelerate import PartialState

        from convlora.api.train import train as train_run
        from convlora.cli.progress import RunProgress

    with RunProgress() as progress:
        metrics = train_run(None, output, config=settings, resume=resume, reporter=progress)
    if not PartialState().is_main_process:
        return
    if json:
        print_json(metrics)
    else:
        _show(metrics, output)


def _show(metrics: dict[str, Any], output: Path) -> None:
    from convlora.cli.tables import classes_table, facts_table, scores_table, volumes_table
    from convlora.metrics.labels import SCORE_LABELS

    params = metrics["params"]
    seconds = metrics["seconds_per_step"]
    splits = {split: metrics[split] for split in ("val", "test") if metrics.get(split)}
    if metrics.get("folds"):
        named = {"val": "held out", "test": "test, all folds"}
        title = f"Scores of {metrics['folds']} folds"
        out.print(scores_table({named[split]: scores for split, scores in splits.items()}, title=title))
        found = metrics["interval"]["val"]
        score = SCORE_LABELS.get(found["score"], found["score"])
        out.print(f"{score}, held out: {found['mean']:.4f}, 95% interval {found['low']:.4f} to {found['high']:.4f}")
    elif splits:
        which = "best" if "val" in splits else "last"
        out.print(scores_table(splits, title=f"Scores of the {which} epoch ({metrics['best_epoch']})"))
    else:
        out.print("There are no scores, because all images were trained on.")
    last: dict[str, Any] = next(reversed(splits.values()), {})
    if "per_class" in last:
        out.print(classes_table(last["per_class"]))
    if "volumes" in last:
        out.print(volumes_table(last["volumes"]))
    out.print(
        facts_table(
            {
                "parameters trained": f"{params['trainable']:,} of {params['total']:,} "
                f"({100 * params['trainable'] / params['total']:.2f}%)",
                "time per step": "no step was made" if seconds is None else f"{seconds:.3g} s",
                "peak memory": f"{metrics['peak_memory_mb']:,.0f} MB",
                "run folder": output,
                **({"look at": output / "report.html"} if (output / "report.html").is_file() else {}),
            }
        )
    )
    what = "VOLUME_OR_FOLDER --output DIR" if "volumes" in last else "IMAGE_OR_FOLDER --output DIR --overlay"
    out.print(f"Next: convlora predict {output} {what}", markup=False, soft_wrap=True)
