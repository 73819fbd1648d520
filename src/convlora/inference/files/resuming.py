"""What of a batch prediction is done, so that it can go on where it was stopped."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from convlora.inference.files.plan import Job
from convlora.inference.uncertain import Uncertainty
from convlora.links import open_own
from convlora.ordinary import open_ordinary
from convlora.runs.folds import fold_folders
from convlora.storage import make_folder
from convlora.untrusted import parse_lines

PRESENCE = ".predicting"  # stands in the folder of results while a process writes there


def fingerprint(run: Path, *how: object) -> str:
    """Stands for a run and the way it is used.

    Args:
        run: The run folder.
        how: Whatever else decides on the results.
    """
    digest = hashlib.sha256(repr(how).encode())
    for folder in fold_folders(run) or [run]:
        for name in ("adapter/adapter_model.safetensors", "config.yaml", "classes.json"):
            with open_ordinary(folder / name) as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()[:16]


class DoneList:
    """The results of a batch prediction so far, one line per image, in a hidden file of each process.

    Args:
        output: Folder of the results.
        made_by: Fingerprint of what makes them; results of anything else do not count.
        process: Number of this process.
    """

    def __init__(self, output: Path, made_by: str, process: int = 0) -> None:
        self.output, self.made_by = output, made_by
        self._own = output / f".done-{process}.jsonl"

    def earlier(self, jobs: Sequence[Job]) -> dict[Job, dict[str, Any]]:
        """The results that are there already, of images that have not changed since.

        Raises:
            InputError: If one of the hidden files is a link or a pipe.
        """
        entries: dict[str, dict[str, Any]] = {}
        for path in sorted(self.output.glob(".done-*.jsonl")):
            with open_own(path, "rb") as file:
                text = file.read().decode("utf-8", errors="replace")
            for entry in parse_lines(text):
                if _is_ours(entry) and entry["made_by"] == self.made_by:
                    entries[entry["key"]] = entry
        found = {}
        for job in jobs:
            known = entries.get(state_of(job.image))
            if known is not None and known["made"] == _made(job):  # or something else has written there since
                paths = {"image": str(job.image)} | {name: str(path) for name, path in job.results().items()}
                found[job] = known["result"] | paths  # as they are called now
        return found

    def add(self, job: Job, result: dict[str, Any]) -> None:
        """Writes down that an image is done; its files are there.

        Raises:
            InputError: If the hidden file is a link or a pipe.
        """
        make_folder(self.output)
        entry = {"key": state_of(job.image), "made_by": self.made_by, "made": _made(job), "result": result}
        with open_own(self._own, "a") as file:
            file.write("\n" + json.dumps(entry) + "\n")  # a process that was killed may have left half a line

    def forget(self) -> None:
        """Forgets everything, because all is done or all is to be done again. For one process alone."""
        for path in self.output.glob(".done-*.jsonl"):
            path.unlink(missing_ok=True)


def _made(job: Job) -> list[str]:
    """The files of a result as they are now."""
    return [state_of(path) for path in job.files()]


def state_of(file: object) -> str:
    """A file as it is now."""
    path = Path(str(file))
    try:
        state = path.stat()
    except OSError:
        return str(path)
    return f"{path.resolve()}:{state.st_size}:{state.st_mtime_ns}"


def _is_ours(entry: dict[str, Any]) -> bool:
    return isinstance(entry.get("key"), str) and {"made_by", "made"} <= entry.keys() and is_result(entry)


def is_result(entry: dict[str, Any]) -> bool:
    """Whether an entry, which may come from anywhere, holds the description of a result."""
    result = entry.get("result")
    return (
        isinstance(result, dict)
        and isinstance(result.get("shares"), dict)
        and all(isinstance(share, float) for share in result["shares"].values())
        and all(_is_share(result.get(name)) for name in Uncertainty._fields)
    )


def _is_share(value: object) -> bool:
    return value is None or (isinstance(value, float) and 0 <= value <= 1)
