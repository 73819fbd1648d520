"""What makes a host wait for its device, raised as an error on a CPU, which has no device to wait for.

It stands in for `torch.cuda.set_sync_debug_mode("error")`: what that would complain about is recognised by name. All
tensors count as tensors on a device, except those that are made of numbers or arrays, or were copied to the host.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from unittest import mock

import torch
import torch.nn.functional as F
from torch.utils._python_dispatch import TorchDispatchMode

# Operations whose kernels for CUDA ask the device for a number.
_WAITING = {
    "_local_scalar_dense",  # item, bool, int, float, index
    "nonzero", "nonzero_numpy", "argwhere", "masked_select", "count_nonzero_numpy",
    "_unique", "_unique2", "unique_dim", "unique_consecutive", "unique_dim_consecutive",
    "bincount", "histc", "multinomial", "randperm", "equal", "allclose",
    "repeat_interleave",
}  # fmt: skip
_INDEXING = {"index", "index_put", "index_put_", "_index_put_impl_", "_unsafe_index", "_unsafe_index_put"}


class Waits(AssertionError):
    """The host waited for its device."""


@dataclass
class Copies:
    """How often something was copied to the host, waiting for it."""

    made: int = 0


class _Watch(TorchDispatchMode):
    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.overloadpacket.__name__
        if name in _WAITING and not (name == "repeat_interleave" and "Tensor" not in func._overloadname):
            raise Waits(f"{func} makes the host wait")
        if name in _INDEXING and any(_is_mask(index) for index in args[1]):
            raise Waits(f"{func} with a mask makes the host wait")
        return func(*args, **(kwargs or {}))


def _is_mask(index) -> bool:
    return index is not None and index.dtype in (torch.bool, torch.uint8)


@contextlib.contextmanager
def no_sync(copies: int = 0) -> Iterator[Copies]:
    """Raises [`Waits`] where a host would wait for its device.

    Args:
        copies: So many calls of `.cpu()` are allowed.

    Yields:
        Counts them.
    """
    seen = Copies()
    tensor = torch.Tensor
    whole = {name: getattr(tensor, name) for name in ("cpu", "to", "numpy", "tolist", "__array__")}
    made = {name: getattr(torch, name) for name in ("tensor", "as_tensor", "from_numpy")}

    def on_host(value):
        value._on_host = True
        return value

    def cpu(self, *args, **kwargs):
        if not hasattr(self, "_on_host"):
            seen.made += 1
            if seen.made > copies:
                raise Waits(".cpu() makes the host wait")
        return on_host(self.detach().clone())

    def to(self, *args, **kwargs):
        if args[:1] == ("cpu",):
            return on_host(self.detach().clone()) if kwargs.get("non_blocking") else cpu(self)
        if not hasattr(self, "_on_host"):
            return whole["to"](self, *args, **kwargs)
        if not kwargs.get("non_blocking"):
            raise Waits("a copy to the device makes the host wait")
        return whole["to"](self.clone(), *args, **kwargs)

    def of_host(name):
        def method(self, *args, **kwargs):
            if not hasattr(self, "_on_host"):
                raise Waits(f".{name}() makes the host wait")
            return whole[name](self, *args, **kwargs)

        return method

    def new_tensor(self, *args, **kwargs):
        raise Waits(".new_tensor() makes the host wait")

    def make(name):
        def function(data, *args, **kwargs):
            if isinstance(data, tensor):
                return made[name](data, *args, **kwargs)
            if kwargs.get("device") is not None:
                raise Waits(f"torch.{name} with a device makes the host wait")
            return on_host(made[name](data, *args, **kwargs))

        return function

    def one_hot(labels, num_classes=-1):  # PyTorch's looks at the labels on a CPU, and not on a GPU
        if num_classes < 0:
            raise Waits("one_hot without a number of classes makes the host wait")
        ones = torch.zeros(*labels.shape, num_classes, dtype=torch.long, device=labels.device)
        return ones.scatter(-1, labels[..., None], 1)

    replaced = [(tensor, "cpu", cpu), (tensor, "to", to), (tensor, "new_tensor", new_tensor), (F, "one_hot", one_hot)]
    replaced += [(tensor, name, of_host(name)) for name in ("numpy", "tolist", "__array__")]
    replaced += [(torch, name, make(name)) for name in made]
    with contextlib.ExitStack() as stack:
        for owner, name, method in replaced:
            stack.enter_context(mock.patch.object(owner, name, method))
        stack.enter_context(_Watch())
        yield seen
