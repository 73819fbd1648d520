"""What runs are called where several are served."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from convlora.errors import InputError, printable
from convlora.runs.hub import hub_run, is_on_hub, resolve_run


def name_runs(folders: Sequence[Path]) -> dict[str, Path]:
    """Names runs by their folders, with as many of the folders above them as tell all apart.

    Args:
        folders: The run folders, or `hf:USER/NAME[@REVISION]` of runs on the Hub, which are downloaded.

    Returns:
        The folders by name, in the order given: `RUN`, or `conv-lora/seed-0` beside `lora/seed-0`.

    Raises:
        InputError: If a folder is given twice.
    """
    places = [_place(folder) for folder in folders]
    for place in places:
        if places.count(place) > 1:
            raise InputError(f"{place} is given twice. Name each run once.")
    most = max(len(place.parts) for place in places)
    for length in range(1, most + 1):
        names = [printable("/".join(place.parts[-length:])).lstrip("/") or "run" for place in places]
        if len(set(names)) == len(names):
            return dict(zip(names, map(resolve_run, folders)))
    raise InputError("The names of these run folders cannot be told apart. Rename one of them.")


def _place(folder: Path) -> Path:
    return Path(str(hub_run(folder))) if is_on_hub(folder) else folder.resolve()
