import pytest
import torch
import torch.nn.functional as F

from convlora.methods.conv_lora.experts import ConvExperts, apply_expert


def slow_mixture(z, experts, indices, weights):
    """One sample and one expert at a time."""
    out = torch.zeros_like(z)
    for b in range(z.shape[0]):
        for slot in range(indices.shape[1]):
            i = int(indices[b, slot])
            h = apply_expert(z[b : b + 1], experts.weight[i], experts.bias[i], experts.scales[i])
            out[b] = out[b] + weights[b, slot] * h[0]
    return out


@pytest.mark.parametrize("top_k", [1, 2])
@pytest.mark.parametrize("size", [(5, 7), (1, 4), (2, 2)])
def test_equals_one_at_a_time(top_k, size):
    experts = ConvExperts(3, range(1, 9)).double()
    z = torch.randn(6, 3, *size, dtype=torch.float64, requires_grad=True)
    indices = torch.stack([torch.randperm(8)[:top_k] for _ in range(6)])
    weights = torch.rand(6, top_k, dtype=torch.float64, requires_grad=True)
    probe = torch.randn_like(z)
    inputs = [z, weights, experts.weight, experts.bias]
    results = [experts(z, indices, weights), slow_mixture(z, experts, indices, weights)]
    torch.testing.assert_close(*results, rtol=1e-10, atol=1e-10)
    gradients = [torch.autograd.grad((result * probe).sum(), inputs) for result in results]
    for fast, slow in zip(*gradients):
        torch.testing.assert_close(fast, slow, rtol=1e-10, atol=1e-10)


def test_unchosen_experts_get_zero_gradients():
    experts = ConvExperts(2, (1, 2, 3))
    experts(torch.randn(2, 2, 4, 4), torch.tensor([[1], [1]]), torch.ones(2, 1)).sum().backward()
    assert experts.weight.grad[1].abs().max() > 0
    assert torch.equal(experts.weight.grad[[0, 2]], torch.zeros(2, 2, 2, 3, 3))
    assert torch.equal(experts.bias.grad[[0, 2]], torch.zeros(2, 2))


def test_scale_one_is_a_plain_convolution():
    z, weight, bias = torch.randn(2, 3, 6, 5), torch.randn(3, 3, 3, 3), torch.randn(3)
    expected = F.gelu(F.conv2d(z, weight, bias, padding=1))
    assert torch.equal(apply_expert(z, weight, bias, 1), expected)


def test_starts_as_a_convolution_would():
    torch.manual_seed(3)
    experts = ConvExperts(3, range(1, 9))
    bound = (3 * 9) ** -0.5
    assert experts.weight.abs().max().item() <= bound
    assert experts.weight.detach().std().item() == pytest.approx(bound / 3**0.5, rel=0.1)
