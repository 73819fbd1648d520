"""Work that continues beside the device: reading images ahead, and writing results."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def in_background(work: Callable[[Item], Result], items: Iterable[Item], threads: int, ahead: int) -> Iterator[Result]:
    """Does some work for each item, in threads: decoding, resizing and compressing images leave Python's lock free.

    Args:
        work: Called with each item. What it raises is raised when its result is due.
        items: Taken one after the other by the caller's thread.
        threads: How many; 0: the work is done by the caller's thread, when it asks for the result.
        ahead: How many items may be taken before their results are asked for.

    Yields:
        The results in the order of the items.
    """
    if threads == 0:
        yield from map(work, items)
        return
    with ThreadPoolExecutor(threads) as pool:
        waiting: deque[Future[Result]] = deque()
        try:
            for item in items:
                waiting.append(pool.submit(work, item))
                if len(waiting) > ahead:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:  # only those that have not begun
                future.cancel()
