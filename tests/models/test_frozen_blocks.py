import pytest
import torch
from safetensors.torch import load_file, save_file

from convlora.methods.registry import apply_method
from convlora.models import SamForSemanticSegmentation
from convlora.models.frozen_blocks import FrozenBlockCache, frozen_blocks
from convlora.models.layer_names import sam_layers
from tests.helpers.models import tiny_sam
from tests.helpers.tolerances import BY_DTYPE


def adapted(layers, method="lora"):
    base = SamForSemanticSegmentation.from_sam(tiny_sam(num_hidden_layers=4), image_size=64)
    model = apply_method(base, method, {}, targets=sam_layers, modules_to_save=["mask_decoder"], blocks=layers)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    return model, model.base_model.model


def run(model, pixels):
    model.zero_grad()
    out = model(pixel_values=pixels, labels=(pixels[:, 0] > 0).long())
    out.loss.backward()
    grads = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    return out.logits.detach(), grads


@pytest.mark.parametrize(("layers", "expected"), [(None, 0), ([1, 2, 3], 1), ([2, 3], 2), ([3], 3)])
def test_blocks_below_the_first_adapted_one_are_frozen(layers, expected):
    assert frozen_blocks(adapted(layers)[1].vision_encoder) == expected


def test_a_trained_patch_embedding_or_dropout_leaves_nothing_frozen():
    encoder = adapted([3])[1].vision_encoder
    encoder.config.attention_dropout = 0.1
    assert frozen_blocks(encoder) == 0
    encoder.config.attention_dropout = 0.0
    encoder.patch_embed.projection.bias.requires_grad_(True)
    assert frozen_blocks(encoder) == 0


@pytest.mark.parametrize("checkpointing", [False, True])
def test_values_and_gradients_are_those_without_cache(tmp_path, checkpointing):
    model, base = adapted([2, 3])
    model.train()
    if checkpointing:
        base.activation_checkpointing_enable({"use_reentrant": False})
    pixels = torch.randn(2, 3, 64, 64)
    logits, grads = run(model, pixels)
    base.frozen_block_cache = FrozenBlockCache(base.vision_encoder, tmp_path, training_images=True)
    for _ in range(2):  # filling it, and reading from it
        cached_logits, cached_grads = run(model, pixels)
        torch.testing.assert_close(cached_logits, logits, **BY_DTYPE[torch.float32]._asdict())
        assert cached_grads.keys() == grads.keys()
        for name in grads:
            torch.testing.assert_close(cached_grads[name], grads[name], **BY_DTYPE[torch.float32]._asdict())


def test_later_passes_skip_the_frozen_blocks_and_equal_the_first_bit_for_bit(tmp_path):
    model, base = adapted([2, 3])
    model.train()
    calls = []
    base.vision_encoder.layers[0].register_forward_hook(lambda *_: calls.append(0))
    base.frozen_block_cache = FrozenBlockCache(base.vision_encoder, tmp_path, training_images=True)
    pixels = torch.randn(3, 3, 64, 64)
    first, _ = run(model, pixels[:2])
    assert len(calls) == 2
    again, _ = run(model, pixels[:2])
    assert len(calls) == 2
    assert torch.equal(first, again)
    run(model, pixels[[2, 0]])
    assert len(calls) == 3, "only the new image passes"
    assert len(list(tmp_path.rglob("*.safetensors"))) == 3


def test_other_weights_below_never_meet_old_entries(tmp_path):
    _, base = adapted([2, 3])
    first = FrozenBlockCache(base.vision_encoder, tmp_path, training_images=True)
    base.vision_encoder.layers[1].mlp.lin1.weight.data[0, 0] += 1
    second = FrozenBlockCache(base.vision_encoder, tmp_path, training_images=True)
    assert first.folder != second.folder


def test_images_that_never_come_again_are_not_kept(tmp_path):
    model, base = adapted([3])
    base.frozen_block_cache = FrozenBlockCache(base.vision_encoder, tmp_path, training_images=False)
    model.train()
    run(model, torch.randn(1, 3, 64, 64))
    assert not list(tmp_path.rglob("*.safetensors"))
    model.eval()
    run(model, torch.randn(1, 3, 64, 64))
    assert len(list(tmp_path.rglob("*.safetensors"))) == 1


@pytest.mark.parametrize("damage", ["cut short", "of another size", "of another name"])
def test_a_damaged_entry_is_made_anew(tmp_path, damage):
    model, base = adapted([3])
    base.frozen_block_cache = FrozenBlockCache(base.vision_encoder, tmp_path, training_images=True)
    pixels = torch.randn(1, 3, 64, 64)
    first, _ = run(model.train(), pixels)
    (entry,) = tmp_path.rglob("*.safetensors")
    if damage == "cut short":
        entry.write_bytes(entry.read_bytes()[:100])
    else:
        hidden = load_file(entry)["hidden"]
        save_file({"hidden": hidden[:, :1]} if damage == "of another size" else {"other": hidden}, entry)
    again, _ = run(model, pixels)
    assert torch.equal(first, again)


def test_half_precision_has_entries_of_its_own(tmp_path):
    model, base = adapted([3])
    base.frozen_block_cache = FrozenBlockCache(base.vision_encoder, tmp_path, training_images=True)
    model.eval()
    pixels = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        model(pixel_values=pixels)
        with torch.autocast("cpu", torch.bfloat16):
            model(pixel_values=pixels)
    assert len(list(tmp_path.rglob("*.safetensors"))) == 2


def test_a_full_disk_ends_the_cache_and_not_the_run(tmp_path, monkeypatch):
    model, base = adapted([3])
    said = []
    base.frozen_block_cache = FrozenBlockCache(base.vision_encoder, tmp_path, training_images=True, tell=said.append)

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("convlora.models.frozen_blocks.save_file", full)
    pixels = torch.randn(2, 3, 64, 64)
    first, _ = run(model.train(), pixels)
    again, _ = run(model, pixels)
    assert torch.equal(first, again)
    assert len(said) == 1
    assert "No space left" in said[0]
    assert not list(tmp_path.rglob("*.safetensors"))
