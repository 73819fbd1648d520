"""What a run that begins with the weights of another one tells about it, and keeps of it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from convlora.errors import shown
from convlora.runs.hub import is_on_hub
from convlora.runs.reading import OWN_SAM
from convlora.training.carrying import Carried
from convlora.training.config import RunConfig
from convlora.training.context import Context
from convlora.training.earlier import Earlier, copy_own_sam, has_own_sam
from convlora.training.images import Images
from convlora.training.origin import described, trained_on

_MOST_LINKS = 1000


def tell_beginning(run: Context, images: Images, earlier: Earlier, carried: Carried) -> None:
    """Says what was kept and what starts fresh, and which images make the scores too good."""
    for sentence in carried.sentences():
        run.reporter.message(sentence)
    seen = _seen(earlier)
    for what, samples in (("validation", images.val), ("test", images.test)):
        known = [sample for sample in samples if tuple(described(sample)[:2]) in seen]
        if known:
            are = "images were" if len(known) > 1 else "image was"
            run.reporter.message(
                f"Warning: {len(known)} {what} {are} trained on before, such as {shown(known[0].name)}, so the score "
                "will be too good. Keep images in val/ and test/ that no run trains on."
            )


def keep_own_sam(run: Context, earlier: Earlier) -> None:
    """Makes a run independent of the folder of the earlier one, if that holds the SAM."""
    source = str(run.config.model.source)
    if not has_own_sam(earlier, source):
        return
    if run.is_main:
        copy_own_sam(earlier, run.output)
    run.process.wait_for_everyone()
    run.config.model.source = str(Path(os.path.realpath(run.output)) / OWN_SAM)


def _seen(earlier: Earlier) -> set[tuple[Any, ...]]:
    """Names and sizes of the images that the earlier run, and those it began with, have trained on."""
    seen = trained_on(earlier.folder)
    name, places = earlier.config.model.from_run, {os.path.realpath(earlier.folder)}
    while name is not None and not is_on_hub(name) and len(places) < _MOST_LINKS:
        folder = Path(name)
        if not folder.is_absolute():  # the run was made on another machine
            break
        if os.path.realpath(folder) in places or not (folder / "config.yaml").is_file():
            break
        places.add(os.path.realpath(folder))
        seen |= trained_on(folder)
        try:
            name = RunConfig.load(folder / "config.yaml").model.from_run
        except ValueError:
            break
    return seen
