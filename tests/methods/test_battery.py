"""Every method must pass the same checks on the segmenter; a new method takes part by being registered."""

import copy
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file

from convlora import load_balancing_loss
from convlora.methods.blocks import number_of_blocks
from convlora.methods.layers import Layers
from convlora.methods.registry import METHODS, apply_method
from convlora.models.layer_names import MODULES_TO_SAVE, sam_layers
from convlora.models.parameters import halve_frozen_weights
from tests.helpers.models import tiny_segmenter
from tests.helpers.no_sync import no_sync
from tests.helpers.tolerances import BY_DTYPE

ADAPTING = [name for name, method in METHODS.items() if method.layers is not None]
OWN = ("lora_", "tuned_", "conv_adapters", "visual_prompts", "side_networks")
NOT_NEUTRAL = ["vpt"]  # its paper's tokens change the model from the start
LATE = [name for name, method in METHODS.items() if method.late]


def base(name="lora", image_size=64, **kwargs):
    return tiny_segmenter(name, image_size, **kwargs).eval()


def adapted(name, model=None, options=None):
    return apply_method(
        base(name) if model is None else model, name, options or {}, targets=sam_layers, modules_to_save=MODULES_TO_SAVE
    )


def disturb(model):
    """Moves everything that is trained away from the identity."""
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(0.05 * torch.randn_like(parameter))
    return model


def loss_of(model, pixels):
    torch.manual_seed(2)
    return model(pixel_values=pixels, labels=(pixels[:, 0] > 0).long()).loss + load_balancing_loss(model)


@pytest.fixture
def pixels():
    return torch.randn(2, 3, 64, 64)


@pytest.mark.parametrize("name", METHODS)
def test_it_starts_as_the_frozen_model_and_changes_when_disturbed(name, pixels):
    expected = base(name)(pixels).logits
    model = adapted(name).eval()
    with torch.no_grad():
        if name not in NOT_NEUTRAL:
            torch.testing.assert_close(model(pixels).logits, expected, **BY_DTYPE[torch.float32]._asdict())
        disturb(model)
        assert not torch.allclose(model(pixels).logits, expected, atol=1e-3)
        with model.disable_adapter():
            torch.testing.assert_close(model(pixels).logits, expected, **BY_DTYPE[torch.float32]._asdict())


@pytest.mark.parametrize("name", METHODS)
def test_nothing_in_it_waits_for_the_device(name, pixels):
    model = adapted(name).train()
    model(pixels)  # some tables are made in the first pass
    with no_sync():
        output = model(pixels)
        (model.base_model.model.loss_of(output, (pixels[:, 0] > 0).long()) + load_balancing_loss(model)).backward()


@pytest.mark.parametrize("name", METHODS)
def test_it_trains_what_it_should_and_nothing_else(name, pixels):
    model = adapted(name).train()
    method = METHODS[name]
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    in_full = "mask_decoder" if method.adapts_decoder else "mask_decoder.modules_to_save"
    parts = [in_full] + ["vision_encoder.modules_to_save"] * method.trains_encoder
    if method.network is not None:
        parts = ["network.modules_to_save"]
        assert len(trained) == len(list(base(name).parameters()))
    own = {key for key in trained if not any(part in key for part in parts)}
    if method.layers is None:
        assert not own
    else:
        assert own
        assert all("vision_encoder" in key and any(part in key for part in OWN) for key in own)
    before = {key: value.clone() for key, value in model.named_parameters()}
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    for _ in range(2):  # of a product of two matrices, one of them zero, the other moves in the second step only
        optimizer.zero_grad()
        loss_of(model, pixels).backward()
        optimizer.step()
    assert all(parameter.grad is not None for parameter in model.parameters() if parameter.requires_grad), (
        "every parameter takes part: distributed training searches for no unused ones"
    )
    moved = {key for key, value in model.named_parameters() if not torch.equal(value, before[key])}
    assert moved <= trained
    assert any(key in moved for key in own) or not own
    if method.trains_encoder:
        assert any("vision_encoder.modules_to_save" in key for key in moved)


@pytest.mark.parametrize("name", LATE)
def test_late_methods_leave_the_first_half_alone(name):
    model = adapted(name)
    assert number_of_blocks(model) == 4
    blocks = {key.split("layers.")[1][0] for key, p in model.named_parameters() if p.requires_grad and "lora_" in key}
    assert blocks == {"2", "3"}


@pytest.mark.parametrize("name", METHODS)
def test_it_is_saved_and_loaded(name, pixels, tmp_path):
    model = disturb(adapted(name)).eval()
    model.save_pretrained(tmp_path)
    loaded = PeftModel.from_pretrained(base(name), str(tmp_path)).eval()
    kept, again = model.state_dict(), loaded.state_dict()
    assert kept.keys() == again.keys()
    assert all(torch.equal(again[key], value) for key, value in kept.items())
    expected = model(pixels).logits.detach()
    with torch.no_grad():
        torch.testing.assert_close(loaded(pixels).logits, expected, **BY_DTYPE[torch.float32]._asdict())
        other = PeftModel.from_pretrained(base(name), str(tmp_path), adapter_name="other").eval()
        torch.testing.assert_close(other(pixels).logits, expected, **BY_DTYPE[torch.float32]._asdict())
    stored = load_file(tmp_path / "adapter_model.safetensors")
    assert not any("default" in key for key in stored), "the name of the adapter is not in the file"
    assert not any(file.suffix in (".bin", ".pt", ".pkl") for file in tmp_path.iterdir())


