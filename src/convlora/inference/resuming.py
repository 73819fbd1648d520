"""What of a batch prediction is done, so that it can go on where it was stopped."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from convlora.inference.files import Job
from convlora.inference.windows import Tiles
from convlora.storage import make_folder


def fingerprint(run: Path, tiles: Tiles | None, overlay: bool) -> str:
    """Stands for the weights of a run and the way they are used.

    Args:
        run: The run folder.
        tiles: How images are cut into windows, if they are.
        overlay: Whether pictures are made too.
    """
    with (run / "adapter" / "adapter_model.safetensors").open("rb") as file:
        weights = hashlib.file_digest(file, "sha256").hexdigest()
    return hashlib.sha256(repr((weights, tiles, overlay)).encode()).hexdigest()[:16]


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
        """The results that are there already, of images that have not changed since."""
        entries: dict[str, dict[str, Any]] = {}
        for path in sorted(self.output.glob(".done-*.jsonl")):
            for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
                entry = _parse(line)
                if entry is not None and entry["made_by"] == self.made_by:
                    entries[entry["key"]] = entry["result"]
        found = {}
        for job in jobs:
            result = entries.get(_key(job))
            if result is not None and job.mask.is_file() and (job.overlay is None or job.overlay.is_file()):
                found[job] = result
        return found

    def add(self, job: Job, result: dict[str, Any]) -> None:
        """Writes down that an image is done; its files are there."""
        make_folder(self.output)
        with self._own.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"key": _key(job), "made_by": self.made_by, "result": result}) + "\n")

    def begin(self) -> None:
        """Forgets what this process did before."""
        self._own.unlink(missing_ok=True)

    def end(self) -> None:
        """Forgets everything: all is done. For one process, when the others have ended."""
        for path in self.output.glob(".done-*.jsonl"):
            path.unlink(missing_ok=True)


def _key(job: Job) -> str:
    """An image as it is now."""
    path = Path(str(job.image))
    try:
        state = path.stat()
    except OSError:
        return str(path)
    return f"{path.resolve()}:{state.st_size}:{state.st_mtime_ns}"


def _parse(line: str) -> dict[str, Any] | None:
    # The last line of a process that was killed may be cut short.
    try:
        entry = json.loads(line)
    except ValueError:
        return None
    return entry if isinstance(entry, dict) and {"key", "made_by", "result"} <= entry.keys() else None
