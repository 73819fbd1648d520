"""Agreement with the published implementation, element by element, in values and gradients."""

import pytest
import torch
from peft import get_peft_model
from torch import nn

from convlora.methods.conv_lora import ConvLoraConfig, gate, load_balancing_loss
from tests.helpers.reference import case_tensors, description, relative_difference
from tests.helpers.tolerances import REFERENCE

CASES = description("conv_lora_linear")["cases"]


def adapted_layer(case: dict, stored: dict[str, torch.Tensor]) -> nn.Module:
    """The linear layer of a case as PEFT adapts it, with the stored weights."""
    base = nn.Sequential(nn.Linear(case["in_features"], case["out_features"], bias=case["has_bias"]))
    config = ConvLoraConfig(r=case["r"], lora_alpha=case["alpha"], num_experts=case["experts"], target_modules=["0"])
    model = get_peft_model(base, config)
    layer = model.base_model.model[0]
    with torch.no_grad():
        layer.base_layer.weight.copy_(stored["weight"])
        if case["has_bias"]:
            layer.base_layer.bias.copy_(stored["bias"])
        layer.lora_A["default"].weight.copy_(stored["lora_A"])
        layer.lora_B["default"].weight.copy_(stored["lora_B"])
        layer.lora_gate["default"].weight.copy_(stored["w_gate"].t())
        layer.lora_gate_noise["default"].weight.copy_(stored["w_noise"].t())
        for expert in range(case["experts"]):
            layer.lora_experts["default"].weight[expert].copy_(stored[f"experts.{expert}.weight"])
            layer.lora_experts["default"].bias[expert].copy_(stored[f"experts.{expert}.bias"])
    return model.train(case["mode"] == "train")


def test_all_cases_are_here():
    assert len(CASES) == 20
    assert {case["mode"] for case in CASES} == {"train", "eval"}


@pytest.mark.parametrize("case", CASES, ids=[case["name"] for case in CASES])
def test_agrees(case, monkeypatch, record_property):
    stored = case_tensors("conv_lora_linear", case["name"])
    model = adapted_layer(case, stored)
    layer = model.base_model.model[0]
    if case["mode"] == "train":
        monkeypatch.setattr(gate, "draw_noise", lambda like: stored["noise"].to(like))
    x = stored["input"].clone().requires_grad_(True)

    output = model(x)
    balance = load_balancing_loss(model)

    worst = {"output": relative_difference(output, stored["output"])}
    worst["moe_loss"] = relative_difference(balance, stored["moe_loss"].reshape(()))
    if case["mode"] == "train":
        objective = (output * stored["probe"]).sum() + balance
        # The terms of this sum are thousands of times larger than what is left of them, so that the rounding of each,
        # not of the sum, is the measure.
        terms = (output * stored["probe"]).double()
        exact = terms.sum() + balance.double()
        worst["objective"] = relative_difference(exact, stored["objective"].reshape(()), floor=float(terms.norm()))
        objective.backward()
        gradients = {
            "input": x.grad,
            "lora_A": layer.lora_A["default"].weight.grad,
            "lora_B": layer.lora_B["default"].weight.grad,
            "w_gate": layer.lora_gate["default"].weight.grad.t(),
            "w_noise": layer.lora_gate_noise["default"].weight.grad.t(),
        }
        for expert in range(case["experts"]):
            gradients[f"experts.{expert}.weight"] = layer.lora_experts["default"].weight.grad[expert]
            gradients[f"experts.{expert}.bias"] = layer.lora_experts["default"].bias.grad[expert]
        for name, gradient in gradients.items():
            # The gate's gradients are small: they are held to their own magnitude.
            floor = 1e-12 if name in ("w_gate", "w_noise") else 1.0
            worst[f"grad.{name}"] = relative_difference(gradient, stored[f"grad.{name}"], floor)
    record_property("largest_differences", worst)
    assert max(worst.values()) < REFERENCE, worst


@pytest.mark.parametrize("case", [c for c in CASES if c["experts"] > 1], ids=lambda case: case["name"])
def test_gate_chooses_as_published(case, monkeypatch):
    stored = case_tensors("conv_lora_linear", case["name"])
    noisy = case["mode"] == "train"
    if noisy:
        monkeypatch.setattr(gate, "draw_noise", lambda like: stored["noise"].to(like))
    gating = gate.noisy_top_k(stored["pooled"], stored["w_gate"].t(), stored["w_noise"].t(), top_k=1, noisy=noisy)
    assert torch.equal(gating.indices[:, 0], stored["expert"].long())
    torch.testing.assert_close(
        gate.balance_loss(gating.shares) * 0.01, stored["moe_loss"].reshape(()), rtol=1e-4, atol=1e-6
    )
