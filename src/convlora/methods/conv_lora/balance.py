"""The load-balancing loss, collected from the layers of a model after its forward pass."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from convlora.methods.conv_lora.gate import Gating, balance_loss

_REENTRANT = (
    "Conv-LoRA's load-balancing loss gets no gradient from reentrant checkpointing, so its gate would not learn. Use "
    "the other kind: gradient_checkpointing_kwargs={'use_reentrant': False}, or checkpoint(..., use_reentrant=False)."
)


class BalanceRecord:
    """How evenly one adapter of one layer used its experts in its last forward pass.

    It must not outlive its step: the graph behind it goes when the loss has been back-propagated, and at the latest
    when the next forward pass begins. Copies and pickles of a model leave it behind.

    Attributes:
        weight: Weight of the layer's share in the load-balancing loss.
        shares: `(2, n)` of each run of the layer in this forward pass, see [`Gating`].
        in_forward: Within a forward pass of the model that holds the layer.
        has_had_graph: Whether a forward pass has ever left shares with a graph behind them.
        usage: `(n,)` choices of each expert, while they are counted.
        choices: The chosen experts `(B, top_k)` of each run of the layer, while they are watched.
    """

    def __init__(self, weight: float) -> None:
        self.weight = weight
        self.shares: list[torch.Tensor] = []
        self.in_forward = False
        self.has_had_graph = False
        self.usage: torch.Tensor | None = None
        self.choices: list[torch.Tensor] | None = None

    def store(self, gating: Gating, training: bool) -> None:
        """Keeps the shares of a forward pass, except of one that is recomputed during the backward pass.

        Gradient checkpointing runs the forward pass again inside the backward pass. The loss of the first run is the
        one that was back-propagated; the second would keep its graph alive for nothing.

        Raises:
            RuntimeError: If the first run had no gradients and the second has, as with reentrant checkpointing. What
                the gate was to learn from the load-balancing loss would be lost.
        """
        if in_backward():
            if gating.shares.requires_grad and not self.has_had_graph and self.weight:
                raise RuntimeError(_REENTRANT)
            return
        self.has_had_graph = self.has_had_graph or gating.shares.requires_grad
        # A layer that runs several times in one pass counts each time.
        self.shares = [*self.shares, gating.shares] if self.in_forward else [gating.shares]
        if training and self.usage is not None:
            self._count(gating.counts.detach())
        if self.choices is not None:
            self.choices.append(gating.indices.detach())

    def _count(self, counts: torch.Tensor) -> None:
        """Counts the experts chosen; nothing waits for the device."""
        if self.usage is None or self.usage.numel() == 0:
            self.usage = counts.clone()
        else:
            self.usage.add_(counts)

    @property
    def value(self) -> torch.Tensor | None:
        """The layer's share in the load-balancing loss; None before a forward pass."""
        return self.weight * balance_loss(torch.stack(self.shares)).sum() if self.shares else None

    def clear(self) -> None:
        """Forgets the forward pass and the graph behind it."""
        self.shares = []

    def detach(self) -> None:
        """Keeps the numbers, lets the graph go."""
        self.shares = [shares.detach() for shares in self.shares]

    def __deepcopy__(self, memo: dict[int, Any]) -> BalanceRecord:
        return BalanceRecord(self.weight)

    def __getstate__(self) -> dict[str, Any]:
        nothing = {"shares": [], "in_forward": False, "has_had_graph": False, "usage": None, "choices": None}
        return {"weight": self.weight, **nothing}


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
    records = [record for record in _active_records(model) if record.shares]
    if not records:
        device = next((p.device for p in model.parameters()), torch.device("cpu"))
        return torch.zeros((), device=device)
    # All layers with as many experts and the same weight are computed together: a few operations for all of them.
    alike: dict[tuple[float, int], list[torch.Tensor]] = {}
    for record in records:
        alike.setdefault((record.weight, record.shares[0].shape[-1]), []).extend(record.shares)
    # Layers of a model spread over devices meet on the first layer's.
    device = records[0].shares[0].device
    parts = [
        weight * balance_loss(torch.stack([one.to(device) for one in shares])).sum()
        for (weight, _), shares in alike.items()
    ]
    total = parts[0] if len(parts) == 1 else torch.stack(parts).sum()
    # Within a compiled function there are no hooks on values; the graph goes when the next forward pass begins.
    if total.requires_grad and not torch.compiler.is_compiling():

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
        if record.usage is None:
            record.usage = torch.empty(0)
        else:  # in place: a captured graph writes there
            record.usage.zero_()


@contextmanager
def preserve_choices(model: nn.Module) -> Iterator[None]:
    """Forward passes within the block are not counted, see [`count_choices`], and leave no loss behind.

    The counters stay where they are in memory.
    """
    before = [(record, record.usage) for record in _all_records(model)]
    counts = [None if usage is None else usage.clone() for _, usage in before]
    try:
        yield
    finally:
        for (record, _), count in zip(before, counts):
            record.clear()
            if count is None:
                record.usage = None
            elif record.usage is not None:
                record.usage.copy_(count) if count.numel() else record.usage.zero_()


def expert_usage(model: nn.Module) -> torch.Tensor | None:
    """How often each expert was chosen since [`count_choices`], summed over layers: `(n,)` on the CPU.

    None if no layer has a gate, or layers have different numbers of experts.
    """
    counts = [r.usage.cpu() for r in _active_records(model) if r.usage is not None and r.usage.numel()]
    if not counts or len({len(one) for one in counts}) > 1:
        return None
    return torch.stack(counts).sum(dim=0)


def layer_usage(model: nn.Module) -> torch.Tensor | None:
    """How often each layer chose each expert since [`count_choices`], `(layers, n)` where the counters are.

    Nothing waits for the device. None as for [`expert_usage`].
    """
    counts = [r.usage for r in _active_records(model) if r.usage is not None and r.usage.numel()]
    if not counts or len({len(one) for one in counts}) > 1:
        return None
    return torch.stack([one.to(counts[0].device) for one in counts])


@contextmanager
def watch_choices(model: nn.Module) -> Iterator[dict[str, list[torch.Tensor]]]:
    """Keeps what the gates choose in forward passes within the block.

    Args:
        model: Any module that holds Conv-LoRA layers.

    Yields:
        For each layer with a gate, by its name, the chosen experts `(B, top_k)` of each pass, best first; `B` counts
        feature maps, which are windows in layers with window attention. Empty if no layer has a gate.
    """
    watched: dict[str, list[torch.Tensor]] = {}
    records: list[BalanceRecord] = []
    for name, module in model.named_modules():
        if not hasattr(module, "conv_lora_balance"):
            continue
        for adapter in module.active_adapters:
            if adapter in module.lora_gate:
                record = module.conv_lora_balance[adapter]
                record.choices = watched.setdefault(name, [])
                records.append(record)
    try:
        yield watched
    finally:
        for record in records:
            record.choices = None


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
    if torch.compiler.is_compiling():  # what is traced is a forward pass
        return False
    # Private, but what torch.utils.checkpoint itself asks to learn the same thing.
    return torch._C._current_graph_task_id() != -1
