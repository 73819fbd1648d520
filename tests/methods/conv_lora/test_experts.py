import copy

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from convlora.methods.conv_lora.experts import ConvExperts
from convlora.methods.conv_lora.resampling import axis_tables
from tests.helpers import direct_experts
from tests.helpers.count_operations import CountOperations
from tests.helpers.direct_experts import apply_expert
from tests.helpers.tolerances import BY_DTYPE

EXACT = BY_DTYPE[torch.float64]


def mix(experts, z, indices, weights=None):
    """The experts of maps with the channels first."""
    return experts(z.permute(0, 2, 3, 1), indices, weights).permute(0, 3, 1, 2)


def compare(z, experts, indices, weights, tolerance=EXACT):
    """Values and gradients of the fast form against the direct one."""
    inputs = [z, weights, experts.weight, experts.bias]
    probe = torch.randn_like(z)
    fast = mix(experts, z, indices, weights)
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


@pytest.mark.parametrize("top_k", [1, 2])
def test_no_weights_means_ones(top_k):
    experts = ConvExperts(3, range(1, 9)).double()
    z, indices, weights = inputs(3, 3, (6, 5), top_k, 8)
    assert torch.equal(mix(experts, z, indices), mix(experts, z, indices, torch.ones_like(weights)))


def test_the_number_of_operations_does_not_grow_with_the_experts():
    counts = []
    for number in (2, 8):
        experts = ConvExperts(3, [2, 4] * (number // 2))
        z, indices, _ = inputs(5, 3, (6, 6), 1, number, torch.float32)
        mix(experts, z, indices)  # the constants are made once
        with CountOperations() as counted:
            mix(experts, z, indices).sum().backward()
        counts.append(counted.names)
    assert counts[0] == counts[1]
    assert len(counts[0]) < 40
    # What makes a GPU wait for the host, has a shape that depends on data, or adds up in an order of its own on a GPU.
    refused = {"nonzero", "_local_scalar_dense", "item", "index", "masked_select", "unique", "index_add", "scatter_add"}
    assert not refused & set(counts[0])


@pytest.mark.parametrize("dynamic", [False, True])
def test_compiles_without_graph_breaks(dynamic):
    experts = ConvExperts(3, range(1, 9))
    compiled = torch.compile(experts, backend="aot_eager", fullgraph=True, dynamic=dynamic)
    for size in ((6, 5), (4, 4)):
        z, indices, weights = inputs(4, 3, size, 1, 8, torch.float32)
        maps = z.permute(0, 2, 3, 1)
        torch.testing.assert_close(compiled(maps, indices, weights), experts(maps, indices, weights))


def test_tables_are_shared_and_serve_in_training_if_made_in_a_prediction():
    with torch.inference_mode():
        made = axis_tables((1, 2, 3), 11, torch.float32, torch.device("cpu"))
    assert axis_tables((1, 2, 3), 11, torch.float32, torch.device("cpu")) is made
    assert not made.enlarge.is_inference()


def test_constants_are_not_saved_and_follow_the_model():
    experts = ConvExperts(3, range(1, 9))
    assert set(experts.state_dict()) == {"weight", "bias"}
    z, indices, weights = inputs(2, 3, (4, 4), 1, 8, torch.float32)
    single = mix(experts, z, indices, weights)
    double = mix(experts.double(), z.double(), indices, weights.double())
    torch.testing.assert_close(single.double(), double, **BY_DTYPE[torch.float32]._asdict())
    copied = copy.deepcopy(experts)
    assert torch.equal(mix(copied, z.double(), indices, weights.double()), double)


def test_unchosen_experts_get_zero_gradients():
    experts = ConvExperts(2, (1, 2, 3))
    mix(experts, torch.randn(2, 2, 4, 4), torch.tensor([[1], [1]])).sum().backward()
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
