"""The exact forms of SAM's attention against transformers' eager one."""

import copy

import pytest
import torch
from transformers import SamVisionConfig
from transformers.models.sam.modeling_sam import SamVisionAttention

from convlora.models import SamForSemanticSegmentation, attention, attention_blocks
from convlora.models.attention import RelativeAttention, set_attention
from tests.helpers.models import tiny_sam
from tests.helpers.tolerances import BY_DTYPE, MODEL

SIZES = [(4, 4), (6, 9), (14, 14), (1, 5), (13, 2)]


def layer(size, use_rel_pos=True):
    config = SamVisionConfig(hidden_size=24, num_attention_heads=2, image_size=64, use_rel_pos=use_rel_pos)
    module = SamVisionAttention(config, window_size=size[0])
    if use_rel_pos:
        module.rel_pos_h = torch.nn.Parameter(torch.randn(2 * size[0] - 1, 12))
        module.rel_pos_w = torch.nn.Parameter(torch.randn(2 * size[1] - 1, 12))
    return module


def values_and_gradients(module, x, probe):
    out, _ = module(x)
    return [out, *torch.autograd.grad((out * probe).sum(), [x, *module.parameters()])]


@pytest.mark.parametrize("scores", [1, 37, 400, 1 << 21], ids=lambda n: f"{n} scores at a time")
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("form", ["blocks", "vectors"])
def test_equals_eager_in_values_and_gradients(form, size, scores, monkeypatch):
    monkeypatch.setattr(attention_blocks, "BLOCK_SCORES", scores)
    module = layer(size)
    x = torch.randn(3, *size, 24, requires_grad=True)
    probe = torch.randn(3, *size, 24)
    expected = values_and_gradients(module, x, probe)
    module.__class__, module.form = RelativeAttention, form
    actual = values_and_gradients(module, x, probe)
    names = ["output", "input", *(name for name, _ in module.named_parameters())]
    for name, a, b in zip(names, actual, expected):
        scale = b.abs().max().clamp(min=1.0)  # gradients of parameters are sums over all cells
        torch.testing.assert_close(a / scale, b / scale, **BY_DTYPE[torch.float32]._asdict(), msg=name)


@pytest.mark.parametrize("form", ["blocks", "vectors"])
def test_without_relative_positions(form):
    module = layer((4, 6), use_rel_pos=False)
    x = torch.randn(2, 4, 6, 24)
    expected = module(x)[0]
    module.__class__, module.form = RelativeAttention, form
    torch.testing.assert_close(module(x)[0], expected, **BY_DTYPE[torch.float32]._asdict())


def test_blocks_in_double_precision_pass_gradcheck(monkeypatch):
    monkeypatch.setattr(attention_blocks, "BLOCK_SCORES", 10)
    shapes = [(1, 2, 6, 3)] * 3 + [(1, 2, 6, 2), (1, 2, 6, 3)]
    inputs = [torch.randn(shape, dtype=torch.float64, requires_grad=True) for shape in shapes]
    assert torch.autograd.gradcheck(lambda *a: attention_blocks.attend_in_blocks(*a, 0.5), inputs)


def test_large_scores_do_not_overflow():
    q, k, v = (torch.randn(1, 1, 9, 4) * 100 for _ in range(3))
    rows, columns = torch.randn(1, 1, 9, 3) * 1000, torch.randn(1, 1, 9, 3) * 1000
    blocks = attention_blocks.attend_in_blocks(q, k, v, rows, columns, 1.0)
    assert torch.isfinite(blocks).all()
    torch.testing.assert_close(blocks, attention.attend_with_vectors(q, k, v, rows, columns, 1.0), rtol=1e-4, atol=1e-3)


def test_nothing_of_the_size_of_the_attention_matrix_is_kept():
    kept = []
    module = layer((16, 16))
    module.__class__, module.form = RelativeAttention, "blocks"
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t.numel()) or t, lambda t: t):
        module(torch.randn(1, 16, 16, 24, requires_grad=True))
    assert max(kept) < 2 * 256 * 256


