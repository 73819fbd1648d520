"""The gate: which experts a feature map is sent to, and how evenly they are used."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F

from convlora.tracing import is_traced

NOISE_FLOOR = 0.01  # smallest standard deviation of the gate's noise
CV_EPSILON = 1e-10  # keeps the squared coefficient of variation finite


class Gating(NamedTuple):
    """What the gate decides for a batch of `B` feature maps.

    Attributes:
        indices: The chosen experts, best first, `(B, top_k)` int64.
        weights: What the outputs of the chosen experts are multiplied by, `(B, top_k)`; None where that is always 1.
        counts: How many maps each expert was chosen for, `(n,)`.
        shares: How evenly they are used, `(2, n)`: importance (sum of the gates) and load of each expert, for
            [`balance_loss`].
    """

    indices: torch.Tensor
    weights: torch.Tensor | None
    counts: torch.Tensor
    shares: torch.Tensor


def draw_noise(like: torch.Tensor) -> torch.Tensor:
    """Standard normal noise for the gate's logits, from torch's global generator."""
    return torch.randn_like(like)


def noisy_top_k(
    pooled: torch.Tensor,
    gate_weight: torch.Tensor,
    noise_weight: torch.Tensor,
    *,
    top_k: int,
    scaling: str = "none",
    noisy: bool = False,
) -> Gating:
    """Chooses `top_k` of `n` experts for each sample.

        clean  = pooled W_gate^T
        logits = clean + noise * (softplus(pooled W_noise^T) + 0.01)      (the noise in training only)

    Every map costs a few numbers, so what counts on a GPU is the number of operations. There are as few as the
    settings allow, and the soft-max among the chosen is left out where it is 1.

    Args:
        pooled: Mean of the bottleneck's feature map over its cells, `(B, r)`.
        gate_weight: `(n, r)`.
        noise_weight: `(n, r)`.
        top_k: How many experts each sample uses.
        scaling: `"none"`: weights are a soft-max among the chosen; `"softmax"`: among all experts.
        noisy: Add noise, and measure the load by its smooth estimate.

    Returns:
        The choice, the weights, and how evenly the experts are used.

    Source: Shazeer et al., "Outrageously Large Neural Networks", 2017, section 2.1 and appendix A; the published
    Conv-LoRA uses `top_k = 1` and does not multiply by the gate's value.
    """
    num_experts = gate_weight.shape[0]
    clean = F.linear(pooled, gate_weight)
    logits = clean
    if noisy:
        sigma = F.softplus(F.linear(pooled, noise_weight)) + NOISE_FLOOR
        logits = torch.addcmul(clean, draw_noise(clean), sigma)

    ranked, order = _best_first(logits, num_experts if noisy else top_k)
    indices = order[:, :top_k]
    choice = one_hot(indices, num_experts, logits.dtype)  # (B, top_k, n)
    chosen = choice[:, 0] if top_k == 1 else choice.sum(dim=1)
    counts = chosen.sum(dim=0)

    gates = torch.softmax(ranked[:, :top_k], dim=-1) if top_k > 1 else None  # of one number: 1
    importance = counts if gates is None else (choice * gates[:, :, None]).sum(dim=(0, 1))
    load = counts
    if noisy and top_k < num_experts:
        # What an expert has to pass to be among the chosen: the best of those left out if it is in, the worst of the
        # chosen if it is out.
        last_in, first_out = ranked[:, top_k - 1 : top_k], ranked[:, top_k : top_k + 1]
        threshold = torch.lerp(last_in, first_out, chosen)  # exact at 0 and 1
        load = torch.special.ndtr((clean - threshold) / sigma).sum(dim=0)

    weights = gates if scaling == "none" else torch.softmax(logits, dim=-1).gather(1, indices)
    return Gating(indices, weights, counts, torch.stack([importance, load]))


def _best_first(logits: torch.Tensor, number: int) -> tuple[torch.Tensor, torch.Tensor]:
    """At least so many of the largest logits and whose they are, both `(B, ...)`; of equal ones the first comes first.

    A stable sort, unlike top-k, breaks ties alike on every device: a gate at its initial zero picks the first expert.
    ONNX knows no stable sort, but its arg-max is the first of equal ones, as PyTorch's: an exported gate looks for the
    largest again and again.
    """
    if not is_traced():
        ranked, order = torch.sort(logits, dim=-1, descending=True, stable=True)
        return ranked, order
    rest, places = logits, []
    for _ in range(number):
        place = rest.argmax(dim=-1, keepdim=True)
        places.append(place)
        rest = rest.masked_fill(one_hot(place[:, 0], logits.shape[-1], logits.dtype) > 0, -torch.inf)
    order = torch.cat(places, dim=-1)
    return logits.gather(1, order), order


def one_hot(indices: torch.Tensor, count: int, dtype: torch.dtype) -> torch.Tensor:
    """One-hot vectors `(..., count)` of indices `(...,)`, in one operation."""
    return _identity(count, dtype, indices.device).index_select(0, indices.flatten()).view(*indices.shape, count)


@torch.compiler.assume_constant_result
def _identity(count: int, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    if is_traced():  # what is made of a stand-in for a tensor must not stay
        return torch.eye(count, dtype=dtype, device=device)
    return _cached_identity(count, dtype, device)


@lru_cache(maxsize=64)
def _cached_identity(count: int, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    with torch.inference_mode(False):  # made in a prediction, it must serve in training too
        return torch.eye(count, dtype=dtype, device=device)


def balance_loss(shares: torch.Tensor) -> torch.Tensor:
    """The unweighted load-balancing loss `cv2(importance) + cv2(load)`.

    `cv2` is the squared coefficient of variation `var / (mean^2 + 1e-10)`, 0 for fewer than two experts.

    Args:
        shares: `(..., 2, n)`, see [`Gating`]; the losses of many layers are computed together.

    Returns:
        `(...,)`.
    """
    if shares.shape[-1] < 2:
        return shares.sum(dim=(-2, -1)) * 0.0
    variance, mean = torch.var_mean(shares, dim=-1)
    return (variance / (mean.square() + CV_EPSILON)).sum(dim=-1)


class _WithZeroGradients(torch.autograd.Function):
    """A tensor as it is, with parameters that get a gradient of zero from it."""

    @staticmethod
    def forward(values: torch.Tensor, gate_weight: torch.Tensor, noise_weight: torch.Tensor) -> torch.Tensor:
        return values.view_as(values)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        ctx.save_for_backward(*inputs[1:])

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return grads[0], *(torch.zeros_like(weight) for weight in ctx.saved_tensors)


def keep_in_graph(values: torch.Tensor, gate_weight: torch.Tensor, noise_weight: torch.Tensor) -> torch.Tensor:
    """Lets the gate's parameters take part in whatever is made of `values`, with a gradient of zero.

    With one expert chosen, the output of a layer does not depend on them, and the load-balancing loss only where there
    is noise. Distributed training would have to search for parameters that got no gradient.
    """
    if is_traced():
        return values
    kept: torch.Tensor = _WithZeroGradients.apply(values, gate_weight, noise_weight)
    return kept
