"""The cache of a run: the frozen blocks below `--adapt-last` see each image once."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

from convlora.data.transforms import VERSIONS
from convlora.errors import InputError
from convlora.models import SamForSemanticSegmentation
from convlora.models.frozen_blocks import FrozenBlockCache
from convlora.storage import make_folder

FOLDER = "cache"


def start_cache(
    model: SamForSemanticSegmentation,
    output: Path,
    *,
    augmentation: str,
    train_images: int,
    val_images: int,
    tell: Callable[[str], None],
) -> None:
    """Makes a segmenter keep what its frozen blocks make of each image, in a folder of the run.

    Args:
        model: The segmenter; what is trained must be settled.
        output: The run folder.
        augmentation: Of the training images. Where it makes each image different every time, only validation images
            are kept.
        train_images: Number of training images.
        val_images: Number of validation images.
        tell: Receives a sentence about it.

    Raises:
        InputError: If nothing is frozen, or the disk is too small.
    """
    versions = VERSIONS[augmentation]
    cache = FrozenBlockCache(model.vision_encoder, output / FOLDER, training_images=versions is not None)
    if cache.blocks == 0:
        raise InputError("--cache needs frozen blocks, but all are adapted. Add --adapt-last N, or leave --cache out.")
    height, width = model.config.grid_size
    needed = height * width * model.config.vision_config.hidden_size * 4 * (val_images + train_images * (versions or 0))
    free = shutil.disk_usage(make_folder(output)).free
    if needed > 0.9 * free:
        raise InputError(
            f"--cache needs {needed / 1e9:.1f} GB in {output}, but {free / 1e9:.1f} GB are free there. Leave it out, "
            "choose another --output, or lower --image-size."
        )
    kept = "images" if versions is not None else "validation images (the augmentation makes training images differ)"
    tell(f"Cache: {kept} pass the first {cache.blocks} blocks once; up to {needed / 1e9:.2g} GB in {cache.root}.")
    model.frozen_block_cache = cache


def end_cache(model: SamForSemanticSegmentation) -> None:
    """Deletes the cache, if there is one, and lets the model run as usual."""
    if model.frozen_block_cache is not None:
        model.frozen_block_cache.clear()
        model.frozen_block_cache = None
