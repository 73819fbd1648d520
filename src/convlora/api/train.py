"""Training a run."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from convlora.api.settings import by_section, check, settings_of
from convlora.errors import InputError
from convlora.folds.run import cross_validate
from convlora.reporting import Logged, Reporter
from convlora.training.config import RunConfig
from convlora.training.run import train as train_run


def train(
    data: str | os.PathLike[str] | None,
    output: str | os.PathLike[str],
    *,
    config: RunConfig | str | os.PathLike[str] | None = None,
    resume: bool = False,
    reporter: Reporter | None = None,
    **settings: Any,
) -> dict[str, Any]:
    """Fine-tunes a SAM on your images and writes a run folder, as `convlora train` does.

        convlora.train("DATA", "RUN", model="facebook/sam-vit-base", image_size=512, epochs=30)

    Args:
        data: Your data set: a folder, a CSV file, COCO annotations or a Hugging Face data set. None: the one that
            `config` names.
        output: The run folder to write.
        config: Settings to start from: a `RunConfig`, which stays as it is, a YAML file such as the `config.yaml` of a
            run, or `"recipe:NAME"`. None: the defaults, or those of the run that is resumed.
        resume: Resume the run in `output` from its last checkpoint.
        reporter: Receives progress and messages; default: they are logged.
        **settings: Any setting, by the name of its option (`model`, `method`, `lr`, `batch_size`) or by its name in
            `config.yaml` (`workers`), and the options of the method (`r`). `docs/settings.md` lists all of them.

    Returns:
        `run`, and the contents of `RUN/metrics.json`: the scores of the best epoch on the validation images (`val`) and
        on the test images (`test`), `history`, `params`, `seconds_per_step` and more. With `folds`, `val` are those of
        all images, each segmented by the fold that did not see it, and `test` those of the mean of all folds.

    Raises:
        InputError: If settings or data are wrong.
        RunError: If training failed or was interrupted. It can be resumed if a checkpoint was saved.
        TypeError: If there is no such setting.
    """
    output = Path(output)
    given = by_section("train", settings)
    if data is not None:
        given.setdefault("data", {})["path"] = os.fspath(data)
    whole = settings_of(config, given, resumed=output if resume else None)
    check(whole, given)
    if resume and whole.data.path is None:
        raise InputError(
            f"There is no run in {output} to resume. Check --output, or name data to begin one: convlora train DATA "
            f"--output {output}."
        )
    reporter = Logged() if reporter is None else reporter
    run = train_run if whole.data.folds is None or whole.data.fold is not None else cross_validate
    metrics = run(whole, output, resume=resume, reporter=reporter)
    return {"run": str(output), **metrics}
