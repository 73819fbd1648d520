"""`torch.compile` by a user: with gradients, in one piece."""

import pytest
import torch

from convlora.methods.conv_lora import load_balancing_loss
from convlora.methods.registry import METHODS, apply_method
from convlora.models import SamForSemanticSegmentation
from convlora.models.layer_names import MODULES_TO_SAVE, sam_layers
from tests.helpers.models import tiny_sam
from tests.helpers.tolerances import BY_DTYPE

# PEFT's layer asks a class for the module it was defined in, which the compiler does not know.
NOT_IN_ONE_PIECE = {"dora"}
QUICK = {"conv-lora", "lora"}
CASES = [
    pytest.param(method, attention, marks=[] if method in QUICK and attention == "vectors" else pytest.mark.slow)
    for method in METHODS
    for attention in ("vectors", "blocks")
    if method not in NOT_IN_ONE_PIECE and METHODS[method].network is None
]


@pytest.mark.parametrize(("method", "attention"), CASES)
def test_a_compiled_model_has_the_same_loss_and_gradients(method, attention):
    torch._dynamo.reset()
    base = SamForSemanticSegmentation.from_sam(tiny_sam(), attention=attention)
    model = apply_method(base, method, {}, targets=sam_layers, modules_to_save=MODULES_TO_SAVE).train()
    pixels, labels = torch.randn(2, 3, 64, 64), torch.randint(0, 2, (2, 64, 64))
    found = []
    for form in (model, torch.compile(model, backend="aot_eager", fullgraph=True)):
        torch.manual_seed(1)  # the gate's noise
        loss = form(pixel_values=pixels, labels=labels).loss + load_balancing_loss(model)
        loss.backward()
        found.append((loss.item(), {name: p.grad for name, p in model.named_parameters() if p.grad is not None}))
        model.zero_grad()
    (expected, expected_grads), (loss, grads) = found
    assert loss == pytest.approx(expected, rel=1e-5)
    assert grads.keys() == expected_grads.keys()
    for name, gradient in grads.items():
        torch.testing.assert_close(gradient, expected_grads[name], **BY_DTYPE[torch.float32]._asdict(), msg=name)
