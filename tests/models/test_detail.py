import pytest
import torch

from convlora.methods.registry import apply_method
from convlora.models import SamForSemanticSegmentation
from convlora.models.autocast import autocast
from convlora.models.detail import DetailBranch
from convlora.models.layer_names import MODULES_TO_SAVE, sam_layers
from convlora.training.config import RunConfig
from convlora.training.model import adapt_base
from tests.helpers.models import tiny_sam
from tests.helpers.tolerances import BY_DTYPE

HEADS = [{}, {"num_classes": 3}, {"num_classes": 3, "head": "per-pixel"}]


def segmenter(detail="half", **task):
    torch.manual_seed(0)
    return SamForSemanticSegmentation.from_sam(tiny_sam(), detail=detail, **task)


def wake(model):
    """Weights for the zeros that a branch starts with."""
    for name, parameter in model.mask_decoder.detail.named_parameters():
        if "project" in name or "kernels" in name:
            torch.nn.init.normal_(parameter)
    return model


@pytest.mark.parametrize("detail", ["half", "full"])
@pytest.mark.parametrize("size", [64, (48, 80)])
def test_a_fresh_branch_changes_no_binary_logit(detail, size):
    plain = SamForSemanticSegmentation.from_sam(tiny_sam(), image_size=size).eval()
    branch = segmenter(detail, image_size=size).eval()
    pixels = torch.randn(2, 3, *plain.config.image_size)
    assert torch.equal(branch(pixels).logits, plain(pixels).logits)
    assert not torch.equal(wake(branch)(pixels).logits, plain(pixels).logits)


@pytest.mark.parametrize("task", HEADS[1:])
@pytest.mark.parametrize(("detail", "finer"), [("half", 2), ("full", 4)])
def test_a_fresh_branch_enlarges_the_masks_of_several_classes(detail, finer, task):
    plain, branch = segmenter("none", **task).eval(), segmenter(detail, **task).eval()
    branch.mask_decoder.mask_tokens.load_state_dict(plain.mask_decoder.mask_tokens.state_dict())
    pixels = torch.randn(2, 3, 64, 64)
    coarse, fine = plain(pixels).mask_logits, branch(pixels).mask_logits
    assert (coarse.shape[-1], fine.shape[-1]) == (16, finer * 16)
    expected = torch.nn.functional.interpolate(coarse, scale_factor=finer, mode="bilinear")
    torch.testing.assert_close(fine, expected, **BY_DTYPE[torch.float32]._asdict())


@pytest.mark.parametrize("task", HEADS)
@pytest.mark.parametrize("detail", ["half", "full"])
def test_every_weight_of_the_branch_learns(detail, task):
    model = wake(segmenter(detail, **task)).train()
    labels = torch.arange(64).expand(2, 64, 64) % model.config.num_classes
    model(torch.randn(2, 3, 64, 64), labels=labels).loss.backward()
    for name, parameter in model.mask_decoder.detail.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().max() > 0, name


@pytest.mark.parametrize("head", ["mask-classification", "per-pixel"])
@pytest.mark.parametrize("detail", ["half", "full"])
def test_each_token_of_several_classes_has_a_kernel_of_its_own(detail, head):
    """With all tokens alike, a mask differs from another only by these kernels."""
    model = segmenter(detail, num_classes=3, head=head).eval()
    decoder, pixels = model.mask_decoder, torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        decoder.mask_tokens.weight.copy_(decoder.mask_tokens.weight[:1].clone())
        decoder.detail.token_kernels[1, 0] = 1.0
    features = []
    decoder.detail.register_forward_hook(lambda module, args, output: features.extend(output))
    masks = model(pixels).mask_logits
    torch.testing.assert_close(masks[0, 1] - masks[0, 0], features[0][0, 0], rtol=1e-4, atol=1e-4)


def test_several_classes_are_drawn_at_full_size_with_features_of_half_the_size_too():
    branch = DetailBranch(32, 4, finest=0, tokens=5)
    for parameter in (branch.project.weight, branch.token_kernels, branch.half_project.weight):
        torch.nn.init.normal_(parameter)
    torch.nn.init.normal_(branch.half_token_kernels)
    fine, half = branch(torch.randn(1, 3, 64, 96), torch.randn(1, 32, 4, 6), torch.randn(1, 4, 16, 24))
    assert (fine.shape, half.shape) == ((1, 16, 64, 96), (1, 32, 32, 48))
    kernels = torch.randn(1, 5, 4)
    together = torch.cat([fine, torch.nn.Upsample(scale_factor=2, mode="bilinear")(half)], dim=1)
    weights = torch.cat([branch.project.weight, branch.half_project.weight], dim=1)
    own = torch.cat([branch.token_kernels, branch.half_token_kernels], dim=1)
    expected = torch.einsum("bnc,bchw->bnhw", kernels @ weights + own, together)
    torch.testing.assert_close(branch.masks(kernels, [fine, half]), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("finest", "tokens"), [(0, 0), (1, 0), (1, 5)])
def test_a_single_mask_and_a_branch_at_half_size_use_the_finest_features_alone(finest, tokens):
    branch = DetailBranch(32, 4, finest=finest, tokens=tokens)
    maps = branch(torch.randn(1, 3, 64, 96), torch.randn(1, 32, 4, 6), torch.randn(1, 4, 16, 24))
    assert len(maps) == 1
    assert not [name for name, _ in branch.named_parameters() if name.startswith("half_")]


