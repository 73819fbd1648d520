"""Queries in the last blocks of an encoder: transformers' EoMT, element by element, and everything a decoder can do."""

import copy
import re

import pytest
import torch
import transformers as hf

from convlora.errors import InputError
from convlora.exporting.program import network_of, program_of
from convlora.inspecting.attention_distance import AttentionDistances, listening
from convlora.losses import SetLossSettings
from convlora.methods.conv_lora import check_grid
from convlora.models import EncoderForSemanticSegmentation
from convlora.models.build import adapt
from convlora.models.loading import load_segmenter
from convlora.models.parameters import halve_frozen_weights
from convlora.models.query_decoder import usual_query_blocks
from convlora.models.room import least_memory
from convlora.training.config import RunConfig
from convlora.training.effects import check_effects
from tests.helpers.models import tiny_sam

VIT = {"hidden_size": 24, "num_hidden_layers": 3, "num_attention_heads": 2, "image_size": 64, "patch_size": 16}
WIDE = {"intermediate_size": 96}
SEVERAL = {"num_classes": 3, "head": "mask-classification", "num_mask_tokens": 5}
ENCODERS = {
    "dinov2": (hf.Dinov2WithRegistersConfig, hf.Dinov2WithRegistersModel, {"num_register_tokens": 4}),
    "dinov3": (hf.DINOv3ViTConfig, hf.DINOv3ViTModel, {"num_register_tokens": 4}),
    "vit": (hf.ViTConfig, hf.ViTModel, {}),
    "clip": (hf.CLIPVisionConfig, hf.CLIPVisionModel, {}),
    "siglip": (hf.SiglipVisionConfig, hf.SiglipVisionModel, {}),
}
EOMTS = {
    "dinov2": (hf.EomtConfig, hf.EomtForUniversalSegmentation, {"mlp_ratio": 4}),
    "dinov3": (hf.EomtDinov3Config, hf.EomtDinov3ForUniversalSegmentation, WIDE | {"layer_norm_eps": 1e-5}),
}
HEADS = {
    "binary": {},
    "per-pixel": {"num_classes": 3, "head": "per-pixel"},
    "mask-classification": SEVERAL,
    "mask-classification of two": {"num_classes": 2, "head": "mask-classification", "num_mask_tokens": 4},
}


def lively(model):
    """With weights that tell images apart, which those that transformers draws do not."""
    for name, parameter in model.named_parameters():
        scales = parameter.ndim == 1 and not name.endswith("bias")
        torch.nn.init.normal_(parameter, mean=1.0 if scales else 0.0, std=0.2)
    return model


def encoder(name="dinov2"):
    config, model, settings = ENCODERS[name]
    torch.manual_seed(0)
    return lively(model(config(**VIT, **WIDE, **settings)))


def segmenter(name="dinov2", **settings):
    settings = {"decoder": "eomt", "query_blocks": 2, "image_size": 64} | settings
    return EncoderForSemanticSegmentation.from_encoder(encoder(name), **settings).eval()


def own_name(name):
    """What a parameter of transformers' EoMT is called here."""
    for pattern, new in (
        (r"^query\.", "mask_decoder.mask_tokens."),
        (r"^upscale_block\.", "mask_decoder.upscale."),
        (r"^mask_head\.", "mask_decoder.mask_head."),
        (r"^class_predictor\.", "mask_decoder.classifier."),
        (r"^layers\.", "vision_encoder.model.encoder.layer."),
        (r"^(embeddings|layernorm)", r"vision_encoder.model.\1"),
    ):
        name = re.sub(pattern, new, name)
    return name.replace("attention.out_proj", "attention.o_proj")


def own_dinov3_name(name):
    return own_name(name).replace("model.encoder.layer", "model.model.layer").replace("model.layernorm", "model.norm")


