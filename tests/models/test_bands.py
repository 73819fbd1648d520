"""Inputs for more bands: one mechanism for every patch embedding."""

import pytest
import torch
import torch.nn.functional as F
import transformers as hf
from safetensors.torch import load_file

from convlora.models import UNetForSemanticSegmentation, UNetSegmentationConfig
from convlora.models.bands import BandConvolution, spread, take_bands
from convlora.models.build import adapt
from convlora.models.detail import DetailBranch
from convlora.models.detail_file import load_detail, save_detail
from convlora.models.loading import load_segmenter
from convlora.models.parameters import halve_frozen_weights
from convlora.runs.adapters import load_adapter
from tests.helpers.models import tiny_sam
from tests.helpers.tolerances import BY_DTYPE
from tests.helpers.video_sams import small_sam2, small_sam3
from tests.models.test_sam_hq import small_sam_hq

VIT = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 48, "image_size": 56}
MAKE = {
    "sam": tiny_sam,
    "sam_hq": small_sam_hq,
    "sam2": small_sam2,
    "sam3": small_sam3,
    "dinov2": lambda: hf.Dinov2Model(hf.Dinov2Config(**VIT, patch_size=14)),
    "dinov2-registers": lambda: hf.Dinov2WithRegistersModel(hf.Dinov2WithRegistersConfig(**VIT, patch_size=14)),
    "dinov3": lambda: hf.DINOv3ViTModel(hf.DINOv3ViTConfig(**VIT, patch_size=14)),
    "vit": lambda: hf.ViTModel(hf.ViTConfig(**VIT, patch_size=14)),
    "clip": lambda: hf.CLIPVisionModel(hf.CLIPVisionConfig(**VIT, patch_size=14)),
    "siglip": lambda: hf.SiglipVisionModel(hf.SiglipVisionConfig(**VIT, patch_size=14)),
}
SIZE = {"sam": 64, "sam_hq": 64, "sam2": 64}
BANDS = 5


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    root = tmp_path_factory.mktemp("models")
    for name, make in MAKE.items():
        torch.manual_seed(0)
        make().save_pretrained(root / name)
    return root


def load(sources, name, **settings):
    torch.manual_seed(1)
    return load_segmenter(sources / name, image_size=SIZE.get(name, 56), **settings)


def inputs_of(model):
    return next(part for part in model.modules() if isinstance(part, BandConvolution))


@pytest.mark.parametrize("name", MAKE)
@torch.no_grad()
def test_every_model_begins_as_it_was_pretrained_and_sees_what_is_added(sources, name):
    plain, more = load(sources, name), load(sources, name, bands=BANDS)
    torch.manual_seed(2)
    size = SIZE.get(name, 56)
    images = torch.randn(2, BANDS, size, size)
    expected = plain.get_image_embeddings(images[:, :3])
    assert torch.equal(more.get_image_embeddings(images), expected)
    inputs_of(more).new_bands.weight.normal_()
    assert not torch.allclose(more.get_image_embeddings(images), expected, atol=1e-3)
    assert torch.equal(more.get_image_embeddings(images * torch.tensor([1, 1, 1, 0, 0]).view(1, -1, 1, 1)), expected)


@torch.no_grad()
def test_the_weights_are_those_of_one_convolution():
    torch.manual_seed(0)
    own = torch.nn.Conv2d(3, 7, 4, 4)
    both = BandConvolution(own, 6)
    both.new_bands.weight.normal_()
    images = torch.randn(2, 6, 8, 12)
    whole = torch.cat([own.weight, both.new_bands.weight], dim=1)
    tolerance = BY_DTYPE[torch.float32]
    torch.testing.assert_close(both(images), F.conv2d(images, whole, own.bias, 4), **tolerance._asdict())


