"""Counting the operations that PyTorch dispatches."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode


class OperationCounter(TorchDispatchMode):
    """Counts operations while it is entered, those of the backward pass too.

    A view is not counted: by its schema the operator returns an alias of its input that it does not write to, so that
    nothing is computed (`view`, `permute`, `select`, `expand`, `detach` ...). Everything else is counted once, in-place
    operators, allocations (`zeros_like`) and `_unsafe_view` too. On a GPU an operation that is counted starts one
    kernel, as a rule; some start none, a few several.

    Attributes:
        counts: How often each operator was dispatched, views left out.
    """

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[str] = Counter()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        if not is_view(func):
            self.counts[str(func)] += 1
        return func(*args, **(kwargs or {}))

    @property
    def total(self) -> int:
        """How many operations there were."""
        return self.counts.total()


def is_view(operator: torch._ops.OpOverload) -> bool:
    """Whether an operator returns an alias of its input and writes to none."""
    returns = operator._schema.returns
    return any(one.alias_info is not None and not one.alias_info.is_write for one in returns)
