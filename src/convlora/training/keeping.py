"""The images that a run keeps decoded while it trains, see `data.cache`."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager

from convlora.data.kept import KeptImages
from convlora.errors import InputError
from convlora.models.configuration import as_size
from convlora.storage import make_folder
from convlora.training.context import Context
from convlora.training.images import Images

FOLDER = "decoded"


@contextmanager
def keeping_images(run: Context, images: Images) -> Iterator[KeptImages | None]:
    """Makes room for the training images of a run in its folder, and deletes them at the end.

    What an earlier start has left is deleted first: the images may have changed since.

    Yields:
        Where they are kept; None if they are not.

    Raises:
        InputError: If the disk is too small.
    """
    kept = KeptImages(run.output / FOLDER)
    if run.is_main:
        kept.clear()
    if not run.config.data.cache:
        yield None
        return
    if run.is_main:
        _check_room(run, images, kept)
        make_folder(kept.folder)
    run.process.wait_for_everyone()
    try:
        yield kept
    finally:
        if run.is_main:
            kept.clear()


def _check_room(run: Context, images: Images, kept: KeptImages) -> None:
    height, width = as_size(run.config.model.image_size)
    channels, bytes_of_label = run.config.model.bands or 3, 1 if images.classes.num_classes <= 255 else 4
    needed = len(images.train) * height * width * (channels + bytes_of_label)
    free = shutil.disk_usage(run.output).free
    if needed > 0.9 * free:
        raise InputError(
            f"data.cache needs {needed / 1e9:.1f} GB in {kept.folder}, but {free / 1e9:.1f} GB are free there. "
            "Leave it out, or make room."
        )
    run.reporter.message(
        f"Images are decoded once and kept in {kept.folder} while training, up to {needed / 1e9:.2g} GB."
    )
