"""Everything SAM can do, with SAM 2 and SAM 3."""

import re

import pytest
import torch
from transformers import AutoModelForSemanticSegmentation

from convlora.errors import InputError
from convlora.methods.layers import Layers
from convlora.methods.registry import METHODS
from convlora.models.build import adapt
from convlora.models.loading import load_segmenter
from tests.helpers.models import names_of_linear_layers
from tests.helpers.video_sams import small_sam2, small_sam3

MADE = {"sam2": small_sam2, "sam3": small_sam3}
SIZE = {"sam2": 64, "sam3": 56}
OBLONG = {"sam2": (64, 96), "sam3": (56, 84)}
LORA_LAYERS = {"sam2": 5, "sam3": 9}


@pytest.fixture(scope="module", params=MADE)
def kind(request):
    return request.param


@pytest.fixture(scope="module")
def folder(kind, tmp_path_factory):
    place = tmp_path_factory.mktemp(kind)
    MADE[kind]().save_pretrained(place)
    return place


def test_all_linear_layers_of_the_blocks_are_known(folder, kind):
    model = load_segmenter(folder, image_size=SIZE[kind])
    expected = names_of_linear_layers(model)
    assert len(expected) == {"sam2": 5 * 4 + 3, "sam3": 3 * 6}[kind]
    assert {n for n, _ in model.named_modules() if re.fullmatch(model.layer_names(Layers.LINEAR), n)} == expected


@pytest.mark.parametrize("method", [name for name, method in METHODS.items() if method.network is None])
def test_methods_train_or_say_that_they_need_a_sam(folder, kind, method):
    side = SIZE[kind]
    model = load_segmenter(folder, image_size=side)
    if METHODS[method].layers in (Layers.ATTENTION, Layers.SUBLAYERS, Layers.ENCODER):
        with pytest.raises(InputError, match="only the vision encoder of the first SAM and SAM-HQ"):
            adapt(model, method, {})
        return
    adapted = adapt(model, method, {}).train()
    trained = {n: p.clone() for n, p in adapted.named_parameters() if p.requires_grad}
    frozen = {n: p.clone() for n, p in adapted.named_parameters() if not p.requires_grad}
    optimizer = torch.optim.AdamW([p for p in adapted.parameters() if p.requires_grad], lr=1e-2)
    for _ in range(2):
        adapted(torch.randn(2, 3, side, side), labels=torch.randint(0, 2, (2, side, side))).loss.backward()
        optimizer.step()
    now = dict(adapted.named_parameters())
    assert all(torch.equal(now[n], p) for n, p in frozen.items())
    changed = [n for n, p in trained.items() if not torch.equal(now[n], p)]
    assert any("mask_decoder" in n for n in changed)
    assert any("vision_encoder" in n for n in changed) == (method != "decoder")


@pytest.mark.parametrize("head", ["per-pixel", "mask-classification"])
def test_several_classes_at_an_oblong_size(folder, kind, head):
    height, width = OBLONG[kind]
    model = load_segmenter(folder, image_size=(height, width), num_classes=4, head=head, detail="half")
    adapted = adapt(model, "conv-lora", {}).train()
    output = adapted(torch.randn(2, 3, height, width), labels=torch.randint(0, 4, (2, height, width)))
    output.loss.backward()
    assert output.mask_logits.shape[-2:] == (32, 48)  # half of 64 x 96, which is the next size of whole cells of 16
    assert all(p.grad is not None for n, p in adapted.named_parameters() if p.requires_grad and "lora_" not in n)


def test_everything_that_full_trains_gets_a_gradient(folder, kind):
    """Several processes wait for the gradient of every parameter."""
    adapted, side = adapt(load_segmenter(folder, image_size=SIZE[kind]), "full", {}).train(), SIZE[kind]
    adapted(torch.randn(1, 3, side, side), labels=torch.randint(0, 2, (1, side, side))).loss.backward()
    assert [n for n, p in adapted.named_parameters() if p.requires_grad and p.grad is None] == []


def test_saved_and_loaded(folder, kind, tmp_path):
    size = OBLONG[kind]
    model = load_segmenter(folder, num_classes=3, head="per-pixel", detail="half", image_size=size)
    model.save_pretrained(tmp_path)
    x = torch.randn(1, 3, *size)
    with torch.no_grad():
        expected = model(x).logits
        assert torch.equal(type(model).from_pretrained(tmp_path)(x).logits, expected)
        assert torch.equal(AutoModelForSemanticSegmentation.from_pretrained(tmp_path)(x).logits, expected)


def test_attention_can_be_chosen(folder, kind, tmp_path):
    x = torch.randn(1, 3, *OBLONG[kind])
    with torch.no_grad():
        models = [load_segmenter(folder, image_size=OBLONG[kind], attention=name) for name in ("sdpa", "eager")]
        one, two = (model.get_image_embeddings(x) for model in models)
    torch.testing.assert_close(one, two, rtol=1e-4, atol=1e-5)
    models[1].save_pretrained(tmp_path)
    for model in (models[1], load_segmenter(tmp_path)):
        backbone = model.vision_encoder.backbone
        assert backbone.config._attn_implementation == "eager"


def test_checkpointing_changes_nothing(folder, kind):
    gradients, side = [], SIZE[kind]
    for checkpointed in (False, True):
        adapted = adapt(load_segmenter(folder, image_size=side), "lora", {}).train()
        if checkpointed:
            adapted.activation_checkpointing_enable({"use_reentrant": False})
        torch.manual_seed(1)
        for name, parameter in adapted.named_parameters():
            if name.endswith(("lora_A.default.weight", "lora_B.default.weight")):
                torch.nn.init.normal_(parameter, std=0.1)
        x, labels = torch.randn(1, 3, side, side), torch.ones(1, side, side, dtype=torch.long)
        adapted(x, labels=labels).loss.backward()
        gradients.append({n: p.grad for n, p in adapted.named_parameters() if "lora_A" in n})
    plain, again = gradients
    assert len(plain) == LORA_LAYERS[kind]
    assert all(torch.allclose(plain[n], again[n], rtol=1e-3, atol=1e-6) for n in plain)
