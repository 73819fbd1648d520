"""Counting what a piece of code asks of the device."""

from __future__ import annotations

from typing import Any

from torch.utils._python_dispatch import TorchDispatchMode


class CountOperations(TorchDispatchMode):
    """Counts the operations dispatched within the block, backward pass included. Views do no work and do not count.

    Attributes:
        names: Of the operations, in order, without their overloads: `["mm", "add", ...]`.
    """

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.name().removeprefix("aten::").partition(".")[0]
        is_view = any(r.alias_info is not None and not r.alias_info.is_write for r in func._schema.returns)
        if not is_view and name != "_unsafe_view":
            self.names.append(name)
        return func(*args, **(kwargs or {}))
