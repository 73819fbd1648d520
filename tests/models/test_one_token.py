"""A binary decoder with SAM's first mask token alone."""

import copy

import pytest
import torch
from transformers import Dinov2Config, Dinov2Model

from convlora.data.classes.class_table import ClassTable
from convlora.losses import SetLossSettings
from convlora.models import SamForSemanticSegmentation
from convlora.models.build import adapt, load_model
from convlora.models.loading import load_segmenter
from convlora.training.config import RunConfig
from convlora.training.effects import check_effects
from convlora.training.task import settle_task
from tests.helpers.models import tiny_config, tiny_sam
from tests.helpers.tolerances import MODEL
from tests.models.test_sam2 import small_sam2

NAMES = {0: "background", 1: "cell"}


def judge(sam):
    """transformers' SAM with one mask token, and otherwise the same weights."""
    config = tiny_config()
    config.mask_decoder_config.num_multimask_outputs = 0
    alone = type(sam)(config).eval()
    weights = alone.state_dict()
    for name, value in sam.state_dict().items():
        if name in weights:
            weights[name] = value[: len(weights[name])] if value.ndim else value
    alone.load_state_dict(weights)
    return alone


@torch.no_grad()
def test_it_agrees_with_transformers_decoder_of_one_token():
    sam, pixels = tiny_sam(), torch.randn(2, 3, 64, 64)
    alone = judge(sam)
    expected = alone(pixel_values=pixels, multimask_output=False).pred_masks[:, 0]
    model = SamForSemanticSegmentation.from_sam(copy.deepcopy(sam), num_mask_tokens=1).eval()
    embeddings, finer = model.encode(pixels)
    masks = model.mask_decoder(
        embeddings, model.image_positional_embeddings(), model.no_mask_embedding(), pixels, finer
    )
    torch.testing.assert_close(masks.coarse, expected, **MODEL._asdict())
    four = SamForSemanticSegmentation.from_sam(copy.deepcopy(sam)).eval()
    assert (four(pixels).logits - model(pixels).logits).abs().max() > 1e-3


def test_it_is_saved_and_loaded(tmp_path):
    pixels = torch.randn(1, 3, 64, 64)
    model = SamForSemanticSegmentation.from_sam(tiny_sam(), num_mask_tokens=1).eval()
    model.save_pretrained(tmp_path)
    for tokens in ({}, {"num_mask_tokens": "auto"}, {"num_mask_tokens": None}, {"num_mask_tokens": 1}):
        again = SamForSemanticSegmentation.from_pretrained(tmp_path, **tokens)
        assert again.mask_decoder.mask_tokens.weight.shape == (1, 32)
        saved, loaded = model.state_dict(), again.state_dict()
        assert loaded.keys() == saved.keys()
        assert all(torch.equal(loaded[name], saved[name]) for name in saved)
        # Some CPUs add up in another order where the loaded weights lie at another address.
        torch.testing.assert_close(again(pixels).logits, model(pixels).logits, rtol=1e-6, atol=1e-6)
    again.resize((32, 64))
    assert again(torch.randn(1, 3, 32, 64)).logits.shape == (1, 2, 32, 64)


@pytest.mark.parametrize("kind", ["sam2", "dinov2"])
def test_other_segmenters_have_it_too(kind, tmp_path):
    if kind == "sam2":
        small_sam2().save_pretrained(tmp_path / "base")
    else:
        size = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2, "image_size": 56}
        Dinov2Model(Dinov2Config(**size, patch_size=14, intermediate_size=48)).save_pretrained(tmp_path / "base")
    four, one = (load_segmenter(tmp_path / "base", num_mask_tokens=tokens) for tokens in (None, 1))
    assert [len(model.mask_decoder.mask_tokens.weight) for model in (four, one)] == [4, 1]
    one.save_pretrained(tmp_path / "own")
    again, pixels = load_segmenter(tmp_path / "own"), torch.randn(1, 3, *one.config.image_size)
    assert torch.equal(again(pixels).logits, one(pixels).logits)


def test_a_saved_model_does_not_lose_tokens_unasked(tmp_path):
    SamForSemanticSegmentation.from_sam(tiny_sam()).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="num_mask_tokens 4, not 1"):
        SamForSemanticSegmentation.from_pretrained(tmp_path, num_mask_tokens=1)
    model = SamForSemanticSegmentation.from_pretrained(tmp_path, num_mask_tokens=1, ignore_mismatched_sizes=True)
    assert model.mask_decoder.mask_tokens.weight.shape == (1, 32)


@pytest.mark.parametrize("detail", ["none", "half"])
def test_every_parameter_of_it_is_trained(tiny_sam_folder, detail):
    base = load_model(
        "conv-lora", {}, str(tiny_sam_folder), image_size=64, attention="auto", num_mask_tokens=1, detail=detail,
        num_classes=2, id2label=NAMES, head="auto",
    )  # fmt: skip
    model = adapt(base, "conv-lora", {}).train()
    model.base_model.model.set_loss_settings = SetLossSettings()
    model(torch.randn(2, 3, 64, 64), labels=torch.randint(0, 2, (2, 64, 64))).loss.backward()
    assert [n for n, p in model.named_parameters() if p.requires_grad and p.grad is None] == []


def test_the_setting_is_kept_by_a_binary_task_alone():
    config = RunConfig()
    config.override(["num_mask_tokens=1"])
    check_effects(config, num_classes=2, has_val=True)
    settle_task(config, ClassTable(("a", "b")), [], lambda text: None)
    assert config.model.num_mask_tokens == 1
    config = RunConfig()
    config.override(["num_mask_tokens=1", "head=per-pixel"])
    with pytest.raises(ValueError, match="num_mask_tokens=1 has no effect"):
        check_effects(config, num_classes=2, has_val=True)


def test_a_run_with_it(make_config, tmp_path, blobs):
    from convlora import Segmenter
    from convlora.training.run import train

    train(make_config(max_steps=1), tmp_path / "four")
    config = make_config(max_steps=1)
    config.override(["num_mask_tokens=1"])
    train(config, tmp_path / "one")
    tokens = [
        Segmenter.from_run(tmp_path / name, device="cpu").model.base_model.model.config.has_one_token
        for name in ("four", "one")
    ]
    assert tokens == [False, True]
    assert RunConfig.load(tmp_path / "one" / "config.yaml").model.num_mask_tokens == 1
