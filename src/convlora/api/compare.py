"""Comparing methods on the same data."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from convlora.api.settings import by_section, check, settings_of
from convlora.comparison.page import write_page
from convlora.comparison.plan import make_plan
from convlora.comparison.run import run_plan
from convlora.comparison.summary import sum_up
from convlora.errors import InputError
from convlora.methods.registry import METHODS
from convlora.models.bundled import absolute
from convlora.reporting import Logged, Reporter
from convlora.training.config import RunConfig

DEFAULT_METHODS = "unet,decoder,lora,conv-lora"


def compare(
    data: str | os.PathLike[str] | None,
    output: str | os.PathLike[str],
    *,
    methods: str | Sequence[str] = DEFAULT_METHODS,
    seeds: int = 3,
    train_fraction: float | Sequence[float] = 1.0,
    lr_search: Sequence[float] = (),
    config: RunConfig | str | os.PathLike[str] | None = None,
    reporter: Reporter | None = None,
    **settings: Any,
) -> dict[str, Any]:
    """Trains several methods on the same data and compares them, as `convlora compare` does.

        convlora.compare("DATA", "COMPARISON", methods=["unet", "lora", "conv-lora"], model="tiny", epochs=12)

    Call it again to resume: finished runs are not trained again. Each run is trained in a process of its own.

    Args:
        data: Your data set, as for [`train`][convlora.train].
        output: The folder to write: `compare.html`, `compare.json`, `compare.csv`, and the runs in `runs`.
        methods: Names of methods, in a list or with commas between them. Options follow after colons:
            `"conv-lora:top_k=2"`. `"all"`: every method.
        seeds: Runs of each method, with the seeds 0, 1, 2, ...
        train_fraction: Shares of the training images to train on.
        lr_search: Learning rates to try for each method. The best one on the validation images is taken.
        config: Settings to start from, as for [`train`][convlora.train].
        reporter: Receives messages; default: they are logged.
        **settings: Settings of all runs, as for [`train`][convlora.train].

    Returns:
        `output`, and the contents of `compare.json`: `rows` with the scores of each method, `verdict` and more.

    Raises:
        InputError: If settings, methods or data are wrong, or `output` holds another comparison.
        RunError: If a run failed or was interrupted.
        TypeError: If there is no such setting.
    """
    output, reporter = Path(output), Logged() if reporter is None else reporter
    given = by_section("compare", settings)
    if data is not None:
        given.setdefault("data", {})["path"] = os.fspath(data)
    base = settings_of(config, given)
    check(base, given)
    if base.data.path is None:
        raise InputError("No data are named. Give a data set: convlora compare DATA --output DIR.")
    base.data.path, base.model.source = absolute(base.data.path), absolute(base.model.source)
    fractions = [train_fraction] if isinstance(train_fraction, (int, float)) else train_fraction
    plan = make_plan(_names(methods), seeds, fractions, lr_search, base)
    runs = run_plan(plan, output, say=reporter.message)
    summary = sum_up(plan, runs, output)
    write_page(summary, runs, output)
    return {"output": str(output), **summary}


def _names(methods: str | Sequence[str]) -> list[str]:
    """Parts between commas, but not those inside brackets: `a:x=[1,2],b`."""
    if not isinstance(methods, str):
        return list(methods)
    if methods.strip() == "all":
        return list(METHODS)
    parts, depth = [""], 0
    for sign in methods:
        depth += (sign == "[") - (sign == "]")
        if sign == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += sign
    return parts