def test_a_new_head_gets_new_kernels(tmp_path):
    wake(segmenter(num_classes=3, head="per-pixel")).save_pretrained(tmp_path)
    model = SamForSemanticSegmentation.from_pretrained(tmp_path, num_classes=5, ignore_mismatched_sizes=True)
    assert model.mask_decoder.detail.token_kernels.shape == (5, 32)
    assert not model.mask_decoder.detail.token_kernels.any()


def test_other_classes_keep_what_is_of_no_class():
    branch = wake(segmenter("full", num_classes=3, head="per-pixel")).mask_decoder.detail
    before = branch.half_project.weight.clone()
    branch.use_tokens(5)
    assert torch.equal(branch.half_project.weight, before)
    assert branch.half_token_kernels.shape == (5, 32)
    assert not branch.half_token_kernels.any()
    branch.use_tokens(0)
    assert branch.half_project is None
    assert branch.half_token_kernels is None


def test_something_thinner_than_the_decoder_can_be_drawn():
    """Stripes two pixels wide are one grey for a decoder at a quarter of the size."""
    pixels = torch.zeros(1, 3, 64, 64)
    pixels[..., 2::8] = pixels[..., 3::8] = 3.0
    labels = (pixels[:, 0] > 0).long()
    reached = {}
    for detail in ("none", "half"):
        model = segmenter(detail, loss="bce-dice")
        optimizer = torch.optim.Adam(model.mask_decoder.parameters(), lr=1e-2)
        for _ in range(30):
            loss = model(pixels, labels=labels).loss
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        answer = model(pixels).logits.argmax(dim=1) == 1
        reached[detail] = ((answer & (labels == 1)).sum() / (answer | (labels == 1)).sum()).item()
    assert reached["half"] > 0.9
    assert reached["none"] < 0.6


def test_features_times_kernels_are_finer_mask_features():
    branch = DetailBranch(32, 4)
    torch.nn.init.normal_(branch.project.weight)
    (fine,) = branch(torch.randn(1, 3, 64, 96), torch.randn(1, 32, 4, 6), torch.randn(1, 4, 16, 24))
    assert fine.shape == (1, 32, 32, 48)
    kernels = torch.randn(1, 5, 4)
    features = torch.einsum("oc,bchw->bohw", branch.project.weight, fine)  # as wide as the decoder's
    expected = torch.einsum("bnc,bchw->bnhw", kernels, features)
    torch.testing.assert_close(branch.masks(kernels, [fine]), expected, rtol=1e-4, atol=1e-4)


def test_an_image_does_not_depend_on_its_batch():
    model = wake(segmenter()).train()
    pixels = torch.randn(3, 3, 64, 64)
    together = model(pixels).logits
    alone = torch.cat([model(one).logits for one in pixels.split(1)])
    torch.testing.assert_close(together, alone, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("precision", ["bf16", "fp32"])
@pytest.mark.parametrize(("detail", "task"), [("half", {}), ("full", {"num_classes": 3, "head": "per-pixel"})])
def test_precision(precision, detail, task):
    model = wake(segmenter(detail, **task)).train()
    pixels = torch.randn(1, 3, 64, 64)
    with autocast(torch.device("cpu"), precision):
        output = model(pixels, labels=torch.zeros(1, 64, 64, dtype=torch.long))
    output.loss.backward()
    assert output.logits.dtype == torch.float32
    assert all(torch.isfinite(p.grad).all() for p in model.mask_decoder.detail.parameters())


@pytest.mark.parametrize("task", HEADS)
@pytest.mark.parametrize("detail", ["half", "full"])
def test_saved_with_the_adapter_and_with_the_model(tmp_path, detail, task):
    import peft

    def fresh():
        return segmenter(detail, **task)

    model = apply_method(fresh(), "lora", {}, targets=sam_layers, modules_to_save=MODULES_TO_SAVE).eval()
    for p in model.parameters():
        if p.requires_grad:
            torch.nn.init.normal_(p, std=0.05)
    pixels = torch.randn(1, 3, 64, 64)
    model.save_pretrained(tmp_path / "adapter")
    loaded = peft.PeftModel.from_pretrained(fresh(), tmp_path / "adapter").eval()
    assert torch.equal(loaded(pixel_values=pixels).logits, model(pixel_values=pixels).logits)

    whole = wake(fresh()).eval()
    whole.save_pretrained(tmp_path / "whole")
    again = SamForSemanticSegmentation.from_pretrained(tmp_path / "whole")
    assert again.config.detail == detail
    torch.testing.assert_close(again(pixels).logits, whole(pixels).logits)


def test_training_from_random_weights_begins_with_a_fresh_branch(tmp_path):
    """And not with one whose norms are drawn at random."""
    config = RunConfig()
    config.method.name, config.model.detail = "scratch", "half"
    branch = adapt_base(segmenter(), config).base_model.model.mask_decoder.modules_to_save["default"].detail
    assert not branch.project.weight.any()
    norms = [module for module in branch.modules() if isinstance(module, torch.nn.GroupNorm)]
    assert norms
    assert all((norm.weight == 1).all() for norm in norms)


@pytest.mark.parametrize("detail", ["half", "full"])
def test_sizes_can_be_asked_without_computing(detail):
    for task in HEADS:
        model = segmenter(detail, **task).eval().to("meta")
        assert model(torch.empty(2, 3, 64, 64, device="meta")).logits.is_meta
