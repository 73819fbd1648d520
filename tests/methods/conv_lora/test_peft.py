"""Conv-LoRA behaves as PEFT's own methods do."""

import copy
import json
import re
import subprocess
import sys

import peft
import pytest
import torch
from peft import PeftConfig, PeftModel, get_peft_model, get_peft_model_state_dict, inject_adapter_in_model
from safetensors.torch import load_file
from torch import nn

from convlora.methods.conv_lora import ConvLoraConfig, load_balancing_loss
from tests.helpers.models import TwoLinears

TARGETS = ["first", "second"]


@pytest.fixture
def x():
    return torch.randn(2, 5, 7, 12)


@pytest.fixture
def base():
    return TwoLinears().eval()


def config(**kwargs):
    return ConvLoraConfig(**({"target_modules": TARGETS} | kwargs))


def test_is_registered():
    assert ConvLoraConfig().peft_type == "CONV_LORA"
    assert peft.PEFT_TYPE_TO_CONFIG_MAPPING["CONV_LORA"] is ConvLoraConfig
    assert isinstance(peft.get_peft_config({"peft_type": "CONV_LORA", "num_experts": 4}), ConvLoraConfig)


@pytest.mark.parametrize("order", ["import convlora, peft", "import peft, convlora"])
def test_importing_convlora_is_enough_to_load_an_adapter(order):
    code = f"{order}; print(peft.PEFT_TYPE_TO_CONFIG_MAPPING['CONV_LORA'].__name__)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "ConvLoraConfig"


def test_published_defaults():
    settings = ConvLoraConfig()
    assert (settings.r, settings.lora_alpha, settings.num_experts, settings.top_k) == (3, 32, 8, 1)
    assert settings.scales == (1, 2, 3, 4, 5, 6, 7, 8)
    assert settings.load_balancing_weight == 0.01


def test_identity_at_the_start(base, x):
    expected = base(x)
    model = get_peft_model(copy.deepcopy(base), config()).eval()
    assert torch.equal(model(x), expected)


def test_random_weights_change_the_output(base, x):
    model = get_peft_model(copy.deepcopy(base), config(init_lora_weights=False)).eval()
    assert (model(x) - base(x)).abs().max() > 1e-3


def test_only_adapter_parameters_are_trained_and_all_of_them_move(base, x):
    model = get_peft_model(copy.deepcopy(base), config(init_lora_weights=False))
    before = {n: p.detach().clone() for n, p in model.named_parameters()}
    trained = {n for n, p in model.named_parameters() if p.requires_grad}
    assert trained == {n for n in before if "lora_" in n}
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=0.1, weight_decay=0.1)
    (model(x).square().mean() + load_balancing_loss(model)).backward()
    optimizer.step()
    moved = {n for n, p in model.named_parameters() if not torch.equal(p, before[n])}
    assert moved == trained


def test_save_and_load(base, x, tmp_path):
    model = get_peft_model(copy.deepcopy(base), config(init_lora_weights=False)).eval()
    model.save_pretrained(tmp_path)
    loaded = PeftModel.from_pretrained(copy.deepcopy(base), tmp_path).eval()
    assert torch.equal(loaded(x), model(x))
    assert isinstance(PeftConfig.from_pretrained(tmp_path), ConvLoraConfig)
    assert json.loads((tmp_path / "adapter_config.json").read_text())["peft_type"] == "CONV_LORA"


def test_the_file_has_the_documented_names_and_shapes(base, tmp_path):
    get_peft_model(base, config(num_experts=4, r=2)).save_pretrained(tmp_path)
    prefix = "base_model.model.first."
    shapes = {
        key.removeprefix(prefix): tuple(value.shape)
        for key, value in load_file(tmp_path / "adapter_model.safetensors").items()
        if key.startswith(prefix)
    }
    assert shapes == {
        "lora_A.weight": (2, 12),
        "lora_B.weight": (20, 2),
        "lora_gate.weight": (4, 2),
        "lora_gate_noise.weight": (4, 2),
        "lora_experts.weight": (4, 2, 2, 3, 3),
        "lora_experts.bias": (4, 2),
    }


