"""Connections that do not wait for ever."""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

from convlora.serve.limits import Limits


def impatient(limits: Limits) -> type[H11Protocol]:
    """A protocol that ends connections whose client sends or fetches too slowly.

    uvicorn itself waits without end for the head of a request, and for a client to fetch an answer.

    Args:
        limits: The times.
    """

    class ImpatientProtocol(H11Protocol):
        _timer: asyncio.TimerHandle | None = None
        _timed: Any = None  # the request that the timer is for

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            self._give(limits.header_seconds)

        def data_received(self, data: bytes) -> None:
            before = self.cycle
            if before is not None and before.response_complete and self._timed is before:
                self._give(limits.header_seconds)  # a new request begins
                self._timed = None
            super().data_received(data)
            self._look()

        def on_response_complete(self) -> None:
            super().on_response_complete()  # where the next request may have begun
            self._look()

        def connection_lost(self, exc: Exception | None) -> None:
            if self._timer is not None:
                self._timer.cancel()
            super().connection_lost(exc)

        def _look(self) -> None:
            """Gives a request whose head has arrived the time for all of it."""
            if self.cycle is not None and self.cycle is not self._timed and not self.cycle.response_complete:
                self._timed = self.cycle
                self._give(limits.connection_seconds)

        def _give(self, seconds: float) -> None:
            if self._timer is not None:
                self._timer.cancel()
            self._timer = self.loop.call_later(seconds, self.transport.abort)

    return ImpatientProtocol
