"""Conv-LoRA on vision transformers other than SAM, as the documentation shows it."""

import json
import re
from pathlib import Path

import pytest
import torch
from peft import PeftModel, get_peft_model
from transformers import (
    Dinov2Config,
    Dinov2Model,
    Dinov2WithRegistersConfig,
    Dinov2WithRegistersModel,
    SwinConfig,
    SwinModel,
    ViTConfig,
    ViTModel,
)

from convlora import ConvLoraConfig, load_balancing_loss, set_grid_size

SMALL = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "image_size": 32, "patch_size": 8}
MODELS = {
    "vit": (ViTModel, ViTConfig(intermediate_size=64, **SMALL), {"num_prefix_tokens": 1}),
    "dinov2": (Dinov2Model, Dinov2Config(**SMALL), {"num_prefix_tokens": 1}),
    "dinov2 with registers": (
        Dinov2WithRegistersModel,
        Dinov2WithRegistersConfig(num_register_tokens=4, **SMALL),
        {"num_prefix_tokens": 5},
    ),
    "swin": (
        SwinModel,
        SwinConfig(image_size=32, patch_size=2, embed_dim=16, depths=[2, 2], num_heads=[2, 2], window_size=4),
        {},
    ),
}


def linear_names(model):
    """The projections to values go by several names."""
    return sorted({n.rpartition(".")[2] for n, m in model.named_modules() if n.endswith((".value", ".v_proj"))})


@pytest.mark.parametrize("name", MODELS)
def test_adapts(name, tmp_path):
    cls, config, settings = MODELS[name]
    torch.manual_seed(0)
    base = cls(config).eval()
    weights = {key: value.clone() for key, value in base.state_dict().items()}
    pixels = torch.randn(2, 3, 32, 32)
    expected = base(pixel_values=pixels).last_hidden_state
    targets = linear_names(base)
    assert targets
    model = get_peft_model(base, ConvLoraConfig(target_modules=targets, **settings)).eval()
    torch.testing.assert_close(model(pixel_values=pixels).last_hidden_state, expected)
    model.train()
    hidden = model(pixel_values=pixels).last_hidden_state
    ((hidden * torch.randn_like(hidden)).mean() + load_balancing_loss(model)).backward()
    assert [n for n, p in model.named_parameters() if p.requires_grad and p.grad is None] == []
    torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=1.0).step()
    adapted = model.eval()(pixel_values=pixels).last_hidden_state
    assert (adapted - expected).abs().max() > 1e-6
    model.save_pretrained(tmp_path)
    fresh = cls(config).eval()
    fresh.load_state_dict(weights)
    loaded = PeftModel.from_pretrained(fresh, tmp_path).eval()
    torch.testing.assert_close(loaded(pixel_values=pixels).last_hidden_state, adapted)


def test_the_example_in_the_documentation_names_layers_that_exist():
    text = (Path(__file__).parents[3] / "docs" / "peft.md").read_text()
    (targets,) = re.findall(r"target_modules=(\[.*?\])", text)
    _, config, settings = MODELS["dinov2"]
    adapter = ConvLoraConfig(target_modules=json.loads(targets), **settings)
    model = get_peft_model(Dinov2Model(config), adapter)
    model(pixel_values=torch.randn(1, 3, 32, 32))
    assert load_balancing_loss(model) > 0


def test_a_forgotten_class_token_is_explained():
    cls, config, _ = MODELS["vit"]
    base = cls(config)
    model = get_peft_model(base, ConvLoraConfig(target_modules=linear_names(base)))
    with pytest.raises(ValueError, match=r"\(2, 17, 32\).*num_prefix_tokens"):
        model(pixel_values=torch.randn(2, 3, 32, 32))


def test_oblong_images_with_a_stated_grid():
    cls, config, settings = MODELS["dinov2"]
    base = cls(config)
    model = get_peft_model(base, ConvLoraConfig(target_modules=linear_names(base), **settings))
    set_grid_size(model, (2, 6))
    assert model(pixel_values=torch.randn(1, 3, 16, 48)).last_hidden_state.shape == (1, 13, 32)
