"""What Ray Data reads: the chunks of images, listed by one process of the cluster. Imports Ray."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pyarrow
from ray.data import Datasource
from ray.data.block import BlockMetadata
from ray.data.datasource import ReadTask

from convlora.inference.fleet.work import Chunk


class ChunkSource(Datasource):
    """One task that lists; each chunk goes on to those that segment as soon as it is there.

    Args:
        chunks: Lists them.
    """

    def __init__(self, chunks: Callable[[], Iterator[Chunk]]) -> None:
        super().__init__()
        self._chunks = chunks

    def get_name(self) -> str:
        """For Ray's own log."""
        return "Images"

    def estimate_inmemory_data_size(self) -> int | None:
        """Nobody knows before they are listed."""
        return None

    def get_read_tasks(
        self, parallelism: int, per_task_row_limit: int | None = None, data_context: Any = None
    ) -> list[ReadTask]:
        """One, because the names of all results are compared with each other."""
        chunks = self._chunks

        def read() -> Iterator[pyarrow.Table]:
            for chunk in chunks():
                yield pyarrow.table({"work": [chunk.text()]})

        nothing = BlockMetadata(num_rows=None, size_bytes=None, input_files=None, exec_stats=None)
        return [ReadTask(read, nothing, per_task_row_limit=per_task_row_limit)]
