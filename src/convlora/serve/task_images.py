"""The images of Label Studio's tasks, fetched from the one server that the operator has named.

Whoever reaches the server here chooses the addresses. So that nobody can have it ask other servers, or other things of
Label Studio, only images below a few paths of that one are fetched, and no redirect is followed elsewhere.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import os
import ssl
from contextlib import aclosing, asynccontextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import SplitResult, unquote, unquote_to_bytes, urljoin, urlsplit

from convlora.errors import InputError, shown
from convlora.serve.images import Upload
from convlora.serve.limits import Limits, Problem, Room

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator

    import httpx2

KEY = "LABEL_STUDIO_API_KEY"
_PATHS = ("/data/", "/storage-data/", "/static/", "/tasks/")  # where Label Studio has files
_BUCKETS = ("s3://", "gs://", "azure-blob://")
_REDIRECTS = 3
_PORTS = {"http": 80, "https": 443}


class TaskImages:
    """Fetches images.

    Args:
        url: Address of Label Studio, `http://...` or `https://...`; None: only images inside tasks are taken.
        key: Its access token, if it asks for one: a personal access token, or the older kind.
        limits: What is taken.
        room: For the bytes of all images.

    Raises:
        InputError: If the address is none.
    """

    def __init__(self, url: str | None, key: str | None, limits: Limits, room: Room) -> None:
        check_address(url)
        self._base = None if url is None else url.rstrip("/")
        self._key, self._limits, self._room = key, limits, room
        self._access: str | None = None
        self._tls: ssl.SSLContext | None = None

    @asynccontextmanager
    async def image(self, address: object, task: object) -> AsyncIterator[Upload]:
        """Holds the bytes of an image for a block.

        Args:
            address: As the task's data has it.
            task: Number of the task, for images in buckets.

        Raises:
            Problem: If it may not or cannot be fetched.
        """
        if not isinstance(address, str) or not address:
            raise Problem(422, "A task has no address of an image where the labeling interface says.")
        held = 0
        try:
            if address.startswith("data:"):
                self._room.take(len(address))
                held = len(address)
                yield Upload(_inline(address))
                return
            url, content = self._url(address, task), bytearray()
            try:
                async with (
                    asyncio.timeout(self._limits.body_seconds),
                    self._client() as client,
                    aclosing(self._chunks(client, url)) as chunks,
                ):
                    async for chunk in chunks:
                        if held + len(chunk) > self._limits.upload_bytes:
                            raise Problem(413, f"{shown(address)} has more bytes than are taken, see --max-upload.")
                        self._room.take(len(chunk))
                        held += len(chunk)
                        content += chunk
            except TimeoutError as error:
                raise Problem(504, f"{shown(address)} did not arrive in time from {self._base}.") from error
            yield Upload(bytes(content), urlsplit(address).path)
        finally:
            self._room.give_back(held)

    def _url(self, address: str, task: object) -> str:
        """The address at Label Studio.

        Raises:
            Problem: If it leads elsewhere.
        """
        if self._base is None:
            raise Problem(
                422, f"{shown(address)} is not fetched. Start the server with --label-studio URL, that of Label Studio."
            )
        if address.startswith(_BUCKETS):
            if not isinstance(task, int):
                raise Problem(422, f"{shown(address)} comes with no number of its task.")
            coded = base64.urlsafe_b64encode(address.encode()).decode()
            return f"{self._base}/tasks/{task}/presign/?fileuri={coded}"
        if address.startswith("upload/"):
            address = f"/data/{address}"
        prefix = urlsplit(self._base).path
        if address.startswith("/") and not address.startswith("//"):
            if prefix and address.startswith(f"{prefix}/"):
                address = address[len(prefix) :]
            address = self._base + address
        return self._checked(address)

    def _checked(self, url: str, why: str = "") -> str:
        """The address of an image at Label Studio, put together anew: other readers may see another host in the text.

        Raises:
            Problem: If it is something else.
        """
        base = urlsplit(self._base or "")
        try:
            parts = urlsplit(url)
            is_there = _origin(parts) == _origin(base) and parts.username is None
        except ValueError:
            is_there = False
        if not is_there:
            raise Problem(422, f"{shown(url)} is not at {self._base}, and only images there are fetched. {why}".strip())
        path = parts.path.removeprefix(base.path)
        if not path.startswith(_PATHS) or ".." in unquote(path).replace("\\", "/").split("/"):
            raise Problem(
                422,
                f"{shown(parts.path)} is no place where Label Studio has images. If it asks for a login, put its "
                f"access token into the environment variable {KEY}.",
            )
        return f"{self._base}{path}" + (f"?{parts.query}" if parts.query else "")

    def _client(self) -> httpx2.AsyncClient:
        import httpx2

        if self._tls is None and (self._base or "").startswith("https:"):
            self._tls = ssl.create_default_context()  # takes long; only that one server is spoken to
        # Without the environment: a .netrc would add a password, a proxy would be told the token.
        return httpx2.AsyncClient(verify=self._tls or False, trust_env=False, follow_redirects=False)

    async def _chunks(self, client: httpx2.AsyncClient, url: str) -> AsyncGenerator[bytes, None]:
        import httpx2

        try:
            for again in (True, False):
                for _ in range(_REDIRECTS + 1):
                    async with client.stream("GET", url, headers=await self._headers(client)) as answer:
                        if answer.is_redirect:
                            why = "If it is in a bucket, switch off pre-signed URLs of this storage in Label Studio."
                            url = self._checked(urljoin(url, answer.headers.get("location", "")), why)
                            continue
                        if answer.status_code == 401 and self._access is not None and again:
                            self._access = None  # it is valid for some minutes only
                            break
                        if answer.status_code != 200:
                            raise self._refused(url, answer.status_code)
                        async for chunk in answer.aiter_raw():  # as it comes: a few bytes could be unpacked to many
                            yield chunk
                        return
                else:
                    raise Problem(502, f"{self._base} redirects without end.")
        except (httpx2.HTTPError, httpx2.InvalidURL, OSError) as error:
            raise Problem(502, f"{self._base} cannot be reached ({shown(error) or type(error).__name__}).") from error

    def _refused(self, url: str, status: int) -> Problem:
        if status in (401, 403):
            return Problem(502, f"{self._base} asks for an access token. Put a valid one into {KEY}.")
        return Problem(502, f"{self._base} answered {status} for {shown(urlsplit(url).path)}.")

    async def _headers(self, client: httpx2.AsyncClient) -> dict[str, str]:
        """What is sent along, such as the access token."""
        headers = {"Accept-Encoding": "identity"}
        if not self._key:
            return headers
        if self._key.count(".") != 2:  # the older kind of token
            return headers | {"Authorization": f"Token {self._key}"}
        if self._access is None:
            answer = await client.post(f"{self._base}/api/token/refresh", json={"refresh": self._key})
            try:
                said: Any = answer.json() if answer.status_code == 200 else None
                self._access = str(said["access"])
            except (ValueError, TypeError, KeyError) as error:
                raise self._refused("", 401) from error
        return headers | {"Authorization": f"Bearer {self._access}"}


def key_of_environment() -> str | None:
    """The access token of Label Studio, if there is one."""
    return os.environ.get(KEY, "").strip() or None


def check_address(url: str | None) -> None:
    """Checks the address of Label Studio, if there is one.

    Raises:
        InputError: If it is none.
    """
    if url is None:
        return
    try:
        parts = urlsplit(url)
        is_good = parts.scheme in _PORTS and bool(parts.hostname) and parts.port != 0 and parts.username is None
        is_good = is_good and not parts.query and not parts.fragment
    except ValueError:
        is_good = False
    if not is_good:
        raise InputError(
            f"--label-studio must be the address of Label Studio, such as http://localhost:8080, got '{shown(url)}'."
        )


def _origin(parts: SplitResult) -> tuple[str, str | None, int | None]:
    return parts.scheme, parts.hostname, parts.port or _PORTS.get(parts.scheme)


def _inline(address: str) -> bytes:
    """The bytes of a `data:` address.

    Raises:
        Problem: If it is damaged.
    """
    head, comma, content = address[len("data:") :].partition(",")
    try:
        if not comma:
            raise ValueError("no comma")
        if head.endswith(";base64"):
            return base64.b64decode(unquote(content), validate=True)
        return unquote_to_bytes(content)
    except (ValueError, binascii.Error) as error:
        raise Problem(422, "A task has an image inside whose encoding is damaged.") from error