def test_state_dict_round_trip(base, x):
    first = get_peft_model(copy.deepcopy(base), config(init_lora_weights=False)).eval()
    second = get_peft_model(copy.deepcopy(base), config(init_lora_weights=False)).eval()
    assert not torch.equal(first(x), second(x))
    peft.set_peft_model_state_dict(second, get_peft_model_state_dict(first))
    assert torch.equal(first(x), second(x))


def test_several_adapters(base, x, tmp_path):
    model = get_peft_model(copy.deepcopy(base), config(init_lora_weights=False), adapter_name="one").eval()
    one = model(x)
    model.add_adapter("two", config(init_lora_weights=False, num_experts=2, r=5))
    assert torch.equal(model(x), one)
    assert not any(p.requires_grad for n, p in model.named_parameters() if ".two." in n)
    model.set_adapter("two")
    two = model.eval()(x)
    assert not torch.equal(one, two)
    assert all(p.requires_grad == (".two." in n) for n, p in model.named_parameters() if "lora_" in n)
    model.train()
    model(x)
    assert load_balancing_loss(model) > 0
    model.eval()
    model.save_pretrained(tmp_path)
    loaded = PeftModel.from_pretrained(copy.deepcopy(base), tmp_path / "one", adapter_name="one").eval()
    loaded.load_adapter(tmp_path / "two", adapter_name="two")
    assert torch.equal(loaded(x), one)
    loaded.set_adapter("two")
    assert torch.equal(loaded(x), two)
    model.set_adapter("one")
    model.delete_adapter("two")
    assert torch.equal(model(x), one)
    assert not any(".two." in n for n in model.state_dict())


def test_two_adapters_active_at_once_add_up(base, x):
    model = get_peft_model(copy.deepcopy(base), config(target_modules=["second"], init_lora_weights=False), "one")
    model.add_adapter("two", config(target_modules=["second"], init_lora_weights=False))
    model.eval()
    layer, hidden = model.base_model.model.second, torch.randn(2, 4, 4, 20)
    updates = []
    for name in ("one", "two"):
        model.set_adapter(name)
        updates.append(layer(hidden) - layer.base_layer(hidden))
    model.base_model.set_adapter(["one", "two"])
    torch.testing.assert_close(layer(hidden), layer.base_layer(hidden) + sum(updates))


def test_disable_adapter(base, x):
    expected = base(x)
    model = get_peft_model(copy.deepcopy(base), config(init_lora_weights=False)).eval()
    with model.disable_adapter():
        assert torch.equal(model(x), expected)
    assert not torch.equal(model(x), expected)


def test_modules_to_save(base, x, tmp_path):
    model = get_peft_model(copy.deepcopy(base), config(modules_to_save=["head"]))
    trained = {n for n, p in model.named_parameters() if p.requires_grad and "lora_" not in n}
    assert trained == {f"base_model.model.head.modules_to_save.default.{kind}" for kind in ("weight", "bias")}
    with torch.no_grad():
        model.base_model.model.head.modules_to_save["default"].weight.add_(1)
    model.eval().save_pretrained(tmp_path)
    loaded = PeftModel.from_pretrained(copy.deepcopy(base), tmp_path).eval()
    assert torch.equal(loaded(x), model(x))
    assert not torch.equal(loaded(x), base(x))


def test_target_modules_by_regex(base):
    model = get_peft_model(base, config(target_modules=r"sec.*"))
    assert {n.split(".")[2] for n, p in model.named_parameters() if p.requires_grad} == {"second"}


