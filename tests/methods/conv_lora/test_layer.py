import copy
import gc
import re
import weakref

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch.utils.checkpoint import checkpoint

from convlora.methods.conv_lora import ConvLoraConfig, load_balancing_loss, set_grid_size
from convlora.methods.conv_lora.grid import TokenGrid
from tests.helpers.count_operations import CountOperations
from tests.helpers.models import TwoLinears
from tests.helpers.tolerances import BY_DTYPE


def adapted(**kwargs):
    settings = {"target_modules": ["first", "second"], "init_lora_weights": False}
    return get_peft_model(TwoLinears(), ConvLoraConfig(**(settings | kwargs)))


# ---- shapes ----


@pytest.mark.parametrize("shape", [(2, 5, 7, 12), (1, 1, 3, 12), (2, 16, 12), (3, 1, 12)])
def test_takes_maps_and_square_grids(shape):
    model = adapted().eval()
    assert model(torch.randn(shape)).shape == (*shape[:-1], 2)


def test_a_token_grid_is_its_map_read_row_by_row():
    model = adapted(grid_size=(3, 5)).eval()
    x = torch.randn(2, 3, 5, 12)
    torch.testing.assert_close(model(x.flatten(1, 2)), model(x).flatten(1, 2))


def test_prefix_tokens_get_the_plain_low_rank_update():
    model = adapted(num_prefix_tokens=2).eval()
    x, prefix = torch.randn(2, 4, 4, 12), torch.randn(2, 2, 12)
    out = model(torch.cat([prefix, x.flatten(1, 2)], dim=1))
    torch.testing.assert_close(out[:, 2:], model(x).flatten(1, 2))
    layer = model.base_model.model.first
    tokens = layer(torch.cat([prefix, x.flatten(1, 2)], dim=1))[:, :2]
    update = layer.lora_B["default"](layer.lora_A["default"](prefix)) * layer.scaling["default"]
    torch.testing.assert_close(tokens, layer.base_layer(prefix) + update)


def test_grid_can_be_stated_later():
    model = adapted().eval()
    x = torch.randn(2, 15, 12)
    with pytest.raises(ValueError, match="square"):
        model(x)
    set_grid_size(model, (3, 5))
    assert model(x).shape == (2, 15, 2)


@pytest.mark.parametrize(
    ("shape", "settings", "remedy"),
    [
        ((2, 15, 12), {}, "grid_size"),
        ((2, 17, 12), {}, "num_prefix_tokens"),
        ((2, 16, 12), {"grid_size": (3, 5)}, "Set `grid_size`"),
        ((4, 12), {}, "target_modules"),
        ((2, 2, 2, 2, 12), {}, "target_modules"),
    ],
)
def test_other_shapes_raise_with_the_shape_received(shape, settings, remedy):
    with pytest.raises(ValueError, match=re.escape(str(shape))) as caught:
        adapted(**settings)(torch.randn(shape))
    assert remedy in str(caught.value)


def test_shapes_are_read_without_images():
    assert TokenGrid().read(torch.Size([2, 9, 16, 8])) == (9, 16)
    assert TokenGrid(prefix=1).read(torch.Size([2, 197, 8])) == (14, 14)
    assert TokenGrid(prefix=1, suffix=2).read(torch.Size([2, 199, 8])) == (14, 14)
    assert TokenGrid(size=(9, 16)).read(torch.Size([2, 144, 8])) == (9, 16)


# ---- numbers ----


