import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from convlora.methods.conv_lora.gate import balance_loss, noisy_top_k


@given(
    batch=st.integers(1, 6),
    experts=st.integers(1, 8),
    data=st.data(),
    noisy=st.booleans(),
    scaling=st.sampled_from(["none", "softmax"]),
)
def test_properties(batch, experts, data, noisy, scaling):
    top_k = data.draw(st.integers(1, experts))
    pooled, gate, noise = torch.randn(batch, 3), torch.randn(experts, 3), torch.randn(experts, 3)
    gating = noisy_top_k(pooled, gate, noise, top_k=top_k, scaling=scaling, noisy=noisy)
    weights = torch.ones(batch, 1) if gating.weights is None else gating.weights
    assert gating.indices.shape == weights.shape == (batch, top_k)
    assert all(len(set(row.tolist())) == top_k for row in gating.indices)
    total = weights.sum(dim=1)
    if scaling == "none":
        torch.testing.assert_close(total, torch.ones(batch))
    else:
        assert (total <= 1 + 1e-6).all()
    assert (weights[:, :-1] >= weights[:, 1:]).all()
    assert gating.counts.sum() == batch * top_k
    torch.testing.assert_close(gating.shares[0].sum(), torch.tensor(float(batch)))
    balance = balance_loss(gating.shares)
    assert torch.isfinite(balance)
    assert balance >= 0


def test_one_expert_of_published_gate_has_weight_exactly_one():
    gating = noisy_top_k(torch.randn(5, 3), torch.randn(8, 3), torch.randn(8, 3), top_k=1, noisy=True)
    assert gating.weights is None  # which stands for 1


def test_zero_gate_picks_the_first_expert():
    gating = noisy_top_k(torch.randn(4, 3), torch.zeros(8, 3), torch.zeros(8, 3), top_k=2)
    assert gating.indices.tolist() == [[0, 1]] * 4


def slow_load(clean, logits, sigma, top_k):
    """The probability that an expert stays among the chosen if only its own noise is drawn again, one by one."""
    load = torch.zeros(clean.shape[1], dtype=clean.dtype)
    for b in range(clean.shape[0]):
        for m in range(clean.shape[1]):
            others = sorted((float(logits[b, j]) for j in range(clean.shape[1]) if j != m), reverse=True)
            z = (clean[b, m] - others[top_k - 1]) / sigma[b, m]
            load[m] += 0.5 * (1 + torch.erf(z / 2**0.5))
    return load


@pytest.mark.parametrize("top_k", [1, 2, 3])
def test_load_is_the_chance_of_being_chosen(top_k, monkeypatch):
    from convlora.methods.conv_lora import gate as gate_module

    pooled, gate, noise = (torch.randn(*shape, dtype=torch.float64) for shape in ((4, 3), (5, 3), (5, 3)))
    draw = torch.randn(4, 5, dtype=torch.float64)
    monkeypatch.setattr(gate_module, "draw_noise", lambda like: draw)
    gating = noisy_top_k(pooled, gate, noise, top_k=top_k, noisy=True)
    clean = pooled @ gate.t()
    sigma = torch.nn.functional.softplus(pooled @ noise.t()) + 0.01
    logits = clean + draw * sigma
    importance = torch.zeros(5, dtype=torch.float64)
    for b in range(4):
        best = logits[b].topk(top_k)
        importance[best.indices] += best.values.softmax(0)
    shares = importance, slow_load(clean, logits, sigma, top_k)
    torch.testing.assert_close(gating.shares, torch.stack(shares), rtol=1e-10, atol=1e-10)
    expected = sum(share.var() / (share.mean() ** 2 + 1e-10) for share in shares)
    torch.testing.assert_close(balance_loss(gating.shares), expected, rtol=1e-10, atol=1e-10)


def test_softmax_scaling_lets_the_task_teach_the_gate():
    gate = torch.randn(8, 3, requires_grad=True)
    gating = noisy_top_k(torch.randn(4, 3), gate, torch.zeros(8, 3), top_k=1, scaling="softmax")
    (gradient,) = torch.autograd.grad(gating.weights.sum(), gate)
    assert gradient.abs().max() > 0
