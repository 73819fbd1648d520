import pytest
import torch

from convlora.inference.evaluate import autocast
from convlora.methods.registry import apply_method
from convlora.models import SamForSemanticSegmentation
from convlora.models.layer_names import sam_layers
from convlora.models.parameters import halve_frozen_weights
from tests.helpers.models import tiny_sam


def adapted(method):
    base = SamForSemanticSegmentation.from_sam(tiny_sam(), image_size=64)
    torch.manual_seed(1)
    model = apply_method(base, method, {}, targets=sam_layers, modules_to_save=["mask_decoder"])
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    return model


@pytest.mark.parametrize("method", ["lora", "conv-lora"])
def test_halved_weights_change_no_bit_of_values_and_gradients(method):
    pixels = torch.randn(2, 3, 64, 64)
    results = []
    for halve in (False, True):
        model = adapted(method).train()
        if halve:
            halve_frozen_weights(model.base_model.model.vision_encoder, "bf16")
        torch.manual_seed(0)
        with autocast(torch.device("cpu"), "bf16"):
            out = model(pixel_values=pixels, labels=(pixels[:, 0] > 0).long())
        out.loss.backward()
        grads = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
        results.append((out.logits, grads))
    (first, first_grads), (second, second_grads) = results
    assert torch.equal(first, second)
    assert first_grads.keys() == second_grads.keys()
    assert [name for name in first_grads if not torch.equal(first_grads[name], second_grads[name])] == []


def test_what_is_trained_and_norms_and_tables_stay_in_single_precision():
    model = adapted("conv-lora")
    halve_frozen_weights(model.base_model.model.vision_encoder, "fp16")
    for name, parameter in model.named_parameters():
        is_projection = parameter.ndim in (2, 4) and "rel_pos" not in name and "pos_embed" not in name
        frozen = not parameter.requires_grad and "vision_encoder" in name
        if frozen and is_projection and "lora_" not in name:
            assert parameter.dtype == torch.float16, name
        elif parameter.requires_grad or not frozen or "norm" in name or "pos" in name:
            assert parameter.dtype == torch.float32, name


def test_single_precision_leaves_all_alone():
    model = adapted("lora")
    halve_frozen_weights(model.base_model.model.vision_encoder, "fp32")
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
