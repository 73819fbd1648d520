"""The cache of a run: the frozen blocks below `--adapt-last` see each image once."""

from __future__ import annotations

import contextlib
import re
import shutil
from collections.abc import Callable
from pathlib import Path

from transformers.models.sam.modeling_sam import SamVisionEncoder

from convlora.data.augmentation import VERSIONS
from convlora.errors import InputError
from convlora.links import below, is_plain_file
from convlora.models.bands import trained_inputs
from convlora.models.frozen_blocks import FrozenBlockCache
from convlora.models.semantic_segmenter import SemanticSegmenter
from convlora.storage import make_folder

FOLDER = "cache"
_ENTRY = re.compile(r"[0-9a-f]{16}/[^/]+/[^/]+\.safetensors")


def start_cache(
    model: SemanticSegmenter,
    output: Path,
    *,
    augmentation: str,
    train_images: int,
    val_images: int,
    tell: Callable[[str], None],
    clear: bool = True,
) -> None:
    """Makes a segmenter keep what its frozen blocks make of each image, in a folder of the run.

    Args:
        model: The segmenter; what is trained must be settled.
        output: The run folder.
        augmentation: Augmentation of the training images. Where it makes each image different every time, only
            validation images are kept.
        train_images: Number of training images.
        val_images: Number of validation images.
        tell: Receives a sentence about it.
        clear: Whether to delete what there is of other weights; of several processes one alone may.

    Raises:
        InputError: If nothing is frozen, or the disk is too small.
    """
    if not isinstance(model.vision_encoder, SamVisionEncoder):
        raise InputError(
            "--cache is for the vision encoder of the first SAM and SAM-HQ, and for methods that do not change it as a "
            "whole. Leave it out."
        )
    versions = VERSIONS[augmentation]
    root = output / FOLDER
    early = getattr(model, "early_block", None)
    cache = FrozenBlockCache(model.vision_encoder, root, training_images=versions is not None, tell=tell, early=early)
    if cache.blocks == 0 and trained_inputs(model.vision_encoder):
        raise InputError(
            "--cache keeps what frozen blocks make of an image, but with model.bands above 3 the inputs before them "
            "are trained. Leave it out, or train on three bands: data.bands picks them."
        )
    if cache.blocks == 0:
        raise InputError("--cache needs frozen blocks, but all are adapted. Add --adapt-last N, or leave --cache out.")
    height, width = model.config.grid_size
    maps = 1 if cache.early is None else 2
    needed = maps * height * width * model.config.encoder_width * 4 * (val_images + train_images * (versions or 0))
    if clear:
        for other in _entries(root):
            if other.parent.parent != cache.folder:  # of other weights: never to be read again
                other.unlink(missing_ok=True)
    there = sum(_size(entry) for entry in _entries(root))
    free = shutil.disk_usage(make_folder(root)).free
    if needed - there > 0.9 * free:
        raise InputError(
            f"--cache needs {(needed - there) / 1e9:.1f} GB in {root}, but {free / 1e9:.1f} GB are free there. Turn it "
            "off with --no-cache, or make room."
        )
    kept = "images" if versions is not None else "validation images (the augmentation makes training images differ)"
    tell(f"Cache: {kept} pass the first {cache.blocks} blocks once; up to {needed / 1e9:.2g} GB in {root}.")
    model.frozen_block_cache = cache


def end_cache(output: Path) -> None:
    """Deletes the cache of a run, also one of an earlier start. For one process, when no other reads it any more."""
    root = output / FOLDER
    for entry in _entries(root):
        entry.unlink(missing_ok=True)
    for folder in [*reversed([path for path in below(root) if not is_plain_file(path)]), root]:
        with contextlib.suppress(OSError):  # what is not ours stays
            folder.rmdir()


def _entries(root: Path) -> list[Path]:
    """The files of a cache, and nothing else that may lie in its folder or that a link in it leads to."""
    return [path for path in below(root) if _ENTRY.fullmatch(path.relative_to(root).as_posix()) and is_plain_file(path)]


def _size(entry: Path) -> int:
    try:
        return entry.stat().st_size
    except FileNotFoundError:  # another process has just deleted it
        return 0