@pytest.mark.parametrize("form", ["auto", "blocks", "vectors"])
@pytest.mark.parametrize("size", [64, (48, 80)])
def test_whole_models_agree(form, size):
    stock = SamForSemanticSegmentation.from_sam(tiny_sam(), image_size=size, attention="eager").eval()
    ours = SamForSemanticSegmentation.from_sam(tiny_sam(), image_size=size, attention=form).eval()
    assert {type(block.attn) for block in stock.vision_encoder.layers} == {SamVisionAttention}
    assert {type(block.attn) for block in ours.vision_encoder.layers} == {RelativeAttention}
    height, width = stock.config.image_size
    pixels = torch.randn(2, 3, height, width)
    torch.testing.assert_close(ours(pixels).logits, stock(pixels).logits, **MODEL._asdict())
    labels = torch.randint(0, 2, (2, height, width))
    for model in (stock, ours):
        model(pixels, labels=labels).loss.backward()
    # The gradient of a key's bias is zero but for rounding, because soft-max ignores a common shift.
    smallest = 1e-2 * max(float(p.grad.abs().max()) for p in stock.parameters() if p.grad is not None)
    for (name, a), b in zip(ours.named_parameters(), stock.parameters()):
        if a.grad is not None:
            scale = b.grad.abs().max().clamp(min=smallest)
            torch.testing.assert_close(a.grad / scale, b.grad / scale, rtol=1e-3, atol=1e-4, msg=name)


class Given(torch.nn.Module):
    """Stands in for the fused projection: its output is given."""

    def __init__(self, qkv):
        super().__init__()
        self.qkv, self.out_features = qkv, qkv.shape[-1]

    def forward(self, hidden_states):
        return self.qkv


@pytest.mark.parametrize("scores", [37, 1 << 21], ids=lambda n: f"{n} scores at a time")
@pytest.mark.parametrize("size", [(14, 14), (6, 9)])
@pytest.mark.parametrize("form", ["blocks", "vectors"])
def test_half_precision_on_a_cpu_rounds_nothing_but_the_result(form, size, scores, monkeypatch):
    """Queries, keys and values in bf16; eager attention on the same numbers in double precision is the judge."""
    monkeypatch.setattr(attention_blocks, "BLOCK_SCORES", scores)
    judge, x = layer(size), torch.empty(3, *size, 24)
    qkv, probe = torch.randn(3, *size, 72).bfloat16(), torch.randn(3, *size, 24).bfloat16()
    judge.proj = torch.nn.Identity()
    ours = copy.deepcopy(judge)
    ours.__class__, ours.form = RelativeAttention, form
    found = []
    for module, dtype in ((judge.double(), torch.float64), (ours, torch.bfloat16)):
        module.qkv = Given(qkv.to(dtype).requires_grad_())
        leaves = [module.qkv.qkv, module.rel_pos_h, module.rel_pos_w]
        with torch.autocast("cpu", torch.bfloat16, enabled=dtype is torch.bfloat16):
            out, _ = module(x)
        found.append([out.detach(), *torch.autograd.grad(out, leaves, probe.to(dtype))])
    half = 2**-8  # twice what rounding to bf16 may change
    for name, expected, value in zip(("output", "qkv", "rows", "columns"), *found, strict=True):
        rtol = half if value.dtype is torch.bfloat16 else 1e-5
        atol = 1e-5 * expected.detach().abs().max().item()
        torch.testing.assert_close(
            value.double(), expected, rtol=rtol, atol=atol, msg=lambda text, n=name: f"{n}: {text}"
        )


