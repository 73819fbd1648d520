"""Learning rates: of parts of the model, and rising at the beginning."""

import pytest
import torch
from torch import nn

from convlora.errors import InputError
from convlora.training.checkpoint import load_state
from convlora.training.folder import last_checkpoint
from convlora.training.rates import give_rates, setting_of
from convlora.training.run import train
from tests.training.test_run import log_of

NAMES = {
    "base_model.model.vision_encoder.layers.0.attn.qkv.lora_A.default.weight": None,
    "base_model.model.vision_encoder.details.weight": None,
    "base_model.model.mask_decoder.modules_to_save.default.mask_tokens.weight": "lr_decoder",
    "base_model.model.mask_decoder.modules_to_save.default.detail.conv.weight": "lr_detail",
    "mask_decoder.detail.norm.bias": "lr_detail",
}


@pytest.mark.parametrize(("name", "setting"), NAMES.items())
def test_which_rate_is_that_of_a_parameter(name, setting):
    assert setting_of(name) == setting


class Named(nn.Module):
    """Two parameters, a weight and a bias, of each part."""

    def __init__(self):
        super().__init__()
        self.vision_encoder = nn.Linear(1, 1)
        self.mask_decoder = nn.Sequential()
        self.mask_decoder.add_module("detail", nn.Linear(1, 1))
        self.mask_decoder.add_module("head", nn.Linear(1, 1))


def names_by_rate(model, optimizer):
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    return [
        (group["lr"], group["weight_decay"], [names[id(one)] for one in group["params"]])
        for group in optimizer.param_groups
    ]


def optimizer_of(model):
    weights, biases = [m.weight for m in leaves(model)], [m.bias for m in leaves(model)]
    return torch.optim.AdamW([{"params": weights}, {"params": biases, "weight_decay": 0.0}], lr=1.0, weight_decay=0.5)


def leaves(model):
    return [module for module in model.modules() if isinstance(module, nn.Linear)]


def test_groups_are_split_by_rate_and_keep_their_weight_decay():
    model = Named()
    optimizer = optimizer_of(model)
    give_rates(optimizer, model, {"lr_decoder": 0.1, "lr_detail": 0.2})
    assert names_by_rate(model, optimizer) == [
        (1.0, 0.5, ["vision_encoder.weight"]),
        (1.0, 0.0, ["vision_encoder.bias"]),
        (0.1, 0.5, ["mask_decoder.head.weight"]),
        (0.1, 0.0, ["mask_decoder.head.bias"]),
        (0.2, 0.5, ["mask_decoder.detail.weight"]),
        (0.2, 0.0, ["mask_decoder.detail.bias"]),
    ]


def test_a_part_without_a_rate_learns_as_the_rest():
    model = Named()
    optimizer = optimizer_of(model)
    before = [list(group["params"]) for group in optimizer.param_groups]
    give_rates(optimizer, model, {})
    assert [group["params"] for group in optimizer.param_groups] == before
    give_rates(optimizer, model, {"lr_decoder": 0.1})
    assert names_by_rate(model, optimizer)[0] == (1.0, 0.5, ["vision_encoder.weight", "mask_decoder.detail.weight"])


def test_a_run_without_a_detail_branch_says_so_before_it_begins(make_config, tmp_path):
    config = make_config(lr_detail=1e-3)
    config.model.detail = "none"
    with pytest.raises(InputError, match=r"training\.lr_detail"):
        train(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("method", ["lora", "decoder"])
def test_rates_of_a_run(make_config, tmp_path, method):
    """They rise and fall together; the log tells the base rate, also where all that is trained has another."""
    config = make_config(epochs=1, batch_size=1, lr_decoder=2e-3, lr_detail=4e-3, warmup_steps=2)
    config.method.name = method
    train(config, tmp_path / "run")
    rates = [line["lr"] for line in log_of(tmp_path / "run")]
    assert rates == pytest.approx([0, 5e-3, 1e-2, 7.5e-3, 5e-3, 2.5e-3])
    state = load_state(last_checkpoint(tmp_path / "run") / "optimizer_state.safetensors")
    groups = state["optimizer"]["param_groups"]
    head = [(2e-3, 1e-4), (2e-3, 0.0), (4e-3, 1e-4), (4e-3, 0.0)]
    assert [(group["initial_lr"], group["weight_decay"]) for group in groups] == (
        head if method == "decoder" else [(1e-2, 1e-4), *head]
    )


def test_a_rise_that_takes_the_whole_run_is_refused(make_config, tmp_path):
    with pytest.raises(InputError, match=r"training\.warmup_steps is 6, but the run has 6 steps.*Lower it"):
        train(make_config(warmup_steps=6), tmp_path / "run")
    assert not (tmp_path / "run").exists()
