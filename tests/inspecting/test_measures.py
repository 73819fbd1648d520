"""Gates, updates, receptive fields and detail branches whose answer is known."""

from contextlib import nullcontext

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from convlora.data.classes.class_table import ClassTable
from convlora.inference.segmenter import Segmenter
from convlora.inspecting import detail_share, receptive_field
from convlora.inspecting.findings import measure
from convlora.inspecting.gate_choices import gather
from convlora.inspecting.layers import short_names
from convlora.inspecting.receptive_field import Field, ReceptiveField
from convlora.inspecting.update_sizes import UpdateSizes, comparing, weight_ratios
from convlora.methods.conv_lora.balance import watch_choices
from convlora.methods.registry import METHODS
from convlora.models import SamForSemanticSegmentation
from convlora.models.build import adapt
from tests.helpers.models import tiny_sam


def adapted(method, **options):
    return adapt(SamForSemanticSegmentation.from_sam(tiny_sam()), method, options).eval()


def test_the_expert_that_must_be_chosen_in_each_window():
    """Channel 0 of the input has a sign in each window; the gate sends one sign to scale 2, the other to scale 7."""
    model = adapted("conv-lora", r=1, num_experts=3, expert_scales=[1, 2, 7])
    encoder = model.base_model.model.vision_encoder
    signs = torch.tensor([[1.0, -1.0], [1.0, 1.0]])
    with torch.no_grad():
        encoder.patch_embed.projection.weight.zero_()
        encoder.patch_embed.projection.bias.zero_()
        encoder.pos_embed.zero_()
        encoder.pos_embed[0, ..., 0] = signs.repeat_interleave(3, 0).repeat_interleave(3, 1)[:4, :4]
        for block in encoder.layers:
            block.layer_norm1.bias.zero_()
            layer = block.attn.qkv
            layer.lora_A["default"].weight.copy_(torch.eye(1, 32))
            layer.lora_gate["default"].weight.copy_(torch.tensor([[0.0], [1.0], [-1.0]]))
        encoder.layers[1].layer_norm1.weight.zero_()
        encoder.layers[1].layer_norm1.bias[0] = -1
    with torch.no_grad(), watch_choices(model) as chosen:
        model(pixel_values=torch.randn(1, 3, 64, 64))
    first, second = gather(model, [chosen])
    assert short_names([first.name, second.name]) == ["1", "2"]
    assert first.scales == (1, 2, 7)
    assert torch.equal(first.images[0], torch.tensor([[1, 2], [1, 1]]))
    assert first.shares == [0, 0.75, 0.25]
    assert torch.equal(second.images[0], torch.tensor([[2]]))
    with torch.no_grad():
        model(pixel_values=torch.randn(1, 3, 64, 64))
    assert all(len(one) == 1 for one in chosen.values()), "nothing is kept after the block"


def test_an_update_of_known_size():
    model = adapted("lora", r=1, lora_alpha=3)
    layer = model.base_model.model.vision_encoder.layers[0].attn.qkv
    left, right = torch.randn(96, 1), torch.randn(1, 32)
    with torch.no_grad():
        layer.base_layer.weight.copy_(4 * left @ right)
        layer.base_layer.bias.zero_()
        layer.lora_A["default"].weight.copy_(right)
        layer.lora_B["default"].weight.copy_(left)
    sizes = UpdateSizes()
    with torch.no_grad(), comparing(model, sizes):
        model(pixel_values=torch.randn(1, 3, 64, 64))
    assert list(sizes.ratios().values()) == pytest.approx([3 / 4, 0.0])
    assert list(weight_ratios(model).values()) == pytest.approx([3 / 4, 0.0])
    assert short_names(list(sizes.ratios())) == ["1", "2"]


def test_an_encoder_that_is_trained_in_full():
    model = adapted("full")
    encoder = model.base_model.model.vision_encoder
    with torch.no_grad():
        for value in encoder.modules_to_save["default"].layers[1].parameters():
            value.mul_(1.5)
    assert list(weight_ratios(model).values()) == pytest.approx([0.0, 0.5])


def test_without_attention_a_cell_depends_on_its_patch_alone():
    model = SamForSemanticSegmentation.from_sam(tiny_sam())
    with torch.no_grad():
        for block in model.vision_encoder.layers:
            block.attn.proj.weight.zero_()
        kernel = model.vision_encoder.neck.conv2.weight
        middle = kernel[:, :, 1, 1].clone()
        kernel.zero_()
        kernel[:, :, 1, 1] = middle
    field = ReceptiveField()
    field.add(model, torch.randn(1, 3, 64, 64))
    found = field.field()
    assert found.centre == (40, 40)
    assert (found.strength[32:48, 32:48] > 0).all()
    assert found.strength[32:48, 32:48].sum() == pytest.approx(1)
    assert 0 < found.radius(0.5) < found.radius(0.9) < 8 * 2**0.5


class OneConvolution(nn.Module):
    def __init__(self, convolution):
        super().__init__()
        self.get_image_embeddings = convolution