@pytest.mark.parametrize("name", EOMTS)
def test_it_is_eomt_of_transformers(name):
    config, model, more = EOMTS[name]
    torch.manual_seed(0)
    theirs = lively(model(config(**VIT, **more, num_queries=5, num_blocks=2, num_labels=3))).eval()
    theirs.attn_mask_probs.zero_()  # as it is at the end of its training: queries see all cells
    ours = segmenter(name, **SEVERAL)
    renamed = own_dinov3_name if name == "dinov3" else own_name
    values = {renamed(key): parameter for key, parameter in theirs.named_parameters()}
    table = values.pop("vision_encoder.model.embeddings.position_embeddings.weight", None)
    if table is not None:  # here the class token has a position too
        values["vision_encoder.model.embeddings.position_embeddings"] = torch.cat([torch.zeros(1, 24), table])[None]
    assert values.keys() == dict(ours.named_parameters()).keys()
    ours.load_state_dict({key: value.detach().clone() for key, value in values.items()}, strict=False)

    pixels = torch.randn(2, 3, 64, 64)
    expected, found = theirs(pixel_values=pixels), ours(pixels)
    pairs = (
        (found.mask_logits, expected.masks_queries_logits),
        (found.class_logits, expected.class_queries_logits),
    )
    torch.manual_seed(1)
    sums = [torch.zeros(()), torch.zeros(())]
    for mine, other in pairs:
        assert other.std() > 0.1
        torch.testing.assert_close(mine, other, rtol=1e-4, atol=1e-4)
        weights = torch.randn_like(other)
        sums = [total + (values * weights).sum() for total, values in zip(sums, (mine, other))]
    for total in sums:
        total.backward()
    mine = dict(ours.named_parameters())
    for key, parameter in theirs.named_parameters():
        if key == "embeddings.position_embeddings.weight":
            gradient = mine["vision_encoder.model.embeddings.position_embeddings"].grad[0, 1:]
        else:
            gradient = mine[renamed(key)].grad
        size = parameter.grad.abs().max()
        assert (gradient - parameter.grad).abs().max() <= 1e-4 * size + 1e-4, key


def test_the_loss_weighs_as_eomt_does():
    own, theirs = SetLossSettings(), hf.EomtConfig()
    for name in ("class_weight", "mask_weight", "dice_weight", "no_object_weight", "oversample_ratio"):
        assert getattr(own, name) == getattr(theirs, name)
    assert (own.points, own.importance_sample_ratio) == (theirs.train_num_points, theirs.importance_sample_ratio)


def test_published_sizes_have_the_published_numbers_of_blocks():
    assert [usual_query_blocks(blocks) for blocks in (12, 24, 40)] == [3, 4, 5]
    assert [usual_query_blocks(blocks) for blocks in (1, 2, 4, 8)] == [1, 1, 1, 2]


@pytest.mark.parametrize("name", ENCODERS)
def test_queries_and_cells_see_each_other(name):
    model = segmenter(name, **SEVERAL, image_size=(48, 96))
    pixels = torch.randn(1, 3, 48, 96)
    with torch.no_grad():
        before, cells = model(pixels).mask_logits, model.get_image_embeddings(pixels)
        alone = model.vision_encoder(pixels)
        assert before.shape == (1, 5, 12, 24)
        assert cells.shape == alone.shape == (1, 24, 3, 6)
        assert not torch.allclose(cells, alone, atol=1e-3), "cells attend to queries"
        assert not torch.allclose(before, model(pixels.flip(-1)).mask_logits.flip(-1), atol=1e-3)
        model.mask_decoder.mask_tokens.weight[0] += torch.randn(24)
        changed = (model(pixels).mask_logits - before).abs().amax(dim=(0, 2, 3))
    assert changed.min() > 1e-5, "and queries to each other"


