"""Turning away what a browser was tricked into sending, and telling browsers what answers may do."""

from __future__ import annotations

import ipaddress
from collections.abc import Collection
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from convlora.serve.limits import Problem
from convlora.serve.problems import problem_response

_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "X-Frame-Options": "DENY",
    "Cache-Control": "no-store",
}


def is_loopback(host: str) -> bool:
    """Whether a host is this machine, seen from itself."""
    name = host.strip("[]").lower().rstrip(".")
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return name == "localhost"


class Guard:
    """Checks Host and Origin of every request, and adds headers to every answer.

    A page of another site may have its own name point to this machine (DNS rebinding), or send a form here. The first
    has another Host, the second another Origin.

    Args:
        app: What answers.
        allowed: Names of hosts that are taken beside those of this machine; None: any.
    """

    def __init__(self, app: ASGIApp, allowed: Collection[str] | None) -> None:
        self._app = app
        self._allowed = None if allowed is None else {name.lower() for name in allowed}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers a request, as ASGI has it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        try:
            self._check(Headers(scope=scope))
        except Problem as problem:
            await problem_response(problem)(scope, receive, sending)
            return
        await self._app(scope, receive, sending)

    def _check(self, headers: Headers) -> None:
        """Refuses foreign requests.

        Raises:
            Problem: If it is one.
        """
        host, origins = headers.get("host", ""), headers.getlist("origin")
        name = _name_of(f"//{host}")
        if self._allowed is not None and not (is_loopback(name) or name in self._allowed):
            raise Problem(
                403,
                f"This server does not answer as {name[:100]!r}. Use the address that it printed, or start it with "
                "--allow-host NAME.",
            )
        for origin in origins:
            if urlsplit(origin).netloc.lower() == host.lower() and host:
                continue
            if self._allowed is not None and _name_of(origin) in self._allowed:
                continue
            raise Problem(403, "The request comes from a page of another site, which this server does not answer.")


def _name_of(address: str) -> str:
    try:
        return (urlsplit(address).hostname or "").lower()
    except ValueError:
        return ""
