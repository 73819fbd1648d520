import copy

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from convlora.methods.conv_lora.experts import ConvExperts
from convlora.methods.conv_lora.fast_experts import ExpertTables, mix_experts
from tests.helpers import direct_experts
from tests.helpers.direct_experts import apply_expert
from tests.helpers.tolerances import BY_DTYPE

EXACT = BY_DTYPE[torch.float64]


def compare(z, experts, indices, weights, tolerance=EXACT):
    """Values and gradients of the fast form against the direct one."""
    inputs = [z, weights, experts.weight, experts.bias]
    probe = torch.randn_like(z)
    fast = experts(z, indices, weights)
    direct = direct_experts.mix_experts(z, experts.weight, experts.bias, indices, weights, experts.scales)
    torch.testing.assert_close(fast, direct, **tolerance._asdict())
    gradients = [torch.autograd.grad((result * probe).sum(), inputs) for result in (fast, direct)]
    for name, a, b in zip(("z", "weights", "weight", "bias"), *gradients):
        torch.testing.assert_close(a, b, **tolerance._asdict(), msg=lambda text, name=name: f"{name}: {text}")


def inputs(batch, rank, size, top_k, experts, dtype=torch.float64):
    z = torch.randn(batch, rank, *size, dtype=dtype, requires_grad=True)
    indices = torch.stack([torch.randperm(experts)[:top_k] for _ in range(batch)])
    return z, indices, torch.rand(batch, top_k, dtype=dtype, requires_grad=True)


@pytest.mark.parametrize("size", [(14, 14), (5, 7), (9, 16), (2, 3), (3, 2), (2, 2), (1, 1), (1, 4), (6, 1), (17, 13)])
@pytest.mark.parametrize("scale", range(1, 9))
def test_each_scale_equals_the_direct_form_border_included(scale, size):
    experts = ConvExperts(3, [scale]).double()
    z, indices, weights = inputs(2, 3, size, 1, 1)
    compare(z, experts, indices, weights)


@pytest.mark.parametrize("top_k", [1, 2, 8])
@pytest.mark.parametrize("size", [(5, 7), (1, 4), (2, 2), (8, 8)])
def test_mixtures_equal_the_direct_form(top_k, size):
    experts = ConvExperts(3, range(1, 9)).double()
    z, indices, weights = inputs(6, 3, size, top_k, 8)
    compare(z, experts, indices, weights)


@given(
    scales=st.lists(st.integers(1, 12), min_size=1, max_size=4),
    rank=st.integers(1, 4),
    height=st.integers(1, 9),
    width=st.integers(1, 9),
    data=st.data(),
)
def test_any_set_of_scales_equals_the_direct_form(scales, rank, height, width, data):
    experts = ConvExperts(rank, scales).double()
    z, indices, weights = inputs(3, rank, (height, width), data.draw(st.integers(1, len(scales))), len(scales))
    compare(z, experts, indices, weights)


def test_single_precision():
    experts = ConvExperts(3, range(1, 9))
    z, indices, weights = inputs(8, 3, (14, 14), 1, 8, torch.float32)
    compare(z, experts, indices, weights, BY_DTYPE[torch.float32])


def test_the_number_of_operations_does_not_grow_with_the_experts():
    from torch.utils._python_dispatch import TorchDispatchMode

    class Count(TorchDispatchMode):
        def __init__(self):
            super().__init__()
            self.names = []

        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            self.names.append(function.__name__)
            return function(*args, **(kwargs or {}))

    counts = []
    for number in (2, 8):
        experts = ConvExperts(3, [2, 4] * (number // 2))
        z, indices, weights = inputs(5, 3, (6, 6), 1, number, torch.float32)
        experts(z, indices, weights)  # the constants are made once
        with Count() as counted:
            experts(z, indices, weights).sum().backward()
        counts.append(counted.names)
    assert counts[0] == counts[1]
    # What makes a GPU wait for the host, or a shape depend on data.
    asking = {"nonzero", "_local_scalar_dense", "item", "index", "masked_select", "unique"}
    assert not asking & {name.split(".")[0] for name in counts[0]}


def test_compiles_without_graph_breaks():
    experts = ConvExperts(3, range(1, 9))
    z, indices, weights = inputs(4, 3, (6, 5), 1, 8, torch.float32)
    tables = ExpertTables(range(1, 9)).to(z)
    explained = torch._dynamo.explain(mix_experts)(z, experts.weight, experts.bias, indices, weights, tables)
    assert explained.graph_break_count == 0, explained.break_reasons
    compiled = torch.compile(experts, backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(compiled(z, indices, weights), experts(z, indices, weights))


def test_constants_are_not_saved_and_follow_the_model():
    experts = ConvExperts(3, range(1, 9))
    assert set(experts.state_dict()) == {"weight", "bias"}
    z, indices, weights = inputs(2, 3, (4, 4), 1, 8, torch.float32)
    single = experts(z, indices, weights)
    double = experts.double()(z.double(), indices, weights.double())
    torch.testing.assert_close(single.double(), double, **BY_DTYPE[torch.float32]._asdict())
    copied = copy.deepcopy(experts)
    assert torch.equal(copied(z.double(), indices, weights.double()), double)


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