@pytest.mark.parametrize("scaling", ["none", "softmax"])
@pytest.mark.parametrize("top_k", [1, 3])
def test_formula(scaling, top_k):
    """y = W0 x + bias + (alpha / r) B (z + sum_i p_i E_i(z)), written out."""
    from tests.helpers.direct_experts import apply_expert

    model = adapted(r=2, num_experts=4, top_k=top_k, gate_scaling=scaling, lora_alpha=6).double().eval()
    layer = model.base_model.model.first
    x = torch.randn(3, 4, 6, 12, dtype=torch.float64)
    z = torch.einsum("bhwc,rc->brhw", x, layer.lora_A["default"].weight)
    logits = z.mean((2, 3)) @ layer.lora_gate["default"].weight.t()
    mixed = z.clone()
    for b in range(3):
        best = logits[b].topk(top_k)
        p = best.values.softmax(0) if scaling == "none" else logits[b].softmax(0)[best.indices]
        for probability, expert in zip(p, best.indices.tolist()):
            weights = layer.lora_experts["default"]
            h = apply_expert(z[b : b + 1], weights.weight[expert], weights.bias[expert], expert + 1)
            mixed[b] += probability * h[0]
    expected = layer.base_layer(x) + 3.0 * torch.einsum("brhw,or->bhwo", mixed, layer.lora_B["default"].weight)
    torch.testing.assert_close(layer(x), expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_near_single(dtype):
    model = adapted().eval()
    x = torch.randn(2, 6, 6, 12)
    expected = model(x)
    half = copy.deepcopy(model).to(dtype)
    out = half(x.to(dtype))
    assert out.dtype == dtype
    rtol, _ = BY_DTYPE[dtype]
    # Layers of small values are summed: the error is relative to the largest, and two layers add up.
    assert (out.float() - expected).abs().max() < 4 * rtol * expected.abs().max()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_base_with_single_precision_adapters_trains(dtype):
    model = get_peft_model(TwoLinears().to(dtype), ConvLoraConfig(target_modules=["first", "second"]))
    out = model(torch.randn(2, 6, 6, 12, dtype=dtype))
    (out.float().square().mean() + load_balancing_loss(model)).backward()
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            assert parameter.dtype == torch.float32, name
            assert torch.isfinite(parameter.grad).all(), name


def test_autocast_trains_and_keeps_the_gate_in_single_precision():
    model = adapted()
    with torch.autocast("cpu", torch.bfloat16):
        out = model(torch.randn(2, 6, 6, 12))
        balance = load_balancing_loss(model)
    assert out.dtype == torch.bfloat16
    assert balance.dtype == torch.float32
    (out.float().mean() + balance).backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.requires_grad)


@pytest.mark.parametrize("num_experts", [1, 4])
@pytest.mark.parametrize("gate_noise", [True, False])
@pytest.mark.parametrize("balance", [True, False])
def test_every_trained_parameter_is_in_the_graph(num_experts, gate_noise, balance):
    """Distributed training must not need a search for unused parameters."""
    model = adapted(num_experts=num_experts, gate_noise=gate_noise)
    loss = model(torch.randn(1, 4, 4, 12)).sum()
    if balance:
        loss = loss + load_balancing_loss(model)
    loss.backward()
    assert [n for n, p in model.named_parameters() if p.requires_grad and p.grad is None] == []


# ---- the load-balancing loss ----


def test_loss_is_summed_over_layers_and_scaled_by_its_weight():
    torch.manual_seed(1)
    model = adapted().eval()
    x = torch.randn(4, 5, 5, 12)
    model(x)
    total = load_balancing_loss(model)
    parts = []
    for name in ("first", "second"):
        (record,) = getattr(model.base_model.model, name).conv_lora_balance.values()
        parts.append(record.value)
    torch.testing.assert_close(total, sum(parts))
    doubled = adapted(load_balancing_weight=0.02).eval()
    doubled.load_state_dict(model.state_dict())
    doubled(x)
    torch.testing.assert_close(load_balancing_loss(doubled), 2 * total)


def test_loss_is_zero_without_layers_or_before_a_forward_pass():
    assert load_balancing_loss(TwoLinears()) == 0
    assert load_balancing_loss(adapted()) == 0


def test_loss_of_a_disabled_adapter_does_not_count():
    model = adapted()
    x = torch.randn(2, 4, 4, 12)
    model(x)
    assert load_balancing_loss(model) > 0
    with model.disable_adapter():
        model(x)
        assert load_balancing_loss(model) == 0
    assert load_balancing_loss(model) == 0, "the loss of an older forward pass came back"


class Checkpointed(TwoLinears):
    def forward(self, x):
        hidden = checkpoint(self.first, x, use_reentrant=False)
        return self.head(checkpoint(self.second, torch.tanh(hidden), use_reentrant=False))


def test_gradient_checkpointing_changes_nothing():
    torch.manual_seed(5)
    plain = adapted()
    config = plain.peft_config["default"]
    recomputed = get_peft_model(Checkpointed(), config)
    recomputed.load_state_dict(plain.state_dict())
    x = torch.randn(3, 5, 4, 12)
    gradients, losses = [], []
    for model in (plain, recomputed):
        torch.manual_seed(9)  # the gate's noise
        balance_and_task = model(x).square().mean()
        balance = load_balancing_loss(model)
        (balance_and_task + balance).backward()
        losses.append(balance.detach())
        gradients.append({n: p.grad for n, p in model.named_parameters() if p.requires_grad})
    assert torch.equal(*losses)
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient, msg=name)
    for module in recomputed.modules():
        for record in getattr(module, "conv_lora_balance", {}).values():
            assert not any(shares.requires_grad for shares in record.shares), "the recomputed graph was kept"