def test_autocast_changes_nothing_in_blocks_not_even_around_the_backward_pass():
    shapes = [(1, 2, 6, 3)] * 3 + [(1, 2, 6, 2), (1, 2, 6, 3)]
    inputs, found = [torch.randn(shape, requires_grad=True) for shape in shapes], []
    for enabled in (False, True):
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            out = attention_blocks.attend_in_blocks(*inputs, 0.5)
            found.append([out, *torch.autograd.grad(out.square().sum(), inputs)])
    assert all(torch.equal(one, other) for one, other in zip(*found))


def test_whole_models_in_half_precision_are_no_worse_than_transformers():
    pixels, errors = torch.randn(2, 3, 64, 64), {}
    exact = SamForSemanticSegmentation.from_sam(tiny_sam(), attention="eager").double().eval()
    with torch.no_grad():
        expected = exact.get_image_embeddings(pixels.double())
        for form in ("eager", "blocks", "vectors"):
            model = SamForSemanticSegmentation.from_sam(tiny_sam(), attention=form).eval()
            with torch.autocast("cpu", torch.bfloat16):
                actual = model.get_image_embeddings(pixels)
            errors[form] = float((actual.double() - expected).norm() / expected.norm())
    assert errors["eager"] < 0.02
    assert max(errors.values()) < 1.1 * errors["eager"]


def test_maps_too_wide_for_fused_kernels_go_in_blocks(monkeypatch):
    module = layer((6, 6))
    module.__class__, module.form = RelativeAttention, "auto"
    x = torch.randn(1, 6, 6, 24, device="meta")
    assert module._form(x, 12) == "vectors"
    monkeypatch.setattr(attention, "MOST_CHANNELS", 23)  # 12 of a head, 6 rows and 6 columns make 24
    assert module._form(x, 12) == "blocks"


def test_few_cells_on_a_cpu_go_as_vectors():
    module = layer((6, 6))
    module.__class__, module.form = RelativeAttention, "auto"
    assert module._form(torch.empty(1, 32, 64, 24), 96) == "vectors"
    assert module._form(torch.empty(9, 14, 14, 24), 28) == "vectors"
    assert module._form(torch.empty(25, 14, 14, 24), 28) == "blocks"
    assert module._form(torch.empty(1, 64, 64, 24), 128) == "blocks"


@pytest.mark.parametrize("form", ["blocks", "vectors"])
def test_tables_follow_their_parameters(form):
    module = layer((4, 6)).requires_grad_(False)
    x = torch.randn(2, 4, 6, 24)
    module.__class__, module.form = RelativeAttention, form
    module(x)
    with torch.no_grad():
        module.rel_pos_h.mul_(3)
        module.rel_pos_w = torch.nn.Parameter(torch.randn(11, 12), requires_grad=False)
    actual = module(x)[0]
    module.__class__ = SamVisionAttention
    torch.testing.assert_close(actual, module(x)[0], **BY_DTYPE[torch.float32]._asdict())


def test_vectors_in_half_precision():
    module = layer((8, 8)).requires_grad_(False)
    module.__class__, module.form = RelativeAttention, "vectors"
    x = torch.randn(2, 8, 8, 24)
    exact = copy.deepcopy(module).double()(x.double())[0]
    half = module.to(torch.bfloat16)(x.to(torch.bfloat16))[0]
    assert (half.double() - exact).norm() < 0.02 * exact.norm()


def test_the_form_can_be_changed_and_is_saved(tmp_path):
    model = SamForSemanticSegmentation.from_sam(tiny_sam(), attention="vectors")
    model.save_pretrained(tmp_path)
    assert SamForSemanticSegmentation.from_pretrained(tmp_path).vision_encoder.layers[0].attn.form == "vectors"
    other = SamForSemanticSegmentation.from_pretrained(tmp_path, attention="eager")
    assert type(other.vision_encoder.layers[0].attn) is SamVisionAttention
    with pytest.raises(ValueError, match="auto, blocks, vectors, sdpa, eager"):
        set_attention(model.vision_encoder, "flash")
