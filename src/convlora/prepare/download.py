"""Fetching the archives of published data sets, by the library pooch."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import pooch
import requests

from convlora.errors import InputError, RunError
from convlora.ordinary import open_ordinary
from convlora.prepare.catalogue import RemoteFile
from convlora.storage import make_folder

_TIMEOUT = 60.0  # seconds without a byte
_MORE_ATTEMPTS = 3
_PERMANENT = (400, 401, 403, 404, 405, 410, 451)

Progress = Callable[[int, int | None], None]  # bytes that are there, bytes in all


def fetch(
    file: RemoteFile, folder: Path, *, progress: Progress | None = None, more_attempts: int = _MORE_ATTEMPTS
) -> Path:
    """Fetches a file and checks it, unless it is there already.

    Args:
        file: What to fetch.
        folder: Where to put it.
        progress: Receives the bytes that have arrived.
        more_attempts: How often to try again if the connection fails.

    Returns:
        The complete file.

    Raises:
        InputError: If the server has no such file, or what it sent has another checksum.
        RunError: If the connection fails again and again.
    """
    if urlsplit(file.url).scheme not in ("http", "https"):
        raise InputError(f"{file.url} is neither an http nor an https address. Correct --mirror.")
    make_folder(folder)
    try:
        downloader = pooch.HTTPDownloader(progressbar=_Bar(progress) if progress else False, timeout=_TIMEOUT)
        cached = pooch.create(folder, base_url="", registry={file.name: file.checksum}, urls={file.name: file.url})
        cached.retry_if_failed = more_attempts
        return Path(cached.fetch(file.name, downloader=downloader))
    except requests.RequestException as error:
        answer = error.response
        if answer is not None and answer.status_code in _PERMANENT:
            raise InputError(
                f"{file.url} answers {answer.status_code} ({answer.reason}). Fetch the file by hand and give it with "
                "--from."
            ) from error
        raise RunError(f"{file.url} cannot be fetched ({error}). Give the same command again.") from error
    except ValueError as error:  # of pooch
        raise InputError(
            f"{file.name} has another checksum than {file.checksum}: it was damaged on the way, or its owners changed "
            "it. Give the same command to fetch it anew, or fetch it by hand and give it with --from."
        ) from error


def digest(path: Path, kind: str = "sha256") -> str:
    """Checksum of a file, in hexadecimal digits."""
    with open_ordinary(path) as stream:
        return hashlib.file_digest(stream, lambda: hashlib.new(kind, usedforsecurity=False)).hexdigest()


class _Bar:
    """A progress bar as pooch wants it."""

    def __init__(self, progress: Progress) -> None:
        self.total = 0
        self._progress, self._there = progress, 0

    def update(self, count: int) -> None:
        """So many more bytes have arrived; pooch counts whole chunks."""
        self._there += count
        self._progress(min(self._there, self.total or self._there), self.total or None)

    def reset(self) -> None:
        """The file is complete."""
        self._there = 0

    def close(self) -> None:
        """Nothing more will arrive."""
