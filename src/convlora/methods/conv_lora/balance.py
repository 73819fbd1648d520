"""The load-balancing loss, collected from the layers of a model after its forward pass."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import nn


class BalanceRecord:
    """The load-balancing loss of one adapter of one layer, of its last forward pass.

    It must not outlive its step: the graph behind it goes when the loss has been back-propagated, and at the latest
    when the next forward pass begins. Copies and pickles of a model leave it behind.
    """

    def __init__(self) -> None:
        self.value: torch.Tensor | None = None
        self.in_forward = False  # within a forward pass of the model that holds the layer
        self.usage: torch.Tensor | None = None  # (n,) choices of each expert, while they are counted

    def store(self, value: torch.Tensor) -> None:
        """Keeps the loss of a forward pass, except of one that is recomputed during the backward pass.

        Gradient checkpointing runs the forward pass again inside the backward pass. The loss of the first run is the
        one that was back-propagated; the second would keep its graph alive for nothing.
        """
        if not torch.compiler.is_compiling() and in_backward():
            return
        # A layer that runs several times in one pass counts each time.
        self.value = self.value + value if self.in_forward and self.value is not None else value

    def count(self, indices: torch.Tensor, num_experts: int) -> None:
        """Counts the experts chosen, if somebody asked for it; nothing waits for the device.

        Args:
            indices: `(B, top_k)`.
            num_experts: How many there are.
        """
        if self.usage is None or torch.compiler.is_compiling() or in_backward():
            return
        if self.usage.numel() == 0:
            self.usage = torch.zeros(num_experts, device=indices.device)
        chosen = indices.flatten()
        self.usage.scatter_add_(0, chosen, torch.ones_like(chosen, dtype=self.usage.dtype))

    def clear(self) -> None:
        """Forgets the loss and the graph behind it."""
        self.value = None

    def detach(self) -> None:
        """Keeps the number, lets the graph go."""
        if self.value is not None:
            self.value = self.value.detach()

    def __deepcopy__(self, memo: dict[int, Any]) -> BalanceRecord:
        return BalanceRecord()

    def __getstate__(self) -> dict[str, Any]:
        return {"value": None, "in_forward": False, "usage": None}


def load_balancing_loss(model: nn.Module) -> torch.Tensor:
    """Load-balancing loss of a model's Conv-LoRA layers, summed over layers, of the last forward pass.

    Each layer's share is `load_balancing_weight * (cv2(importance) + cv2(load))` for its active adapters. Add it to
    the task loss before `backward()`. With gradient accumulation each forward pass has its own, to be scaled like the
    task loss. Gradient checkpointing must be of the non-reentrant kind (`use_reentrant=False`).

    Args:
        model: Any module that holds Conv-LoRA layers.

    Returns:
        A scalar; 0 if no Conv-LoRA layer was run.

    Source: Shazeer et al., 2017, section 4; Zhong et al., ICLR 2024, section 3.2.
    """
    records = [record for record in _active_records(model) if record.value is not None]
    values = [record.value for record in records if record.value is not None]
    if not values:
        device = next((p.device for p in model.parameters()), torch.device("cpu"))
        return torch.zeros((), device=device)
    # Layers of a model spread over devices meet on the first layer's.
    total = torch.stack([value.to(values[0].device) for value in values]).sum()
    if total.requires_grad:

        def release(grad: torch.Tensor) -> None:
            for record in records:
                record.detach()

        total.register_hook(release)
    return total


def clear_load_balancing_loss(model: nn.Module) -> None:
    """Forgets the losses of the last forward pass. Done by itself when the next one begins."""
    for record in _all_records(model):
        record.clear()


def count_choices(model: nn.Module) -> None:
    """Begins to count which experts the gates choose, from zero."""
    for record in _active_records(model):
        record.usage = torch.empty(0)


def expert_usage(model: nn.Module) -> torch.Tensor | None:
    """How often each expert was chosen since [`count_choices`], summed over layers: `(n,)` on the CPU.

    None if no layer has a gate, or layers have different numbers of experts.
    """
    counts = [r.usage.cpu() for r in _active_records(model) if r.usage is not None and r.usage.numel()]
    if not counts or len({len(one) for one in counts}) > 1:
        return None
    return torch.stack(counts).sum(dim=0)


def begin_forward(module: nn.Module, args: Any) -> None:
    """Hook: a forward pass of the whole model begins."""
    if not in_backward():
        for record in _all_records(module):
            record.clear()
            record.in_forward = True


def end_forward(module: nn.Module, args: Any, output: Any) -> None:
    """Hook: a forward pass of the whole model is over."""
    if not in_backward():
        for record in _all_records(module):
            record.in_forward = False


def _all_records(model: nn.Module) -> Iterator[BalanceRecord]:
    for module in model.modules():
        yield from getattr(module, "conv_lora_balance", {}).values()


def _active_records(model: nn.Module) -> list[BalanceRecord]:
    records: list[BalanceRecord] = []
    for module in model.modules():
        balance: dict[str, BalanceRecord] = getattr(module, "conv_lora_balance", {})
        if balance and not module.disable_adapters:
            active: list[str] = module.active_adapters  # type: ignore[assignment]
            records.extend(balance[name] for name in active if name in balance)
    return records


def in_backward() -> bool:
    """Whether this code runs inside a backward pass, as the forward passes repeated by checkpointing do."""
    # Private, but what torch.utils.checkpoint itself asks to learn the same thing.
    return torch._C._current_graph_task_id() != -1
