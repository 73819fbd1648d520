"""Training images kept on disk as the model takes them, so that later epochs need not decode them again."""

from __future__ import annotations

import contextlib
import os
import re
from pathlib import Path

import numpy as np
import torch

from convlora.links import below, is_plain_file
from convlora.ordinary import open_ordinary

_ENTRY = re.compile(r"\d+\.npy(\.\d+)?")


class KeptImages:
    """A folder with the images and labels of a data set at the model's size, a file for each.

    Any number of processes may read and write it at once. What cannot be written, or is damaged or gone, is decoded
    again. Files that were read lately stay in memory if the system has room, once for all processes.

    Args:
        folder: Where they are. Without it nothing is kept.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def read(self, index: int) -> tuple[torch.Tensor, torch.Tensor] | None:
        """What was kept of an image: pixels `(C, h, w)` and labels `(h, w)`; None if nothing was.

        Args:
            index: Index of the image in the data set.
        """
        try:
            with open_ordinary(self._place(index)) as file:
                pixels, labels = (np.load(file, allow_pickle=False) for _ in range(2))
        except (OSError, ValueError, EOFError):
            return None
        return torch.from_numpy(pixels), torch.from_numpy(labels)

    def keep(self, index: int, pixels: torch.Tensor, labels: torch.Tensor) -> None:
        """Keeps an image, if there is room."""
        place = self._place(index)
        temporary = place.with_name(f"{place.name}.{os.getpid()}")
        try:
            with temporary.open("wb") as file:
                np.save(file, pixels.numpy())
                np.save(file, labels.numpy())
            temporary.replace(place)  # others see it whole or not at all
        except OSError:
            with contextlib.suppress(OSError):
                temporary.unlink()

    def _place(self, index: int) -> Path:
        return self.folder / f"{index}.npy"

    def clear(self) -> None:
        """Deletes the folder, if nothing else lies in it."""
        for path in below(self.folder):
            if path.parent == self.folder and _ENTRY.fullmatch(path.name) and is_plain_file(path):
                path.unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # what is not ours stays
            self.folder.rmdir()