class Stack(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList([TwoLinears() for _ in range(3)])


def test_layers_to_transform_and_patterns():
    model = get_peft_model(
        Stack(),
        config(
            layers_to_transform=[1, 2],
            layers_pattern="layers",
            rank_pattern={"layers.1.first": 5},
            alpha_pattern={"layers.2.second": 8},
        ),
    )
    layers = model.base_model.model.layers
    assert isinstance(layers[0].first, nn.Linear)
    assert layers[1].first.r["default"] == 5
    assert layers[1].first.lora_experts["default"].weight.shape == (8, 5, 5, 3, 3)
    assert layers[1].second.r["default"] == 3
    assert layers[2].second.scaling["default"] == 8 / 3


def test_merging_is_refused_with_the_reason_and_the_remedy(base):
    model = get_peft_model(base, config())
    for merge in (model.merge_and_unload, model.merge_adapter, model.base_model.model.first.merge):
        with pytest.raises(ValueError, match="depends on the input") as caught:
            merge()
        assert "unload()" in str(caught.value)


def test_weighted_combination_is_refused(base):
    model = get_peft_model(base, config(), "one")
    model.add_adapter("two", config())
    with pytest.raises(ValueError, match="set_adapter"):
        model.add_weighted_adapter(["one", "two"], [0.5, 0.5], "three")


def test_unload_gives_the_base_model_back(base, x):
    expected = base(x)
    unloaded = get_peft_model(copy.deepcopy(base), config(init_lora_weights=False)).unload()
    assert torch.equal(unloaded(x), expected)
    assert {type(m) for m in unloaded.children()} == {nn.Linear}
    assert not unloaded._forward_pre_hooks


def test_injection_without_a_peft_model(base, x):
    expected = base(x)
    model = inject_adapter_in_model(config(), copy.deepcopy(base)).eval()
    assert torch.equal(model(x), expected)


def test_status_reports_the_method(base):
    model = get_peft_model(base, config())
    assert model.get_model_status().peft_types == {"default": "CONV_LORA"}
    assert len(model.get_layer_status()) == 2


def test_mixed_batch_of_adapters(base, x):
    model = get_peft_model(copy.deepcopy(base), config(init_lora_weights=False), "one").eval()
    model.add_adapter("two", config(init_lora_weights=False))
    model.eval()
    expected = []
    for i, name in enumerate(("one", "two")):
        model.set_adapter(name)
        expected.append(model(x[i : i + 1]))
    torch.testing.assert_close(model(x, adapter_names=["one", "two"]), torch.cat(expected))


def test_other_layers_are_refused():
    model = nn.Sequential(nn.Conv2d(3, 4, 1))
    with pytest.raises(ValueError, match="Conv2d"):
        get_peft_model(model, ConvLoraConfig(target_modules=["0"]))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"num_experts": 0}, "`num_experts` must be at least 1"),
        ({"num_experts": 65}, "`num_experts` must be at most 64"),
        ({"expert_scales": [65] * 8}, "`expert_scales` must be at most 64"),
        ({"top_k": 9}, "`top_k` must be between 1 and num_experts=8"),
        ({"expert_scales": [1, 2]}, "one scale per expert"),
        ({"expert_scales": [0] * 8}, "whole numbers from 1 up"),
        ({"gate_scaling": "sigmoid"}, "'none', 'softmax' or 'average'"),
        ({"load_balancing_weight": -1.0}, "load_balancing_weight"),
        ({"load_balancing_weight": float("nan")}, "load_balancing_weight"),
        ({"lora_alpha": float("inf")}, "lora_alpha"),
        ({"lora_dropout": float("nan")}, "lora_dropout"),
        ({"grid_size": (3,)}, "(height, width)"),
        ({"num_prefix_tokens": -1}, "0 or more"),
        ({"use_dora": True}, "cannot be combined with `use_dora`"),
        ({"init_lora_weights": "pissa"}, "`init_lora_weights`"),
    ],
)
def test_bad_settings_are_named(settings, words):
    with pytest.raises(ValueError, match=re.escape(words)):
        ConvLoraConfig(**settings)


def test_several_problems_in_one_message():
    with pytest.raises(ValueError, match=r"num_experts.*gate_scaling"):
        ConvLoraConfig(num_experts=-1, gate_scaling="x")
