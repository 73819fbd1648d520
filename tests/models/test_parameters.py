import pytest
import torch

from convlora.methods.registry import apply_method
from convlora.models import SamForSemanticSegmentation
from convlora.models.autocast import autocast
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


def values_and_gradients(method, precision, halve, seed=2):
    pixels = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(seed))
    model = adapted(method).train()
    if halve:
        halve_frozen_weights(model.base_model.model.vision_encoder, precision)
    torch.manual_seed(0)
    with autocast(torch.device("cpu"), precision):
        out = model(pixel_values=pixels, labels=(pixels[:, 0] > 0).long())
    out.loss.backward()
    return out.logits, {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("method", ["lora", "conv-lora"])
def test_halved_projections_change_no_bit_of_values_and_gradients(method):
    first, first_grads = values_and_gradients(method, "fp16", False)
    second, second_grads = values_and_gradients(method, "fp16", True)
    assert torch.equal(first, second)
    assert first_grads.keys() == second_grads.keys()
    assert [name for name in first_grads if not torch.equal(first_grads[name], second_grads[name])] == []


@pytest.mark.parametrize("method", ["lora", "conv-lora", "bitfit", "ssf"])
def test_half_precision_from_block_to_block_errs_no_more_than_half_precision_does(method):
    errors = []
    for seed in (
        2,
        3,
        4,
    ):  # some batches are near a kink of the decoder, where any rounding moves the gradients by 10 %
        exact, exact_grads = values_and_gradients(method, "fp32", False, seed)
        for halve in (False, True):
            logits, grads = values_and_gradients(method, "bf16", halve, seed)
            wanted = torch.cat([exact_grads[name].flatten() for name in grads])
            found = torch.cat([grad.flatten() for grad in grads.values()])
            distances = (logits - exact).norm() / exact.norm(), (found - wanted).norm() / wanted.norm()
            errors.append([float(distance.detach()) for distance in distances])
    before, after = (torch.tensor(errors[start::2]).median(dim=0).values for start in (0, 1))
    assert (after < 2 * before).all(), errors  # one more rounding at each of the sums between blocks


def test_blocks_pass_on_bf16():
    model = adapted("conv-lora").eval()
    encoder = model.base_model.model.vision_encoder
    halve_frozen_weights(encoder, "bf16")
    seen = []
    for layer in encoder.layers:
        layer.register_forward_hook(lambda module, args, out: seen.append((args[0].dtype, out.dtype)))
    with autocast(torch.device("cpu"), "bf16"):
        model(pixel_values=torch.randn(1, 3, 64, 64))
    assert set(seen) == {(torch.bfloat16, torch.bfloat16)}


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
