"""`convlora inspect`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from convlora.cli.console import loading_libraries, out, print_json
from convlora.cli.options import Device, Json, MovedModel
from convlora.errors import InputError


def inspect(
    what: Annotated[
        str,
        typer.Argument(
            metavar="RUN_OR_MODEL",
            help="Run folder or hf:USER/NAME, or a model as for 'train --model'.",
            show_default=False,
        ),
    ],
    data: Annotated[
        str | None,
        typer.Argument(
            metavar="[DATA]",
            help="Data set, as for training: write a page about what the adapters of the run do on its test images.",
            show_default=False,
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="Folder for the page. [dim]\\[default: the run folder][/dim]", show_default=False
        ),
    ] = None,
    images: Annotated[
        int | None,
        typer.Option(metavar="N", min=1, help="Images to look at. [dim]\\[default: 8][/dim]", show_default=False),
    ] = None,
    model: MovedModel = None,
    device: Device = "auto",
    json: Json = False,
) -> None:
    """Show what a run or a model is made of, or write a page about what the adapters of a run do.

    With DATA it writes inspect.html, which compares the encoder with and without its adapters on a few images: how far
    its heads look, which scales the gates choose, how large the updates are, which pixels a cell depends on, and what
    the detail branch adds.
    """
    if data is not None:
        _write_page(what, data, output, images, model, device, json)
        return
    given = {"--output": output, "--images": images, "--model": model, "--device": None if device == "auto" else device}
    for option, value in given.items():
        if value is not None:
            raise InputError(
                f"{option} has an effect only with data, on which a page is made: convlora inspect RUN DATA {option} "
                f"{value}. Name the data, or leave it out."
            )
    with loading_libraries():
        from convlora.cli.tables import facts_table, scores_table
        from convlora.runs.hub import is_on_hub, resolve_run

    path = resolve_run(what)
    facts, scores = (
        _run_facts(path) if is_on_hub(what) or (path / "config.yaml").is_file() else (_model_facts(what), {})
    )
    if json:
        print_json({**facts, **scores})
        return
    rows: dict[str, Any] = {}
    for name, value in facts.items():
        if isinstance(value, dict):
            rows |= {f"{name}, {key}".replace("_", " "): entry for key, entry in value.items()}
        else:
            rows[name.replace("_", " ")] = ", ".join(map(str, value)) if isinstance(value, list) else value
    out.print(facts_table(rows, title=what))
    if scores:
        out.print(scores_table(scores))


def _write_page(
    run: str, data: str, output: Path | None, images: int | None, model: str | None, device: str, json: bool
) -> None:
    with loading_libraries():
        from convlora.api.inspect_run import IMAGES, inspect_run
        from convlora.cli.progress import RunProgress

    with RunProgress() as progress:
        found = inspect_run(
            run,
            data,
            output=output,
            images=IMAGES if images is None else images,
            model=model,
            device=device,
            reporter=progress,
        )
    if json:
        print_json(found)
    else:
        out.print(f"Look at {found['page']}", markup=False, soft_wrap=True)


def _run_facts(run: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    from convlora.runs.folds import folds_in
    from convlora.runs.reading import imported_from, read_classes, read_metrics, read_settings

    settings = read_settings(run)
    facts: dict[str, Any] = {
        "kind": "run",
        "model": settings["model"]["source"],
        "image_size": settings["model"]["image_size"],
        **({} if settings["data"].get("window") is None else {"window": settings["data"]["window"]}),
        "method": settings["method"],
        "classes": list(read_classes(run).names),
        "data": settings["data"]["path"],
    }
    folds = folds_in(settings)
    if folds is not None:
        facts["folds"] = folds
    metrics = read_metrics(run)
    if metrics is None:
        return {**facts, "state": "unfinished; go on with --resume"}, {}
    software = imported_from(metrics)
    facts |= {
        "state": "finished" if software is None else f"trained by {software}, imported",
        "steps": metrics["steps"],
        "best_epoch": metrics["best_epoch"],
        "parameters": metrics["params"],
        "seconds_per_step": metrics["seconds_per_step"],
        "peak_memory_mb": metrics["peak_memory_mb"],
    }
    return facts, {split: metrics[split] for split in ("val", "test") if metrics.get(split)}


def _model_facts(source: str) -> dict[str, Any]:
    from convlora.models.configuration import as_size
    from convlora.models.loading import load_segmenter

    model = load_segmenter(source)
    facts = model.encoder_facts()
    parts = {name: sum(p.numel() for p in part.parameters()) for name, part in model.named_children()}
    return {
        "kind": facts.pop("kind"),
        "image_size": list(as_size(model.config.image_size)),
        "vision_encoder": facts,
        "number_format": str(model.dtype).removeprefix("torch."),
        "parameters": {"total": sum(p.numel() for p in model.parameters()), **parts},
    }
