"""Training on windows of the images: how they are cut, and how many make an epoch."""

from __future__ import annotations

from collections.abc import Callable

from convlora.data.windows import Windows
from convlora.inference.windows import Tiles
from convlora.models.configuration import as_size
from convlora.training.bands import config_reading
from convlora.training.config import RunConfig
from convlora.training.images import Images


def cut_windows(config: RunConfig, images: Images, tell: Callable[[str], None]) -> None:
    """Decides how many windows of the training images make an epoch: as many as tile them.

    Args:
        config: Settings of the run.
        images: Images of the run; their windows are filled in.
        tell: Receives a sentence about it.

    Raises:
        InputError: If the size of an image cannot be read.
    """
    tiles = Tiles.of_run(config.data.window)
    if tiles is None:
        return
    seen = as_size(config.model.image_size)
    height, width = window = tiles.window(seen)
    images.tiles, images.windows = tiles, Windows.over(images.train, window, config_reading(config))
    count, trained_on = len(images.windows), len(images.train)
    are = f"{count:,} windows" if count > 1 else "1 window"
    resized = "" if seen == window else f", which the model sees at {seen[0]} x {seen[1]}"
    once = f"the {trained_on:,} training images" if trained_on > 1 else "the training image"
    tell(f"An epoch is {are} of {height} x {width} pixels{resized}: as many as cover {once} once.")