@pytest.mark.parametrize("method", ["decoder", "conv-lora", "full"])
@pytest.mark.parametrize("head", HEADS)
def test_everything_that_is_trained_gets_a_gradient(method, head):
    classes = HEADS[head].get("num_classes", 2)
    model = adapt(segmenter(**HEADS[head], detail="half"), method, {}).train()
    output = model(torch.randn(2, 3, 64, 64), labels=torch.randint(0, classes, (2, 64, 64)))
    output.loss.backward()
    trained = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    idle = ("lora_gate", "lora_experts", "lora_A")  # of experts that were not chosen; and behind a B of zeros
    assert [n for n, p in trained.items() if p.grad is None and not any(one in n for one in idle)] == []
    assert any("mask_tokens" in name and parameter.grad.abs().min() > 0 for name, parameter in trained.items())
    if method == "decoder":
        assert all("mask_decoder.modules_to_save" in name for name in trained)
    if head == "binary":
        assert output.logits.shape == (2, 2, 64, 64)
    else:
        assert output.mask_logits.shape[-2:] == (32, 32)


@pytest.mark.parametrize("name", ["dinov2", "dinov3", "siglip"])
def test_conv_lora_sees_the_map_without_the_queries(name):
    model = adapt(segmenter(name, **SEVERAL, image_size=(32, 96)), "conv-lora", {})
    seen = check_grid(model, torch.randn(1, 3, 32, 96))
    assert len(seen) == 3 * 3
    assert all(tuple(one.grid) == (2, 6) and one.agrees for one in seen.values())
    cells = {}
    for key, module in model.named_modules():
        if key.endswith("q_proj"):
            module.register_forward_hook(lambda module, args, output, key=key: cells.update({key: args[0].shape[1]}))
    model(torch.randn(1, 3, 32, 96))
    prefix = model.base_model.model.num_prefix_tokens
    assert [*cells.values()] == [12 + prefix, 17 + prefix, 17 + prefix], "five queries more in the last two blocks"


def test_the_adapter_is_saved_and_loaded(tmp_path):
    from convlora.runs.adapters import load_adapter

    model, pixels = adapt(segmenter(**SEVERAL), "conv-lora", {}).eval(), torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(0.1 * torch.randn_like(parameter))
        model.save_pretrained(tmp_path, save_embedding_layers=False)
        loaded = load_adapter(segmenter(**SEVERAL), tmp_path, {"name": "conv-lora"}, None).eval()
        assert torch.equal(loaded(pixels).logits, model(pixels).logits)
        fresh = segmenter(**SEVERAL)
        fresh.mask_decoder = model.base_model.model.mask_decoder.original_module
        with model.disable_adapter():
            assert torch.equal(model(pixels).logits, fresh(pixels).logits)


def test_a_saved_segmenter(tmp_path):
    model, pixels = segmenter("clip", **SEVERAL, detail="full"), torch.randn(1, 3, 64, 64)
    model.save_pretrained(tmp_path)
    again = load_segmenter(tmp_path)
    with torch.no_grad():
        assert torch.equal(again(pixels).logits, model(pixels).logits)
        for settings in ({"decoder": "sam"}, {"num_classes": 4, "head": "auto"}):
            with pytest.raises(ValueError, match="was saved with"):
                load_segmenter(tmp_path, **settings)
        more = load_segmenter(tmp_path, num_classes=4, num_mask_tokens=7, ignore_mismatched_sizes=True)
        assert more(pixels).class_logits.shape == (1, 7, 5)
        assert torch.equal(more.mask_decoder.mask_head.fc1.weight, model.mask_decoder.mask_head.fc1.weight)
        plain = load_segmenter(tmp_path, decoder="sam", ignore_mismatched_sizes=True)
        assert torch.equal(plain.get_image_embeddings(pixels), model.vision_encoder(pixels))
        assert plain(pixels).mask_logits.isfinite().all()


def test_blocks_that_are_computed_again_change_no_gradient():
    gradients = []
    for checkpointed in (False, True):
        model = segmenter(**SEVERAL, detail="half")
        torch.manual_seed(1)
        model = adapt(model, "lora", {}).train()
        if checkpointed:
            model.activation_checkpointing_enable({"use_reentrant": False})
        torch.manual_seed(2)
        for name, parameter in model.named_parameters():
            if name.endswith("lora_B.default.weight"):
                torch.nn.init.normal_(parameter, std=0.1)
        outputs = [model(torch.full((1, 3, 64, 64), value)) for value in (1.0, 2.0)]  # two passes before going back
        sum((o.mask_logits**2).sum() + (o.class_logits**2).sum() for o in outputs).backward()
        gradients.append({n: p.grad for n, p in model.named_parameters() if p.grad is not None})
    plain, again = gradients
    assert plain.keys() == again.keys()
    for name, value in plain.items():
        torch.testing.assert_close(again[name], value, rtol=1e-4, atol=1e-3)


