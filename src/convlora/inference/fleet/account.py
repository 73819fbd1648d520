"""What of a chunk is done, so that a process that takes it over, or a later prediction, does not do it again.

It is one small file for each chunk, which its process writes anew every few seconds.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from convlora.inference.files.resuming import is_result
from convlora.inference.fleet.places import is_remote, join, read_content, write_content
from convlora.inference.fleet.work import ACCOUNT, Task
from convlora.links import open_own
from convlora.storage import write_text
from convlora.untrusted import parse_lines

_EVERY = 5.0  # seconds: so much work is done again at most


@dataclass
class Account:
    """That of one chunk.

    Attributes:
        task: How images are segmented.
        name: Name of the chunk.
        entries: What is done, by the state of the image.
        attempts: How often a process of this prediction has begun with it.
        trying: The image at which a process was that went on one image at a time.
        deaths: How many processes have ended at each image.
    """

    task: Task
    name: str
    entries: dict[str, dict[str, Any]] = field(default_factory=dict)
    attempts: int = 0
    trying: str | None = None
    deaths: dict[str, int] = field(default_factory=dict)
    _written: float = 0.0

    @classmethod
    def begin(cls, task: Task, name: str) -> Account:
        """Reads what there is, and writes down that another process begins.

        Raises:
            InputError: If its file is a link or a pipe.
            RunError: If the object store does not answer.
        """
        account = cls(task, name)
        for entry in parse_lines(account._read()):
            if entry.get("made_by") != task.made_by:
                continue
            if entry.get("token") == task.token and isinstance(entry.get("attempts"), int):
                account.attempts = entry["attempts"]
                account.trying = entry.get("trying")
                account.deaths = entry.get("deaths") or {}
            elif isinstance(entry.get("key"), str) and isinstance(entry.get("made"), dict) and is_result(entry):
                account.entries[entry["key"]] = entry
        if account.trying is not None:
            account.deaths[account.trying] = account.deaths.get(account.trying, 0) + 1
            account.trying = None
        account.attempts += 1
        account.write()
        return account

    def add(self, key: str, made: dict[str, str], result: dict[str, Any], piece: str | None) -> None:
        """Writes down that an image is done; its files are there. It reaches the disk within some seconds.

        Args:
            key: The image and its state.
            made: State of each file of its result, by its name.
            result: As of `convlora.inference.files.jobs.run_jobs`.
            piece: What is known of its objects.
        """
        self.entries[key] = {"key": key, "made_by": self.task.made_by, "made": made, "result": result, "piece": piece}
        if time.monotonic() - self._written > _EVERY:
            self.write()

    def write(self) -> None:
        """Writes everything now."""
        about = {
            "made_by": self.task.made_by,
            "token": self.task.token,
            "attempts": self.attempts,
            "trying": self.trying,
            "deaths": self.deaths,
        }
        text = "".join(json.dumps(entry) + "\n" for entry in (about, *self.entries.values()))
        if is_remote(self.task.output):
            write_content(text.encode(), self._place)
        else:
            write_text(Path(self._place), text)
        self._written = time.monotonic()

    @property
    def _place(self) -> str:
        return join(join(self.task.output, ACCOUNT), f"{self.name}.jsonl")

    def _read(self) -> str:
        if is_remote(self.task.output):
            return (read_content(self._place) or b"").decode("utf-8", "replace")
        try:
            with open_own(Path(self._place), "rb") as file:
                return str(file.read().decode("utf-8", "replace"))
        except FileNotFoundError:
            return ""
