"""Signs that a training run is not well, said once and in words."""

from __future__ import annotations

import math
import statistics
from collections import deque
from typing import Any

import torch

from convlora.data.classes.class_table import ClassTable
from convlora.metrics import BinaryScores, MultiClassScores
from convlora.reporting import Reporter

GIVE_UP_AFTER = 5  # optimizer steps in a row without a finite loss
GATE_SHARE = 0.95  # of all choices of an epoch for one expert
NORM_RISE = 100.0  # times the median of the steps before
_NORMS_KEPT = 50
_NORMS_NEEDED = 10


class Health:
    """Watches a run and tells the user of each kind of trouble once.

    Args:
        reporter: Receives the message.
        classes: The classes of the task.
        max_grad_norm: What gradients are clipped to, for the message.
    """

    def __init__(self, reporter: Reporter, classes: ClassTable, max_grad_norm: float) -> None:
        self.reporter, self.classes, self.max_grad_norm = reporter, classes, max_grad_norm
        self._norms: deque[float] = deque(maxlen=_NORMS_KEPT)
        self._said: set[str] = set()

    def state_dict(self) -> dict[str, Any]:
        """What was said and seen so far, so that a resumed run neither repeats a warning nor waits for the usual."""
        return {"said": sorted(self._said), "norms": list(self._norms)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on from what [`state_dict`] returned."""
        self._said = set(state["said"])
        self._norms = deque(state["norms"], maxlen=_NORMS_KEPT)

    def look_at_norm(self, norm: float, step: int) -> None:
        """Warns if the norm of a step's gradients is far above those before."""
        if not math.isfinite(norm):
            return
        if len(self._norms) >= _NORMS_NEEDED:
            usual = statistics.median(self._norms)
            if norm > NORM_RISE * usual > 0:
                clipped = (
                    f"They are clipped to {self.max_grad_norm:g}" if self.max_grad_norm else "They are not clipped"
                )
                self._say(
                    "norm",
                    f"The gradients of step {step} have the norm {norm:.3g}, where {usual:.3g} was usual. "
                    f"{clipped}; if the loss rises from here on, lower --lr.",
                )
        self._norms.append(norm)

    def look_at_answers(self, scores: BinaryScores | MultiClassScores, epoch: int) -> None:
        """Warns if the answer for every validation pixel is the same class, and the truth is not."""
        answer = constant_answer(scores)
        if answer is not None:
            self._say(
                "constant",
                f"After epoch {epoch} the model answers '{self.classes.names[answer]}' for every pixel of the "
                "validation images. If later epochs do not change that, train longer or with a higher --lr, and "
                "look at the masks with: convlora data check DATA.",
            )

    def look_at_gate(self, usage: torch.Tensor | None, epoch: int) -> None:
        """Warns if the gate sends nearly everything to one expert.

        Args:
            usage: `(n,)` choices of each expert in the epoch, over all layers; None without a gate.
            epoch: Which epoch.
        """
        if usage is None or len(usage) < 2 or usage.sum() == 0:
            return
        share, expert = (usage / usage.sum()).max(dim=0)
        if share > GATE_SHARE:
            self._say(
                "gate",
                f"In epoch {epoch} the gate sent {100 * float(share):.0f}% of the feature maps to expert {int(expert)} "
                "(counted from 0), so the others learn nothing. Raise method.load_balancing_weight, or keep "
                "method.gate_noise=true.",
            )

    def _say(self, kind: str, text: str) -> None:
        if kind not in self._said:
            self._said.add(kind)
            self.reporter.message(f"Warning: {text}")


def constant_answer(scores: BinaryScores | MultiClassScores) -> int | None:
    """The class that was answered for every pixel, if there is one and the truth holds others."""
    if isinstance(scores, MultiClassScores):
        true, predicted = scores.confusion.sum(axis=1), scores.confusion.sum(axis=0)
    else:
        sums = {name: sum(image[name] for image in scores.per_image) for name in _CELLS}
        true = (
            sums["true_negatives"] + sums["false_positives"],
            sums["true_positives"] + sums["false_negatives"],
        )
        predicted = (
            sums["true_negatives"] + sums["false_negatives"],
            sums["true_positives"] + sums["false_positives"],
        )
    answered = [index for index, count in enumerate(predicted) if count]
    there = [index for index, count in enumerate(true) if count]
    return answered[0] if len(answered) == 1 and there != answered else None


def likely_cause(precision: str, norms_before: float | None) -> str:
    """Why a loss is not finite, as far as can be told, and what to do."""
    if precision == "fp16":
        return "Numbers may have left the range of fp16: try --precision bf16 or fp32."
    if norms_before is not None and norms_before > 1e3:
        return f"The gradients had grown to {norms_before:.3g} before: lower --lr."
    return "Try a lower --lr" + (", or --precision fp32." if precision == "bf16" else ".")


_CELLS = ("true_positives", "false_positives", "true_negatives", "false_negatives")
