"""What a run was trained on and from, so that `--resume` with other data or another SAM is noticed."""

from __future__ import annotations

import stat
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from convlora.data.reading.stored import ImageSource
from convlora.data.reading.volumes.slices import VolumeSlice
from convlora.data.sample import Sample
from convlora.errors import InputError, shown
from convlora.storage import write_json
from convlora.untrusted import read_json

SAMPLES = "samples.json"
BEGINNING = "from.json"
_LARGEST = 1 << 30  # bytes; a million samples take a tenth of it


def write_samples(output: Path, splits: Mapping[str, Sequence[Sample]]) -> None:
    """Writes down names and file sizes of the samples of a run, in their order."""
    write_json(output / SAMPLES, {split: _described(samples) for split, samples in splits.items()})


def check_samples(output: Path, splits: Mapping[str, Sequence[Sample]], tell: Callable[[str], None]) -> None:
    """Compares the samples of a resumed run with those it began with.

    Other files of the same names are spoken of only: a file that went bad may have been mended.

    Args:
        output: The run folder; if it has no list, of an older version, nothing is compared.
        splits: The samples now.
        tell: Receives sentences for the user.

    Raises:
        InputError: If there are others, or in another order: scores before and after could not be compared, and
            images of validation may have been trained on.
    """
    path = output / SAMPLES
    if not path.exists():
        return
    try:
        stored = read_json(path, _LARGEST)
        before = {split: [[name, image, mask] for name, image, mask in stored[split]] for split in splits}
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path} is damaged. Restore it, or start a new run with another --output.") from error
    now = {split: _described(samples) for split, samples in splits.items()}
    if _names(now) != _names(before):
        raise InputError(
            f"The run {output} cannot be resumed, because its images are no longer those it began with: "
            f"{_difference(_names(now), _names(before))}. Restore the data, or start a new run with another --output."
        )
    pairs = [pair for split, entries in now.items() for pair in zip(entries, before[split])]
    changed = [entry[0] for entry, old in pairs if _differs(entry, old)]
    if changed:
        others = f" and {len(changed) - 1} more have" if len(changed) > 1 else " has"
        tell(f"Warning: Image or mask of {changed[0]}{others} changed since the run began.")


def _names(samples: Mapping[str, Sequence[Sequence[Any]]]) -> dict[str, list[str]]:
    return {split: [str(entry[0]) for entry in entries] for split, entries in samples.items()}


def _difference(now: Mapping[str, list[str]], before: Mapping[str, list[str]]) -> str:
    names, earlier = ({name for split in one.values() for name in split} for one in (now, before))
    if new := names - earlier:
        return f"{shown(min(new))} is new" + (f", with {len(new) - 1} more" if len(new) > 1 else "")
    if gone := earlier - names:
        return f"{shown(min(gone))} is missing" + (f", with {len(gone) - 1} more" if len(gone) > 1 else "")
    return "their order, or what is trained on and what is held out, is another"


def write_beginning(output: Path, carried: Mapping[str, Any] | None) -> None:
    """Writes down what a new run has from an earlier one; without one, removes what a false start has left.

    Args:
        output: The run folder.
        carried: See [`Carried`][convlora.training.carrying.Carried].
    """
    if carried is None:
        (output / BEGINNING).unlink(missing_ok=True)
    else:
        write_json(output / BEGINNING, carried)


def read_beginning(output: Path) -> dict[str, Any] | None:
    """What a run has from an earlier one, as [`write_beginning`] wrote it; None: nothing, or it cannot be read."""
    try:
        found = read_json(output / BEGINNING, _LARGEST)
    except (OSError, ValueError):
        return None  # it only tells of the run
    return found if isinstance(found, dict) else None


def trained_on(run: Path) -> set[tuple[Any, ...]]:
    """Name and file size of each image that a run was trained on; none if it does not say.

    Args:
        run: The run folder.
    """
    try:
        return {(name, image) for name, image, _ in read_json(run / SAMPLES, _LARGEST)["train"]}
    except (OSError, KeyError, TypeError, ValueError):
        return set()


def described(sample: Sample) -> list[Any]:
    """Name of a sample, and the bytes of the files of its image and its mask; of a slice those of the volumes."""
    return [sample.name, _size(sample.image), _size(sample.mask)]


def _described(samples: Sequence[Sample]) -> list[list[Any]]:
    return [described(sample) for sample in samples]


def _size(source: ImageSource | None) -> int | None:
    """Bytes of a file, or of the files of a DICOM series; None of what lies in something larger."""
    place = source.stored.path if isinstance(source, VolumeSlice) else source
    if not isinstance(place, Path):
        return None
    try:
        state = place.stat()
        return _size_of_folder(place, state.st_mtime_ns) if stat.S_ISDIR(state.st_mode) else state.st_size
    except OSError:
        return None  # the reader reports it


@lru_cache(256)  # each slice asks
def _size_of_folder(folder: Path, changed: int) -> int:
    return sum(file.stat().st_size for file in folder.iterdir())


def _differs(entry: Sequence[Any], old: Sequence[Any]) -> bool:
    """Whether one of two sizes that are both known is another one; older versions knew none of slices."""
    return any(now != before and None not in (now, before) for now, before in zip(entry, old))
