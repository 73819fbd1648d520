"""Fetching a file over HTTP so that an interrupted transfer goes on where it was."""

from __future__ import annotations

import errno
import hashlib
import http.client
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from convlora.errors import InputError, RunError
from convlora.links import open_own
from convlora.prepare.catalogue import RemoteFile
from convlora.storage import make_folder, write_json
from convlora.untrusted import open_ordinary, read_json

_CHUNK = 1 << 20
_TIMEOUT = 60.0  # seconds without a byte
_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO)
_PERMANENT = (400, 401, 403, 404, 405, 410, 451)

Progress = Callable[[int, int | None], None]  # bytes that are there, bytes in all


def fetch(
    file: RemoteFile, folder: Path, *, progress: Progress | None = None, attempts: int = 5, pause: float = 2.0
) -> Path:
    """Fetches a file unless it is there already, and checks it.

    What has arrived is kept as `NAME.part`, and only what is missing is asked for again, as long as the server says
    that the file is still the same (its ETag or its date).

    Args:
        file: What to fetch.
        folder: Where to put it.
        progress: Told of the bytes that have arrived.
        attempts: How often to try in a row without a new byte.
        pause: Seconds before the second attempt; twice as long before each further one.

    Returns:
        The complete file.

    Raises:
        InputError: If the server has no such file, or what it sent has another checksum.
        RunError: If the connection fails again and again; what has arrived is kept.
    """
    if urlsplit(file.url).scheme not in ("http", "https"):
        raise InputError(f"{file.url} is neither an http nor an https address. Correct --mirror.")
    make_folder(folder)
    path, part = folder / file.name, folder / f"{file.name}.part"
    if path.is_file():
        verify(path, file)
        return path
    failures, waiting = 0, pause
    while True:
        before = _size(part)
        try:
            _transfer(file.url, part, progress)
            break
        except urllib.error.HTTPError as error:
            if error.code == 416:
                if error.headers.get("Content-Range") == f"bytes */{before}":  # it was all there
                    break
                part.unlink(missing_ok=True)  # more was asked for than there is: the file has changed
            elif error.code in _PERMANENT:
                raise InputError(
                    f"{file.url} answers {error.code} ({error.reason}). Fetch the file by hand and give it with --from."
                ) from error
            reason = f"{error.code} {error.reason}"
        except (OSError, http.client.HTTPException) as error:  # URLError and timeouts are among OSError
            if getattr(error, "filename", None) is not None or getattr(error, "errno", None) in _DISK:
                raise  # not the line is at fault
            reason = str(getattr(error, "reason", error)) or type(error).__name__
        if _size(part) > before:
            failures, waiting = 0, pause
        failures += 1
        if failures >= attempts:
            raise RunError(
                f"{file.url} cannot be fetched ({reason}). Give the same command again to go on where it stopped."
            )
        time.sleep(waiting)
        waiting *= 2
    verify(part, file)
    part.replace(path)
    _notes(part).unlink(missing_ok=True)
    return path


def verify(path: Path, file: RemoteFile) -> None:
    """Compares a file with its checksum, and takes it away if they differ.

    Raises:
        InputError: If they differ.
    """
    if file.checksum is None:
        return
    kind, _, wanted = file.checksum.partition(":")
    found = digest(path, kind)
    if found != wanted:
        kept = path.with_name(f"{file.name}.rejected")
        path.replace(kept)
        raise InputError(
            f"{file.name} has the {kind} {found}, but {wanted} was expected: it was damaged on the way, or its owners "
            f"changed it. It is kept as {kept}; give the same command to fetch it anew."
        )


def digest(path: Path, kind: str = "sha256") -> str:
    """Checksum of a file, in hexadecimal digits."""
    with open_ordinary(path) as stream:
        return hashlib.file_digest(stream, lambda: hashlib.new(kind, usedforsecurity=False)).hexdigest()


def _transfer(url: str, part: Path, progress: Progress | None) -> None:
    """Asks for what is missing and appends it."""
    start, notes = _size(part), _read_notes(part)
    headers = {"User-Agent": "convlora", "Accept-Encoding": "identity"}
    if start and notes.get("url") == url and notes.get("validator"):
        headers |= {"Range": f"bytes={start}-", "If-Range": notes["validator"]}
    else:
        start = 0
    request = urllib.request.Request(url, headers=headers)  # noqa: S310 - the scheme was checked
    with urllib.request.urlopen(request, timeout=_TIMEOUT) as answer:  # noqa: S310
        start = start if answer.status == 206 and _range_start(answer) == start else 0
        length = answer.headers.get("Content-Length")
        total = start + int(length) if length is not None and length.isdigit() else None
        etag = answer.headers.get("ETag") or ""
        validator = etag if etag and not etag.startswith("W/") else answer.headers.get("Last-Modified")
        write_json(_notes(part), {"url": url, "validator": validator})
        with open_own(part, "ab" if start else "wb") as stream:
            while chunk := answer.read(_CHUNK):
                stream.write(chunk)
                start += len(chunk)
                if progress is not None:
                    progress(start, total)
    if total is not None and start < total:
        raise http.client.IncompleteRead(b"", total - start)


def _range_start(answer: Any) -> int | None:
    unit, _, rest = (answer.headers.get("Content-Range") or "").partition(" ")
    first = rest.partition("-")[0]
    return int(first) if unit == "bytes" and first.isdigit() else None


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0


def _notes(part: Path) -> Path:
    return part.with_name(f"{part.name}.json")


def _read_notes(part: Path) -> dict[str, Any]:
    try:
        notes = read_json(_notes(part))
    except (OSError, ValueError):
        return {}
    return notes if isinstance(notes, dict) else {}
