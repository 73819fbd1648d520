"""Converting data sets of other tools."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from convlora.converting.convert import convert, summary
from convlora.converting.options import Options
from convlora.reporting import Logged, Reporter


def convert_data(
    source: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    format: str = "auto",
    suffix: str | None = None,
    threshold: int | None = None,
    instances: str | None = None,
    split: str = "auto",
    seed: int = 0,
    reporter: Reporter | None = None,
) -> dict[str, Any]:
    """Writes a data set of a labelling tool or another trainer as a data folder, as `convlora data convert` does.

    Args:
        source: Your data: a folder, a file of annotations, or a zip archive of either.
        output: The folder to write. It must not exist, or be empty.
        format: Name of the format. `"auto"`: it is recognised.
        suffix: What masks have behind the names of their images, such as `"_mask"`, where both lie side by side.
            None: one of the usual ones.
        threshold: For masks that are pictures (soft edges, JPEG): the grey value, 1 to 255, from which on a pixel is
            foreground. None: masks hold classes.
        instances: What numbered objects become: `"foreground"`, or `"border"` for the classes inside and border. None:
            foreground.
        split: `"auto"`: data without splits are divided 70/15/15, and a missing val or test is cut from train;
            `"none"`: nothing is divided; or shares such as `"80/10/10"`.
        seed: Decides which image goes where.
        reporter: Receives progress; default: it is logged.

    Returns:
        `data`: the folder; `format`; `counts` by split; `classes`; `class_shares`: the share of the pixels of each
        class; `notes` and `problems`: what was decided and what was left out; `page`: the page of overlays.

    Raises:
        InputError: If the format is not recognised, nothing can be used, or the output is not empty. Single files that
            cannot be used are left out and listed.
    """
    reporter = Logged() if reporter is None else reporter
    options = Options.checked(format, suffix, threshold, instances, split, seed)
    made = convert(os.fspath(source), Path(output), options, lambda items, text: iter(reporter.track(items, text)))
    return summary(made)
