"""Taking in the body of a request, with a limit on everything a client could do too much or too slowly."""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from starlette.datastructures import Headers, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect, Request

from convlora.errors import shown
from convlora.serve.images import Upload
from convlora.serve.limits import Limits, Problem, Room
from convlora.untrusted import parse_json

FIELD = "image"
# What raw bodies are called. The last is what curl --data-binary says of anything.
RAW = ("image/", "application/octet-stream", "application/x-www-form-urlencoded")
_MOST_FIELDS = 8
# It would tell of every form that is malformed.
logging.getLogger("python_multipart").setLevel(logging.CRITICAL)
_ADVICE = f"Send an image as the field '{FIELD}' of a form (multipart/form-data), or as the body itself."


@dataclass
class Taken:
    """What was taken in of a request.

    Attributes:
        upload: The image.
        fields: The other fields of a form.
    """

    upload: Upload
    fields: dict[str, str] = field(default_factory=dict)


class _InMemory(MultiPartParser):
    """A parser of forms that never writes files to a disk."""

    spool_max_size = sys.maxsize


@asynccontextmanager
async def taken_in(request: Request, limits: Limits, room: Room) -> AsyncIterator[Taken]:
    """Takes in the image of a request, and holds its bytes for a block.

    Args:
        request: The request.
        limits: What is taken.
        room: For the bytes of all bodies.

    Raises:
        Problem: If there is no image, or too much of something, or it comes too slowly.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    is_form = kind == "multipart/form-data"
    if not is_form and kind and not kind.startswith(RAW):
        raise Problem(415, f"A body of the type {kind[:80]!r} is not taken. {_ADVICE}")
    body = _Body(request, limits, room)
    try:
        try:
            async with asyncio.timeout(limits.body_seconds):
                taken = await (_form(request.headers, body) if is_form else _raw(body))
        except TimeoutError as error:
            raise Problem(
                408, f"The image did not arrive within {limits.body_seconds:g} seconds. Send it again."
            ) from error
        except ClientDisconnect as error:
            raise Problem(400, "The connection ended before the image had arrived.") from error
        if not taken.upload.content:
            raise Problem(422, f"The image is empty. {_ADVICE}")
        yield taken
    finally:
        room.give_back(body.held)


async def json_in(request: Request, limits: Limits, room: Room) -> Any:
    """Takes in a request whose body is JSON.

    Args:
        request: The request.
        limits: What is taken.
        room: For the bytes of all bodies.

    Raises:
        Problem: If it is not JSON, or too much, or it comes too slowly.
    """
    body = _Body(request, limits, room)
    try:
        async with asyncio.timeout(limits.body_seconds):
            content = b"".join([chunk async for chunk in body.chunks()])
        return await asyncio.to_thread(lambda: parse_json(content.decode("utf-8")))
    except TimeoutError as error:
        raise Problem(
            408, f"The request did not arrive within {limits.body_seconds:g} seconds. Send it again."
        ) from error
    except ClientDisconnect as error:
        raise Problem(400, "The connection ended before the request had arrived.") from error
    except ValueError as error:
        raise Problem(422, f"The body is not JSON in UTF-8 ({shown(error)}).") from error
    finally:
        room.give_back(body.held)


class _Body:
    """Bytes as they arrive."""

    def __init__(self, request: Request, limits: Limits, room: Room) -> None:
        self._request, self._limits, self._room = request, limits, room
        self.held = 0
        stated = request.headers.get("content-length", "")
        if stated.isascii() and stated.isdigit() and int(stated[:20]) > limits.upload_bytes:
            raise self._too_large()

    async def chunks(self) -> AsyncGenerator[bytes, None]:
        async for chunk in self._request.stream():
            if self.held + len(chunk) > self._limits.upload_bytes:
                raise self._too_large()
            self._room.take(len(chunk))
            self.held += len(chunk)
            yield chunk

    def _too_large(self) -> Problem:
        most = self._limits.upload_bytes / 2**20
        return Problem(413, f"A request may have {most:g} MB at most. Save the image smaller, or compressed.")


async def _raw(body: _Body) -> Taken:
    return Taken(Upload(b"".join([chunk async for chunk in body.chunks()])))


async def _form(headers: Headers, body: _Body) -> Taken:
    try:
        form = await _InMemory(headers, body.chunks(), max_files=_MOST_FIELDS, max_fields=_MOST_FIELDS).parse()
    except MultiPartException as error:
        raise Problem(422, f"The form cannot be read ({error.message.rstrip('.')}). {_ADVICE}") from error
    try:
        files = [(name, value) for name, value in form.multi_items() if isinstance(value, UploadFile)]
        if [name for name, _ in files] != [FIELD]:
            raise Problem(422, f"The form has {len(files)} files, and one called '{FIELD}' is needed. {_ADVICE}")
        file = files[0][1]
        fields = {name: value for name, value in form.multi_items() if isinstance(value, str)}
        return Taken(Upload(await file.read(), file.filename or ""), fields)
    finally:
        await form.close()