@pytest.mark.parametrize(
    ("name", "method"), [("sam", "conv-lora"), ("sam", "bitfit"), ("dinov2", "lora"), ("sam", "full")]
)
def test_what_is_added_is_trained_and_saved_and_the_rest_is_frozen(sources, tmp_path, name, method):
    model = adapt(load(sources, name, bands=BANDS, detail="half"), method, {})
    trained = {key for key, value in model.named_parameters() if value.requires_grad and "new_bands" in key}
    assert len(trained) == 1
    own = {key: value for key, value in model.named_parameters() if key.endswith("projection.weight")}
    assert any(value.requires_grad for value in own.values()) == (method == "full")
    size = SIZE.get(name, 56)
    images, labels = torch.randn(2, BANDS, size, size), torch.randint(0, 2, (2, size, size))
    optimizer = torch.optim.SGD([value for value in model.parameters() if value.requires_grad], 0.1)
    model(pixel_values=images, labels=labels).loss.backward()
    assert next(value for key, value in model.named_parameters() if key in trained).grad.abs().sum() > 0
    optimizer.step()
    with torch.no_grad():
        expected = model.eval()(pixel_values=images).logits
    model.save_pretrained(tmp_path, save_embedding_layers=False)
    saved = load_file(tmp_path / "adapter_model.safetensors")
    assert [list(value.shape)[1] for key, value in saved.items() if "new_bands" in key] == [BANDS - 3]
    again = load_adapter(load(sources, name, bands=BANDS, detail="half"), tmp_path, {"name": method}, None)
    with torch.no_grad():
        found = again.eval()(pixel_values=images).logits
    torch.testing.assert_close(found, expected, **BY_DTYPE[torch.float32]._asdict())


def test_half_precision_keeps_what_is_added(sources):
    model = adapt(load(sources, "sam", bands=BANDS), "conv-lora", {})
    halve_frozen_weights(model.base_model.model.vision_encoder, "bf16")
    assert {value.dtype for key, value in model.named_parameters() if value.requires_grad} == {torch.float32}
    with torch.autocast("cpu", torch.bfloat16):
        loss = model(pixel_values=torch.randn(1, BANDS, 64, 64), labels=torch.zeros(1, 64, 64, dtype=torch.long)).loss
    loss.backward()
    assert all(value.grad is not None for key, value in model.named_parameters() if "new_bands.modules" in key)


@torch.no_grad()
def test_a_merged_model_is_saved_and_loaded_whole(sources, tmp_path):
    model = adapt(load(sources, "sam", bands=BANDS), "lora", {})
    for value in model.parameters():
        if value.requires_grad:
            value.add_(0.02 * torch.randn_like(value))
    images = torch.randn(1, BANDS, 64, 64)
    expected = model.eval()(pixel_values=images).logits
    model.merge_and_unload().save_pretrained(tmp_path)
    again = load_segmenter(tmp_path)
    assert again.config.bands == BANDS
    torch.testing.assert_close(again(pixel_values=images).logits, expected, rtol=1e-4, atol=1e-4)
    with pytest.raises(ValueError, match="bands 5, not 4"):
        load_segmenter(tmp_path, bands=4)


@torch.no_grad()
def test_fewer_than_three_bands_fill_the_pretrained_inputs(sources):
    plain, one, two = (load(sources, "sam", bands=bands) for bands in (None, 1, 2))
    image = torch.randn(1, 2, 64, 64)
    grey = image[:, :1]
    assert torch.equal(one(pixel_values=grey).logits, plain(pixel_values=grey.expand(-1, 3, -1, -1)).logits)
    third = torch.cat([image, image.mean(1, keepdim=True)], 1)
    assert torch.equal(two(pixel_values=image).logits, plain(pixel_values=third).logits)
    assert spread(third, None) is third
    assert not any("new_bands" in name for name, _ in one.named_parameters())


def test_a_network_without_sam_takes_them_as_they_are():
    model = UNetForSemanticSegmentation(UNetSegmentationConfig(width=8, image_size=32, bands=1))
    assert model(pixel_values=torch.randn(1, 1, 32, 32)).logits.shape == (1, 2, 32, 32)


def test_a_pretrained_detail_branch_ignores_what_is_added_at_first(tmp_path):
    torch.manual_seed(0)
    plain, more = DetailBranch(32, 4), DetailBranch(32, 4, channels=5)
    with torch.no_grad():
        plain.half().float()
    save_detail(plain, tmp_path)
    assert load_detail(more, tmp_path)
    images, maps = torch.randn(1, 5, 64, 64), (torch.randn(1, 32, 4, 4), torch.randn(1, 4, 16, 16))
    with torch.no_grad():
        torch.testing.assert_close(more(images, *maps), plain(images[:, :3], *maps), rtol=1e-5, atol=1e-5)


def test_encoders_without_one_patch_embedding_are_refused():
    two = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 4, 4), torch.nn.Conv2d(3, 4, 4, 4))
    with pytest.raises(ValueError, match="no single patch embedding"):
        take_bands(two, 5)
