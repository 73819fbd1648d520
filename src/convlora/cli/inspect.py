"""`convlora inspect`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from convlora.cli.console import loading_libraries, out, print_json
from convlora.cli.options import Json


def inspect(
    what: Annotated[
        str,
        typer.Argument(
            metavar="RUN_OR_MODEL",
            help="Run folder or hf:USER/NAME, or a model as for 'train --model'.",
            show_default=False,
        ),
    ],
    json: Json = False,
) -> None:
    """Show what a run or a model is made of."""
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
