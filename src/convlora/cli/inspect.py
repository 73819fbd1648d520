"""`convlora inspect`."""

from __future__ import annotations

import json as json_module
from pathlib import Path
from typing import Annotated, Any

import typer

from convlora.cli.console import out, print_json, quiet_libraries
from convlora.cli.options import Json


def inspect(
    what: Annotated[
        str,
        typer.Argument(metavar="RUN_OR_MODEL", help="Run folder, or a SAM as for 'train --model'.", show_default=False),
    ],
    json: Json = False,
) -> None:
    """Show what a run or a model is made of."""
    quiet_libraries()
    from convlora.cli.tables import facts_table, scores_table

    path = Path(what)
    if (path / "config.yaml").is_file():
        facts, scores = _run_facts(path)
    else:
        facts, scores = _model_facts(what), {}
    if json:
        print_json({**facts, **scores})
        return
    out.print(facts_table(facts, title=what))
    if scores:
        out.print(scores_table(scores))


def _run_facts(run: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    from convlora.inference.segmenter import read_run

    settings = read_run(run)
    method = dict(settings["method"])
    facts: dict[str, Any] = {
        "kind": "run",
        "model": settings["model"]["source"],
        "image size": settings["model"]["image_size"],
        "method": method.pop("name"),
        **{f"  {key}": value for key, value in method.items()},
        "classes": ", ".join(json_module.loads((run / "classes.json").read_text(encoding="utf-8"))["classes"]),
        "data": settings["data"]["path"],
    }
    if not (run / "metrics.json").is_file():
        return {**facts, "state": "unfinished; go on with --resume"}, {}
    metrics = json_module.loads((run / "metrics.json").read_text(encoding="utf-8"))
    facts |= {
        "state": f"finished, {metrics['steps']} steps, best epoch {metrics['best_epoch']}",
        "parameters": metrics["params"]["total"],
        "parameters trained": metrics["params"]["trainable"],
        "seconds per step": metrics["seconds_per_step"],
        "peak memory (MB)": round(metrics["peak_memory_mb"], 1),
    }
    return facts, {split: metrics[split] for split in ("val", "test") if metrics.get(split)}


def _model_facts(source: str) -> dict[str, Any]:
    from convlora.models import SamForSemanticSegmentation
    from convlora.models.configuration import as_size

    model = SamForSemanticSegmentation.from_pretrained(source)
    vision = model.config.vision_config
    height, width = as_size(model.config.image_size)
    facts: dict[str, Any] = {
        "kind": "SAM",
        "image size": height if height == width else [height, width],
        "vision encoder": f"{vision.num_hidden_layers} blocks of width {vision.hidden_size}, "
        f"{vision.num_attention_heads} heads, windows of {vision.window_size} cells",
        "blocks with global attention": ", ".join(str(index) for index in vision.global_attn_indexes),
        "number format": str(model.dtype).removeprefix("torch."),
    }
    for name, part in model.named_children():
        facts[f"parameters, {name.replace('_', ' ')}"] = sum(p.numel() for p in part.parameters())
    facts["parameters"] = sum(p.numel() for p in model.parameters())
    return facts
