"""What lies beside the weights of a vision encoder."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from transformers.utils import cached_file

from convlora.errors import InputError
from convlora.untrusted import UnreadableError, read_json

_FILE = "preprocessor_config.json"
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
    place = cached_file(
        source, _FILE, **hub, _raise_exceptions_for_missing_entries=False, _raise_exceptions_for_connection_errors=False
    )
    if place is None:
        return {}
    try:
        told = read_json(Path(place), 1 << 20)
        found = {key: [float(one) for one in told[key]] for key in ("image_mean", "image_std") if told.get(key)}
        if any(len(values) != 3 for values in found.values()) or not all(found.get("image_std", [1])):
            raise ValueError("image_mean and image_std must be three numbers each, and no deviation zero")
    except (OSError, UnreadableError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise InputError(f"{_FILE} of '{source}' is damaged ({error}). Download it again, or remove it.") from error
    return found
