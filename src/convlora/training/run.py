"""A training run from settings to run folder."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

from transformers import set_seed

from convlora.reporting import Reporter
from convlora.runs.hub import refuse_on_hub
from convlora.training.bands import settle_bands
from convlora.training.beginning import keep_own_sam, tell_beginning
from convlora.training.config import RunConfig
from convlora.training.context import Context
from convlora.training.defaults import settle_choices, settle_epochs
from convlora.training.earlier import find_earlier, settle_tokens
from convlora.training.finish import finish
from convlora.training.fit import Fit, Interrupted
from convlora.training.folder import find_checkpoint, write_settings
from convlora.training.images import check_resumed_images, choose_images
from convlora.training.keeping import keeping_images
from convlora.training.model import make_model
from convlora.training.task import settle_task
from convlora.training.windows import cut_windows

__all__ = ["Interrupted", "train"]


def train(config: RunConfig, output: Path, *, resume: bool = False, reporter: Reporter | None = None) -> dict[str, Any]:
    """Fine-tunes a SAM and writes a run folder.

    Args:
        config: Settings, which stay as they are. What they leave open is filled in, in `config.yaml`.
        output: The run folder; must not hold a run yet unless it is resumed.
        resume: Resume from the last checkpoint in `output`.
        reporter: Receives progress and messages; None: nothing does.

    Returns:
        The contents of `metrics.json`.

    Raises:
        InputError: If settings or data are wrong.
        Interrupted: If the user stopped it; a checkpoint was saved.
    """
    refuse_on_hub(output, "convlora train")
    config = copy.deepcopy(config)
    earlier = find_earlier(config, output, resume=resume)
    run = Context.begin(config, output, reporter)
    with run.alone():
        find_checkpoint(run, resume=resume)
        images = choose_images(run)
        settle_bands(run.config, images.train, run.reporter.message)
        tokens = None if earlier is None else settle_tokens(run.config, earlier, images.classes.num_classes)
        settle_choices(run.config)
        cut_windows(run.config, images, run.reporter.message)
        settle_epochs(run.config, images.items, run.reporter.message)
        both = [*images.train, *images.val]
        settle_task(run.config, images.classes, both, run.reporter.message, images.data.values, tokens)
        check_resumed_images(run, images)
        set_seed(run.config.training.seed)
        model, sam, carried = make_model(run, images, earlier)
        if earlier is not None and carried is not None:
            tell_beginning(run, images, earlier, carried)
        with keeping_images(run, images) as kept:
            fit = Fit(run, images, model, kept)
            if earlier is not None:
                keep_own_sam(run, earlier)
            write_settings(run, images, sam, None if carried is None else carried.to_dict())
            fit.train()
        return finish(run, fit, images)