@pytest.mark.parametrize("name", METHODS)
def test_a_copy_has_weights_of_its_own(name, pixels):
    model = disturb(adapted(name)).train()
    loss_of(model, pixels).backward()
    expected = model.eval()(pixels).logits.detach()
    other = copy.deepcopy(model)
    with torch.no_grad():
        torch.testing.assert_close(other(pixels).logits, expected, **BY_DTYPE[torch.float32]._asdict())
        for parameter in other.parameters():
            if parameter.requires_grad:
                parameter.mul_(0.5)
        assert not torch.allclose(other(pixels).logits, expected, atol=1e-3)
        torch.testing.assert_close(model(pixels).logits, expected, **BY_DTYPE[torch.float32]._asdict())


@pytest.mark.parametrize("name", METHODS)
def test_threads_share_a_model(name, pixels):
    """At many places inside of one pass another thread makes a whole one with another image."""
    model, other = disturb(adapted(name)).eval(), torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        expected, expected_of_other = model(pixels).logits, model(other).logits
    thread, answers, is_inside = ThreadPoolExecutor(1), [], [False]

    @torch.no_grad()
    def pass_of_another_thread():
        answers.append(model(other).logits)

    def interrupt(module, args):
        if not is_inside[0]:
            is_inside[0] = True
            thread.submit(pass_of_another_thread).result()
            is_inside[0] = False

    parts = model.base_model.model
    encoder = parts.network if parts.vision_encoder is None else parts.vision_encoder
    places = [
        module
        for name, module in encoder.named_modules()
        if isinstance(module, torch.nn.Conv2d) or name.endswith(("attn", "qkv", "qkv.base_layer", "mlp"))
    ]
    hooks = [module.register_forward_pre_hook(interrupt) for module in places]
    with torch.no_grad():
        found = model(pixels).logits
    for hook in hooks:
        hook.remove()
    thread.shutdown()
    assert len(answers) >= 5
    assert torch.equal(found, expected)
    assert all(torch.equal(answer, expected_of_other) for answer in answers)


@pytest.mark.parametrize("name", [name for name, method in METHODS.items() if method.network is None])
def test_passes_may_overlap_in_training(name, pixels):
    """Two forward passes before one backward pass, blocks computed again: each batch keeps what is its own."""
    others, found = torch.randn(2, 3, 64, 64), []
    for overlapping in (False, True):
        torch.manual_seed(0)
        model = disturb(adapted(name)).train()
        model.base_model.model.activation_checkpointing_enable({"use_reentrant": False})
        if overlapping:
            (loss_of(model, pixels) + loss_of(model, others)).backward()
        else:
            for batch in (pixels, others):
                loss_of(model, batch).backward()
        found.append({key: p.grad for key, p in model.named_parameters() if p.grad is not None})
    assert found[0].keys() == found[1].keys()
    for key, grad in found[0].items():
        torch.testing.assert_close(found[1][key], grad, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", METHODS)
def test_a_base_model_in_half_precision(name):
    model = adapted(name, base(name).to(torch.bfloat16)).eval()
    with torch.no_grad():
        logits = disturb(model)(torch.randn(1, 3, 64, 64, dtype=torch.bfloat16)).logits
    assert torch.isfinite(logits).all()


@pytest.mark.parametrize("name", [name for name, method in METHODS.items() if method.network is None])
def test_checkpointing_changes_no_gradient(name, pixels):
    grads = []
    for checkpointing in (False, True):
        torch.manual_seed(0)
        model = disturb(adapted(name)).train()
        if checkpointing:
            model.base_model.model.activation_checkpointing_enable({"use_reentrant": False})
        loss_of(model, pixels).backward()
        grads.append({key: p.grad for key, p in model.named_parameters() if p.grad is not None})
    assert grads[0].keys() == grads[1].keys()
    for key, grad in grads[0].items():
        torch.testing.assert_close(grads[1][key], grad, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", METHODS)
def test_bfloat16_and_oblong_images(name):
    model = disturb(adapted(name, base(name, (48, 96)))).train()
    halve_frozen_weights(model.base_model.model.vision_encoder, "bf16")
    pixels = torch.randn(1, 3, 48, 96)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = loss_of(model, pixels)
    loss.backward()
    assert torch.isfinite(loss)
    assert all(
        parameter.dtype == torch.float32 and torch.isfinite(parameter.grad).all()
        for parameter in model.parameters()
        if parameter.requires_grad
    )


@pytest.mark.parametrize("name", [name for name in ADAPTING if METHODS[name].layers is not Layers.ENCODER])
def test_chosen_blocks(name):
    model = apply_method(base(), name, {}, targets=sam_layers, modules_to_save=MODULES_TO_SAVE, blocks=[3])
    keys = [key for key, p in model.named_parameters() if p.requires_grad and "mask_decoder" not in key]
    assert keys
    assert all("layers.3." in key for key in keys)


@pytest.mark.parametrize("name", METHODS)
def test_several_classes(name, pixels):
    model = adapted(name, base(name, num_classes=3, num_mask_tokens=5)).train()
    labels = torch.from_numpy(np.random.default_rng(0).integers(0, 3, (2, 64, 64)))
    loss = model(pixel_values=pixels, labels=labels).loss + load_balancing_loss(model)
    loss.backward()
    assert torch.isfinite(loss)


@pytest.mark.parametrize("name", ADAPTING)
def test_unload_gives_the_encoder_back(name, pixels):
    expected = base().get_image_embeddings(pixels)
    plain = disturb(adapted(name)).unload()
    assert not any(part in key for key, _ in plain.named_parameters() for part in OWN)
    with torch.no_grad():
        assert torch.equal(plain.get_image_embeddings(pixels), expected)


def test_feature_tuning_is_not_merged():
    with pytest.raises(ValueError, match="cannot be merged"):
        adapted("ssf").merge_and_unload()