def test_the_field_of_a_known_kernel():
    """Each pixel's strength is the norm of the weights at its place, though the two channels cancel each other."""
    convolution = nn.Conv2d(3, 2, kernel_size=5, stride=4, padding=2)
    with torch.no_grad():
        convolution.weight[1] = -convolution.weight[0]
    field = ReceptiveField()
    field.add(OneConvolution(convolution), torch.randn(1, 3, 16, 16), probes=8)
    known = np.zeros((16, 16))
    known[6:11, 6:11] = convolution.weight.detach().square().sum(dim=(0, 1)).sqrt().numpy()
    assert field.field().strength == pytest.approx(known / known.sum(), rel=1e-5, abs=1e-12)


def test_the_radius_of_a_disc():
    rows = np.arange(101) - 50
    disc = (np.hypot(rows[:, None], rows[None]) <= 40).astype(float)
    field = Field(disc / disc.sum(), (50.5, 50.5))
    assert field.radius(0.5) == pytest.approx(40 / 2**0.5, abs=0.5)
    assert field.radius(1.0) == 40


@pytest.mark.parametrize("num_classes", [2, 3])
def test_a_fresh_detail_branch_adds_nothing(num_classes):
    """And one that was changed adds what the model's answer with it and without it differ by."""
    model = SamForSemanticSegmentation.from_sam(tiny_sam(), num_classes=num_classes, detail="full").eval()
    pixels = torch.randn(1, 3, 64, 64)
    with torch.no_grad(), detail_share.catching(model) as found:
        model(pixel_values=pixels)
        assert (found[0].share, found[0].changed) == (0, 0)
        nn.init.normal_(model.mask_decoder.detail.project.weight)
        output = model(pixel_values=pixels)
        branch, model.mask_decoder.detail = model.mask_decoder.detail, None
        plain = model(pixel_values=pixels)
        model.mask_decoder.detail = branch
    assert len(found) == 2, "without a branch there is nothing to see"
    with_detail, added = (torch.from_numpy(part) for part in (found[1].with_detail, found[1].added))
    if num_classes == 2:
        assert torch.allclose(with_detail, output.foreground[0], atol=1e-5)
        rest = plain.foreground
        assert torch.allclose(added, (output.foreground - rest)[0], atol=1e-4)
        assert found[1].changed == pytest.approx(float(((output.foreground > 0) != (rest > 0)).float().mean()))
    else:
        assert torch.equal(with_detail, output.logits[0].argmax(dim=0))
        rest = nn.functional.interpolate(plain.mask_logits, (64, 64), mode="bilinear", align_corners=False)
        assert torch.allclose(added, (output.mask_logits - rest)[0].abs().mean(dim=0), atol=1e-4)
    size = float((output.foreground if num_classes == 2 else output.mask_logits).sub(rest).abs().mean())
    assert found[1].share == pytest.approx(size / (size + float(rest.abs().mean())), rel=1e-4)
    assert found[1].share > 0.01


@pytest.mark.parametrize("method", [name for name, method in METHODS.items() if method.network is None])
def test_every_method(method):
    """Fresh adapters change nothing, which each measure must see; visual prompts and random weights do."""
    model = adapted(method)
    segmenter = Segmenter(model, ClassTable(("background", "x")), (64, 64))
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    found = measure(segmenter, [("noise", Image.fromarray(noise))])
    assert found.distances.keys() == found.base_distances.keys() == {0, 1}
    assert (found.base_field.strength > 0).any()
    assert not model.base_model.model.vision_encoder._forward_hooks
    if method not in ("vpt", "scratch"):
        assert all(ratio == 0 for ratio in found.updates.values())
        assert found.distances == found.base_distances
        assert np.allclose(found.adapted_field.strength, found.base_field.strength)
    if method == "vpt":
        assert all(ratio > 0 for ratio in found.updates.values())
        assert found.distances[1] != found.base_distances[1]


@pytest.mark.parametrize(("side", "seen"), [(100, slice(34, 66)), (20, slice(0, 20))])
def test_a_run_on_windows_is_looked_at_in_windows(side, seen):
    """Whole images would show it things of another size."""
    pixels = np.random.default_rng(0).integers(0, 256, (side, side, 3), dtype=np.uint8)
    segmenter = Segmenter(adapted("lora"), ClassTable(("background", "x")), (64, 64), window=32)
    found = measure(segmenter, [("noise", Image.fromarray(pixels))], fields=False)
    cut = pixels[seen, seen]
    cut = np.pad(cut, [(0, 32 - len(cut)), (0, 32 - len(cut)), (0, 0)], mode="symmetric")
    expected = Image.fromarray(cut).resize((64, 64), Image.Resampling.BILINEAR)
    assert np.array_equal(np.asarray(found.images[0]), np.asarray(expected))


def test_blocks_that_are_computed_again_give_the_same_field(monkeypatch):
    model, pixels, fields = adapted("conv-lora"), torch.randn(1, 3, 64, 64), []
    for _ in range(2):
        fields.append(ReceptiveField())
        fields[-1].add(model, pixels)
        monkeypatch.setattr(receptive_field, "_little_memory", lambda model: nullcontext())
    assert torch.equal(fields[0].squares, fields[1].squares)
    assert not any("forward" in vars(module) for module in model.modules())