def test_a_copy_has_queries_of_its_own():
    model = adapt(segmenter(), "full", {}).eval()
    other, pixels = copy.deepcopy(model), torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        expected = model(pixels).logits
        assert torch.equal(other(pixels).logits, expected)
        other.base_model.model.mask_decoder.mask_tokens.weight.mul_(2).add_(torch.randn(24))
        assert not torch.allclose(other(pixels).logits, expected)
        assert torch.equal(model(pixels).logits, expected)


@pytest.mark.parametrize("name", ["dinov2", "siglip"])
def test_eager_attention_sees_the_queries(name):
    pixels = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        expected = segmenter(name, **SEVERAL)(pixels).mask_logits
        eager = segmenter(name, **SEVERAL, attention="eager")
        torch.testing.assert_close(eager(pixels).mask_logits, expected, rtol=1e-4, atol=1e-4)


def test_an_exported_program_has_the_queries_in_it():
    """While a model is exported, transformers makes a mask of attention, before they come in."""
    program = program_of(network_of(segmenter(**SEVERAL), (64, 64), "fp32"), None)
    network = network_of(segmenter(**SEVERAL), (64, 64), "fp32")
    for number in (1, 3):
        images = torch.rand(number, 3, 64, 64)
        with torch.no_grad():
            torch.testing.assert_close(program.module()(images), network(images), rtol=1e-4, atol=1e-5)


def test_frozen_weights_in_half_precision():
    model = adapt(segmenter(**SEVERAL), "lora", {}).eval()
    pixels = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        expected = model(pixels).mask_logits
        halve_frozen_weights(model.base_model.model.vision_encoder, "bf16")
        with torch.autocast("cpu", torch.bfloat16):
            found = model(pixels).mask_logits
    assert 0 < (found - expected).abs().max() < 0.1 * expected.abs().max()


def test_attention_to_queries_is_left_out_of_distances():
    distances = AttentionDistances()
    model = segmenter(**SEVERAL)
    with torch.no_grad(), listening(model, distances):
        model(torch.randn(1, 3, 64, 64))
    assert distances.counts == {0: 16, 1: 16, 2: 16}


def test_masks_are_as_wide_as_the_encoder():
    one, other = (segmenter(image_size=512, decoder=decoder).config for decoder in ("sam", "eomt"))
    assert (one.mask_channels, other.mask_channels) == (32, 24)
    assert least_memory(one) > least_memory(other)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"decoder": "unet"}, "one of sam, eomt"),
        ({"query_blocks": 4}, "from 1 to the 3 blocks"),
        ({"query_blocks": 0}, "from 1 to the 3 blocks"),
    ],
)
def test_what_does_not_fit_is_refused(settings, words):
    with pytest.raises(ValueError, match=words):
        segmenter(**settings)


def test_what_is_for_a_pretrained_decoder_is_refused(tmp_path):
    with pytest.raises(InputError, match="its decoder is new"):
        adapt(segmenter(), "lora-decoder", {})
    tiny_sam().save_pretrained(tmp_path)
    with pytest.raises(InputError, match="which has a mask decoder of its own"):
        load_segmenter(tmp_path, decoder="eomt")
    config = RunConfig()
    sections = {"model": {"source": "facebook/dinov2-base", "decoder": "eomt", "num_mask_tokens": 1}}
    config.update(sections, origin="the test")
    with pytest.raises(InputError, match=r"num_mask_tokens=1 has no effect.*mask classification"):
        check_effects(config, num_classes=2)
