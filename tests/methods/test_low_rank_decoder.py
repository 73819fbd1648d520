"""LoRA in the mask decoder."""

import re

import pytest
import torch
from torch import nn

from convlora.errors import InputError
from convlora.methods.low_rank_decoder import adapt_decoder
from convlora.models import SamForSemanticSegmentation
from convlora.models.build import adapt
from convlora.runs.adapters import load_adapter
from convlora.training.rates import setting_of
from tests.helpers.models import tiny_sam

SEVERAL = {"num_classes": 3, "head": "mask-classification", "num_mask_tokens": 5, "detail": "half"}


def segmenter(**settings):
    torch.manual_seed(0)
    return SamForSemanticSegmentation.from_sam(tiny_sam(), image_size=(48, 64), **settings).eval()


def test_the_transformer_is_adapted_and_the_rest_is_trained_in_full():
    model = adapt(segmenter(**SEVERAL), "lora-decoder", {})
    decoder = model.base_model.model.mask_decoder
    trained = {name for name, parameter in decoder.named_parameters() if parameter.requires_grad}
    adapted = {name for name, module in decoder.named_modules() if hasattr(module, "lora_A")}
    linear = {name for name, module in segmenter(**SEVERAL).mask_decoder.transformer.named_modules()
              if isinstance(module, nn.Linear)}  # fmt: skip
    assert adapted == {f"transformer.{name}" for name in linear}
    assert all(".lora_" in name for name in trained if name.startswith("transformer."))
    plain = {re.sub(r"modules_to_save\.default\.", "", name) for name in trained if not name.startswith("transformer.")}
    every = {name for name, _ in segmenter(**SEVERAL).mask_decoder.named_parameters()}
    assert plain == {name for name in every if not name.startswith("transformer.")}
    assert {setting_of(f"mask_decoder.{name}") for name in trained} == {"lr_decoder", "lr_detail"}


def test_a_saved_adapter_is_loaded_with_all_parts(tmp_path):
    model, pixels = adapt(segmenter(**SEVERAL), "lora-decoder", {}).eval(), torch.randn(1, 3, 48, 64)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(0.05 * torch.randn_like(parameter))
        model.save_pretrained(tmp_path, save_embedding_layers=False)
        loaded = load_adapter(segmenter(**SEVERAL), tmp_path, {"name": "lora-decoder"}, None).eval()
        assert torch.equal(loaded(pixels).logits, model(pixels).logits)
        assert not torch.allclose(loaded(pixels).logits, segmenter(**SEVERAL)(pixels).logits, atol=1e-3)


def test_a_fresh_decoder_is_refused():
    model = segmenter()
    model.mask_decoder.neck = nn.Conv2d(32, 32, 1)
    with pytest.raises(InputError, match="its decoder is new"):
        adapt_decoder(model, "any", ["mask_decoder"])