def test_gradient_accumulation_adds_up():
    model = adapted(gate_noise=False)
    batches = torch.randn(2, 3, 4, 4, 12)
    for x in batches:
        ((model(x).square().mean() + load_balancing_loss(model)) / 2).backward()
    accumulated = {n: p.grad.clone() for n, p in model.named_parameters() if p.requires_grad}
    expected = None
    for x in batches:
        model.zero_grad()
        (model(x).square().mean() + load_balancing_loss(model)).backward()
        grads = {n: p.grad.clone() for n, p in model.named_parameters() if p.requires_grad}
        expected = grads if expected is None else {n: (expected[n] + g) / 2 for n, g in grads.items()}
    for name, gradient in accumulated.items():
        torch.testing.assert_close(gradient, expected[name], msg=name)


@pytest.mark.parametrize("step", ["backward", "next forward"])
def test_no_graph_is_kept(step):
    model = adapted()
    x = torch.randn(2, 4, 4, 12, requires_grad=True)
    activation = x * 1.0
    gone = weakref.ref(activation)
    loss = model(activation).sum() + load_balancing_loss(model)
    if step == "backward":
        loss.backward()
    else:
        with torch.no_grad():
            model(torch.randn(1, 4, 4, 12))
    del loss, activation
    gc.collect()
    assert gone() is None


def test_loss_can_be_read_twice_and_after_the_backward_pass():
    model = adapted()
    task = model(torch.randn(2, 4, 4, 12)).sum()
    logged = load_balancing_loss(model).item()
    total = load_balancing_loss(model)
    assert total.requires_grad
    (task + total).backward()
    assert load_balancing_loss(model).item() == pytest.approx(logged)
    assert not load_balancing_loss(model).requires_grad


def test_a_model_can_be_copied_after_a_forward_pass():
    model = adapted()
    model(torch.randn(2, 4, 4, 12))
    assert load_balancing_loss(copy.deepcopy(model)) == 0


class Twice(TwoLinears):
    def forward(self, x):
        return super().forward(torch.tanh(super().forward(x)) @ torch.ones(2, 12))


def test_a_layer_that_runs_twice_counts_twice():
    config = ConvLoraConfig(target_modules=["first"], init_lora_weights=False)
    model = get_peft_model(Twice(), config).eval()
    x = torch.randn(4, 4, 4, 12)
    layer = model.base_model.model.first
    parts = []
    hook = layer.register_forward_hook(lambda module, args, out: parts.append(args[0].detach()))
    model(x)
    hook.remove()
    total = load_balancing_loss(model)
    alone = []
    for part in parts:
        layer(part)
        alone.append(load_balancing_loss(model))
    assert len(alone) == 2
    torch.testing.assert_close(total, alone[0] + alone[1])
    model(x)
    torch.testing.assert_close(load_balancing_loss(model), total)


def test_training_after_a_prediction():
    model = adapted()
    x = torch.randn(2, 4, 6, 12)
    with torch.inference_mode():
        model(x)
    (model(x).sum() + load_balancing_loss(model)).backward()
    assert all(p.grad is not None for p in model.parameters() if p.requires_grad)


def test_dropout_acts_in_training_only():
    model = adapted(lora_dropout=0.5, gate_noise=False)
    x = torch.randn(2, 4, 4, 12)
    assert not torch.equal(model(x), model(x))
    model.eval()
    assert torch.equal(model(x), model(x))


def test_noise_explores_a_gate_at_its_initial_zero():
    model = adapted(target_modules=["first"], init_lora_weights=True)
    layer = model.base_model.model.first
    picked = []
    layer.lora_experts["default"].register_forward_pre_hook(lambda module, args: picked.append(args[1]))
    x = torch.randn(64, 3, 3, 12)
    model(x)
    model.eval()
    model(x)
    assert len(picked[0].unique()) >= 6, "training tries the experts"
    assert picked[1].unique().tolist() == [0], "evaluation does not"


def test_noise_is_standard_normal_and_follows_the_seed():
    from convlora.methods.conv_lora.gate import draw_noise

    torch.manual_seed(3)
    first = draw_noise(torch.zeros(2000, 8))
    torch.manual_seed(3)
    assert torch.equal(draw_noise(torch.zeros(2000, 8)), first)
    assert abs(first.mean().item()) < 0.05
    assert abs(first.std().item() - 1) < 0.05


