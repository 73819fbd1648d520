"""How much a server takes on, and how it says no."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from convlora.errors import InputError

RETRY_AFTER = 2  # seconds; what is waiting is done or given up by then on most machines
_UPLOADS_AT_A_TIME = 4  # of the largest size; ordinary photos are a tenth of it


class Problem(Exception):
    """A request that is not answered as it was asked.

    Args:
        status: HTTP status code.
        detail: One or two plain sentences that say what is wrong and what to do.
        headers: What is sent along.
    """

    def __init__(self, status: int, detail: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(detail)
        self.status, self.detail, self.headers = status, detail, dict(headers or {})


@dataclass(frozen=True)
class Limits:
    """What a server takes on.

    Args:
        upload_bytes: Largest body of a request, in bytes.
        pixels: Most pixels of one image.
        waiting: Requests that are being answered or wait for it; more are refused.
        seconds: From the moment an image has arrived until it is answered.
        body_seconds: For the body of a request to arrive.
        header_seconds: For the head of a request to arrive.
    """

    upload_bytes: int = 64 << 20
    pixels: int = 64_000_000
    waiting: int = 32
    seconds: float = 60
    body_seconds: float = 30
    header_seconds: float = 10

    def __post_init__(self) -> None:
        for option, value in (
            ("--max-upload", self.upload_bytes),
            ("--max-pixels", self.pixels),
            ("--queue", self.waiting),
            ("--timeout", self.seconds),
        ):
            if not value > 0:
                raise InputError(f"{option} must be above 0.")

    @property
    def held_bytes(self) -> int:
        """Of all bodies that are in memory at a time."""
        return _UPLOADS_AT_A_TIME * self.upload_bytes

    @property
    def connection_seconds(self) -> float:
        """For a whole request and its answer, in which a client has also to fetch the answer."""
        return self.header_seconds + 2 * self.body_seconds + self.seconds


class Room:
    """Counts what is taken of something that is limited. It belongs to one thread, that of the event loop.

    Args:
        most: What may be taken at a time.
        detail: What to say when that is not enough.
    """

    def __init__(self, most: int, detail: str) -> None:
        self.most, self.detail = most, detail
        self.taken = 0

    def take(self, amount: int = 1) -> None:
        """Takes some.

        Raises:
            Problem: If there is not so much left.
        """
        self.check(amount)
        self.taken += amount

    def check(self, amount: int = 1) -> None:
        """Only looks whether there is so much left.

        Raises:
            Problem: If there is not.
        """
        if self.taken + amount > self.most:
            raise Problem(503, self.detail, {"Retry-After": str(RETRY_AFTER)})

    def give_back(self, amount: int = 1) -> None:
        """Gives back what was taken."""
        self.taken -= amount

    @contextmanager
    def place(self) -> Iterator[None]:
        """Takes one for a block.

        Raises:
            Problem: If none is left.
        """
        self.take()
        try:
            yield
        finally:
            self.give_back()
