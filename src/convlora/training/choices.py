"""What the log says about the experts that the gates chose."""

from __future__ import annotations

import math
from typing import Any

import torch

ENTROPY, SHARE = "expert_entropy", "expert_share_"  # keys of what is logged; a number follows the second


class ChoiceAccount:
    """Makes shares of the counts of choices between two lines of the log."""

    def __init__(self) -> None:
        self._before: torch.Tensor | None = None

    def restart(self) -> None:
        """The counters have been set to zero."""
        self._before = None

    def line(self, counts: torch.Tensor) -> dict[str, float]:
        """What a line says.

        Args:
            counts: How often each layer has chosen each expert since the counters were zero, `(layers, n)`.

        Returns:
            The share of each expert in the choices of all layers since the last line, and the entropy of the choices of
            a layer over `log(n)`, averaged over layers: 1 if all experts are chosen equally often, 0 if a layer always
            chooses the same. Empty if there was nothing to choose.
        """
        new = counts if self._before is None else counts - self._before
        self._before = counts
        of_layers = new.sum(dim=1, keepdim=True)
        if new.shape[1] < 2 or not bool((of_layers > 0).all()) or not bool(torch.isfinite(new).all()):
            return {}
        shares = new.sum(dim=0) / new.sum()
        entropy = torch.special.entr(new / of_layers).sum(dim=1).mean() / math.log(new.shape[1])
        return {ENTROPY: float(entropy), **{f"{SHARE}{number}": float(one) for number, one in enumerate(shares)}}


def entry_of(logs: dict[str, Any]) -> dict[str, Any]:
    """What `log.jsonl` says of that: `expert_shares`, a list, and `expert_entropy`; empty without gates."""
    if ENTROPY not in logs:
        return {}
    count = sum(name.startswith(SHARE) for name in logs)
    return {
        "expert_shares": [round(logs[f"{SHARE}{number}"], 4) for number in range(count)],
        ENTROPY: round(logs[ENTROPY], 4),
    }
