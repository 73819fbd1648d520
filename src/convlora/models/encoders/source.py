"""What lies beside the weights of a vision encoder."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any

from transformers.utils import cached_file

from convlora.errors import InputError
from convlora.untrusted import UnreadableError, read_json

_FILE = "preprocessor_config.json"
_SMALLEST_STD = 1e-4
_HUB = ("revision", "token", "cache_dir", "local_files_only", "subfolder")


def read_normalisation(source: str | os.PathLike[str], kwargs: dict[str, Any]) -> dict[str, list[float]]:
    """Mean and deviation of the pixels that an encoder expects, as far as the file beside it says so.

    Args:
        source: Folder or Hub id.
        kwargs: Arguments of `from_pretrained`; those for the Hub are used.

    Returns:
        `image_mean` and `image_std` of [`EncoderSegmentationConfig`], or nothing.

    Raises:
        InputError: If the file is damaged.
    """
    hub = {key: kwargs[key] for key in _HUB if key in kwargs}
    try:  # a file that is not there means the default, one that cannot be reached does not
        place = cached_file(source, _FILE, **hub, _raise_exceptions_for_missing_entries=False)
    except OSError as error:
        raise InputError(
            f"{_FILE} of '{source}' cannot be read from the Hugging Face Hub. Check the connection, or download the "
            "model and give its folder."
        ) from error
    if place is None:
        return {}
    try:
        told = read_json(Path(place), 1 << 20)
        found = {key: [float(one) for one in told[key]] for key in ("image_mean", "image_std") if told.get(key)}
        if any(len(values) != 3 or not all(map(math.isfinite, values)) for values in found.values()):
            raise ValueError("image_mean and image_std must be three numbers each")
        if min(found.get("image_std", [1.0])) < _SMALLEST_STD:
            raise ValueError("a standard deviation is not above zero")
    except (OSError, UnreadableError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise InputError(f"{_FILE} of '{source}' is damaged ({error}). Download it again, or remove it.") from error
    return found
