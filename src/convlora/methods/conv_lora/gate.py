"""The gate: which experts a feature map is sent to, and how evenly they are used."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F

NOISE_FLOOR = 0.01  # smallest standard deviation of the gate's noise
CV_EPSILON = 1e-10  # keeps the squared coefficient of variation finite


class Gating(NamedTuple):
    """What the gate decides for a batch of `B` feature maps.

    Attributes:
        indices: The chosen experts, best first, `(B, top_k)` int64.
        weights: What the outputs of the chosen experts are multiplied by, `(B, top_k)`.
        balance: Unweighted load-balancing loss, `cv2(importance) + cv2(load)`, a scalar.
    """

    indices: torch.Tensor
    weights: torch.Tensor
    balance: torch.Tensor


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

    Args:
        pooled: Mean of the bottleneck's feature map over its cells, `(B, r)`.
        gate_weight: `(n, r)`.
        noise_weight: `(n, r)`.
        top_k: How many experts each sample uses.
        scaling: `"none"`: weights are a soft-max among the chosen; `"softmax"`: among all experts.
        noisy: Add noise, and measure the load by its smooth estimate.

    Returns:
        The choice, the weights and the unweighted load-balancing loss.

    Source: Shazeer et al., "Outrageously Large Neural Networks", 2017, section 2.1 and appendix A; the published
    Conv-LoRA uses `top_k = 1` and does not multiply by the gate's value.
    """
    num_experts = gate_weight.shape[0]
    clean = F.linear(pooled, gate_weight)
    sigma = F.softplus(F.linear(pooled, noise_weight)) + NOISE_FLOOR
    logits = clean + draw_noise(clean) * sigma if noisy else clean

    # A stable sort, unlike top-k, breaks ties alike on every device: a gate at its initial zero picks the first expert.
    ranked, order = torch.sort(logits, dim=-1, descending=True, stable=True)
    indices = order[:, :top_k]
    gates = torch.softmax(ranked[:, :top_k], dim=-1)
    chosen = torch.zeros_like(logits, dtype=torch.bool).scatter(1, indices, True)

    importance = torch.zeros_like(logits).scatter(1, indices, gates).sum(dim=0)
    if noisy and top_k < num_experts:
        # What an expert has to pass to be among the chosen: the best of those left out if it is in, the worst of the
        # chosen if it is out.
        threshold = torch.where(chosen, ranked[:, top_k : top_k + 1], ranked[:, top_k - 1 : top_k])
        load = torch.special.ndtr((clean - threshold) / sigma).sum(dim=0)
    else:
        load = chosen.to(logits.dtype).sum(dim=0)
    balance = squared_variation(importance) + squared_variation(load)

    weights = gates if scaling == "none" else torch.softmax(logits, dim=-1).gather(1, indices)
    # With one expert chosen and no noise, nothing above depends on the gate's weights. They stay in the graph with a
    # zero gradient, so that distributed training needs no search for unused parameters.
    anchor = clean.sum(dim=-1, keepdim=True) + sigma.sum(dim=-1, keepdim=True)
    return Gating(indices, weights + 0.0 * anchor, balance)


def squared_variation(values: torch.Tensor) -> torch.Tensor:
    """Squared coefficient of variation `var / (mean^2 + 1e-10)` of a vector, 0 for fewer than two values."""
    if values.numel() < 2:
        return values.sum() * 0.0
    return values.var() / (values.mean() ** 2 + CV_EPSILON)
