"""The way of an image from its request to the answer."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from starlette.requests import Request
from starlette.responses import Response

from convlora.cores import usable_cores
from convlora.errors import is_out_of_memory, shown
from convlora.serve.engine import Answer, Engine
from convlora.serve.images import Upload, see
from convlora.serve.limits import RETRY_AFTER, Limits, Problem, Room
from convlora.serve.results import Result, result_of
from convlora.serve.served import ServedRun
from convlora.serve.uploads import taken_in

_LOG = logging.getLogger("convlora.serve")
_Returned = TypeVar("_Returned")
_LOOK_SECONDS = 0.5  # between looks whether a client that waits is still there


class Segmenting:
    """Takes images in, has them decoded, segmented and packed, and gives up what takes too long.

    Decoding and packing are done by a few threads, computing by the engine's.

    Args:
        runs: The runs by name.
        engine: What computes.
        limits: What is taken on.

    Attributes:
        room: For the bytes of all images that are in memory.
    """

    def __init__(self, runs: Mapping[str, ServedRun], engine: Engine, limits: Limits) -> None:
        self.runs, self.engine, self.limits = runs, engine, limits
        self._threads = ThreadPoolExecutor(max(2, min(4, usable_cores())), "convlora-images")
        self._places = Room(limits.waiting, "Too many images are waiting. Try again in a moment.")
        self.room = Room(limits.held_bytes, "Too many images are arriving. Try again in a moment.")

    @property
    def waiting(self) -> int:
        """Images that are being answered or wait for it."""
        return self._places.taken

    async def answer(
        self, request: Request, name: str | None, needs_levels: bool, make: Callable[[Result, str], Response]
    ) -> Response:
        """Answers a request.

        Args:
            request: The request, whose body is read here.
            name: Name of the run; a form may name it as well.
            needs_levels: Whether the probability of the foreground is needed.
            make: Makes the answer; it is given the result and the run's name.

        Raises:
            Problem: If it is not answered.
        """
        self._places.check()  # this and the next before the body is read
        if name is not None:
            self.find(name)
        async with taken_in(request, self.limits, self.room) as taken:
            run_name, run = self.find(_one_run(name, taken.fields))
            if needs_levels and not run.has_probability:
                needs_levels = False  # what cannot do without says so
            return await self.segment(taken.upload, run_name, needs_levels, make, request)

    async def segment(
        self,
        upload: Upload,
        name: str,
        needs_levels: bool,
        make: Callable[[Result, str], _Returned],
        request: Request,
    ) -> _Returned:
        """Segments an image whose bytes have arrived.

        Args:
            upload: The image.
            name: Name of the run.
            needs_levels: As of [`Segmenting.answer`].
            make: Likewise.
            request: What is answered; nothing is computed for a client that has left.

        Raises:
            Problem: If it cannot be done.
        """
        segmenter = self.runs[name].segmenter
        with self._places.place():
            try:
                async with asyncio.timeout(self.limits.seconds):
                    image = await self.in_thread(lambda: see(upload, segmenter, self.limits))
                    future = asyncio.wrap_future(self.engine.submit(name, image, needs_levels))
                    answer = await _unless_gone(request, future)
                    return await self.in_thread(lambda: make(result_of(upload, segmenter, answer), name))
            except TimeoutError as error:
                raise Problem(
                    504,
                    f"The answer took more than {self.limits.seconds:g} seconds. Try again later, or send a "
                    "smaller image.",
                ) from error
            except Exception as error:
                if not is_out_of_memory(error):
                    raise
                _LOG.warning("Memory ran out over an image.")
                raise Problem(
                    503, "There is not enough memory for this image now.", {"Retry-After": str(RETRY_AFTER)}
                ) from error

    def close(self) -> None:
        """Lets the threads end."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def in_thread(self, work: Callable[[], _Returned]) -> _Returned:
        """Does some work without keeping other requests waiting."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)

    def find(self, name: str | None) -> tuple[str, ServedRun]:
        """The run that is asked for.

        Raises:
            Problem: If there is none of that name.
        """
        if name is None and len(self.runs) == 1:
            name = next(iter(self.runs))
        if name is None:
            raise Problem(422, f"Several runs are served: give one of them as 'run'. {self._names()}")
        if name not in self.runs:
            raise Problem(404, f"There is no run '{shown(name, 60)}'. {self._names()}")
        return name, self.runs[name]

    def _names(self) -> str:
        return f"There are: {', '.join(self.runs)}."


async def _unless_gone(request: Request, answer: asyncio.Future[Answer]) -> Answer:
    """Waits for an answer while its client does: nothing is computed for a client that left before its turn.

    Raises:
        Problem: If the client has left.
    """
    try:
        while not (await asyncio.wait({answer}, timeout=_LOOK_SECONDS))[0]:
            if await request.is_disconnected():
                raise Problem(400, "The client left before the answer was there.")
        return answer.result()
    finally:
        answer.cancel()  # without effect on one that is there


def _one_run(query: str | None, fields: Mapping[str, str]) -> str | None:
    """The run that a request names.

    Raises:
        Problem: If a form has other fields, or names another run than the address.
    """
    unknown = sorted(fields.keys() - {"run"})
    if unknown:
        raise Problem(422, f"The form has a field '{shown(unknown[0], 60)}'. Besides the image it may have 'run' only.")
    named = fields.get("run")
    if query is not None and named is not None and query != named:
        raise Problem(422, "The address and the form name two different runs. Name one of them.")
    return query if named is None else named