def test_a_stated_grid_is_saved(tmp_path):
    model = adapted()
    set_grid_size(model, (3, 5), num_prefix_tokens=1)
    model.save_pretrained(tmp_path)
    config = ConvLoraConfig.from_pretrained(tmp_path)
    assert (config.grid_size, config.num_prefix_tokens) == ((3, 5), 1)


def test_a_deleted_adapter_is_forgotten():
    model = adapted()
    model.add_adapter("other", ConvLoraConfig(target_modules=["first"]))
    model.delete_adapter("other")
    layer = model.base_model.model.first
    assert set(layer.conv_lora_settings) == set(layer.conv_lora_balance) == {"default"}


@pytest.mark.parametrize("hooked", [False, True])
def test_the_sum_takes_the_memory_of_the_base_output_unless_a_hook_could_have_kept_it(hooked):
    model = adapted(target_modules=["first"]).eval()
    layer = model.base_model.model.first
    torch.nn.init.normal_(layer.lora_B["default"].weight)
    kept = []
    if hooked:
        layer.base_layer.register_forward_hook(lambda module, args, output: kept.append(output))
    x = torch.randn(1, 5, 5, 12, requires_grad=True)
    out = layer(x)
    expected = torch.nn.functional.linear(x, layer.base_layer.weight, layer.base_layer.bias)
    assert not torch.equal(out, expected)
    for output in kept:
        assert torch.equal(output, expected)
    out.square().sum().backward()
    by_hand = torch.autograd.functional.vjp(layer, x.detach(), 2 * out.detach())[1]
    torch.testing.assert_close(x.grad, by_hand, **BY_DTYPE[torch.float32]._asdict())


def test_function_transforms_and_selective_checkpointing_work():
    from functools import partial

    from torch.utils.checkpoint import CheckpointPolicy, create_selective_checkpoint_contexts

    model = adapted(target_modules=["first"]).eval()
    x = torch.randn(1, 5, 5, 12)

    def loss(x):
        return model(x).square().sum()

    wanted = torch.autograd.functional.jacobian(loss, x)
    torch.testing.assert_close(torch.func.grad(loss)(x), wanted, **BY_DTYPE[torch.float32]._asdict())

    def keep_products(context, operation, *args, **kwargs):
        products = (torch.ops.aten.mm.default, torch.ops.aten.addmm.default)
        return CheckpointPolicy.MUST_SAVE if operation in products else CheckpointPolicy.PREFER_RECOMPUTE

    contexts = partial(create_selective_checkpoint_contexts, keep_products)
    leaf = x.clone().requires_grad_()
    checkpoint(loss, leaf, use_reentrant=False, context_fn=contexts).backward()
    torch.testing.assert_close(leaf.grad, wanted, **BY_DTYPE[torch.float32]._asdict())


def test_a_hook_on_all_modules_sees_the_base_output_as_it_was():
    model = adapted(target_modules=["first"]).eval()
    base = model.base_model.model.first.base_layer
    seen = []
    handle = torch.nn.modules.module.register_module_forward_hook(
        lambda module, args, output: seen.append(output) if module is base else None
    )
    x = torch.randn(1, 5, 5, 12)
    try:
        model(x)
    finally:
        handle.remove()
    assert torch.equal(seen[0], torch.nn.functional.linear(x, base.weight, base.bias))


@pytest.mark.parametrize(("top_k", "scaling", "most"), [(1, "none", 70), (1, "softmax", 120), (2, "none", 120)])
def test_a_layer_takes_few_operations(top_k, scaling, most):
    """A GPU waits for the host where a layer is hundreds of tiny operations."""
    config = ConvLoraConfig(target_modules=["0"], top_k=top_k, gate_scaling=scaling)
    counts = []
    for settings in (LoraConfig(r=3, target_modules=["0"]), config):
        model = get_peft_model(torch.nn.Sequential(torch.nn.Linear(192, 576)), settings).train()
        x = torch.randn(1, 64, 64, 192)
        model(x).sum().backward()  # the constants are made once
        with CountOperations() as counted:
            model(x).sum().backward()
        counts.append(len(counted.names))
    lora, conv_lora = counts
    assert lora < 20
    assert conv_lora < most


def test_the_balance_of_all_layers_is_a_few_operations():
    counts = []
    for layers in (2, 8):
        model = torch.nn.Sequential(*[torch.nn.Linear(4, 4) for _ in range(layers)])
        config = ConvLoraConfig(target_modules=[str(i) for i in range(layers)])
        model = get_peft_model(model, config).train()
        model(torch.randn(2, 3, 3, 4))
        with CountOperations() as counted:
            load_balancing_loss(model)
        counts.append(len(counted.names))
    assert counts[0] == counts[1] < 10
