import pytest
import torch
from peft import get_peft_model
from torch import nn

from convlora.methods.side_networks import SideNetworkConfig
from convlora.methods.side_networks.networks import high_frequencies
from convlora.models import SamForSemanticSegmentation
from tests.helpers.models import tiny_sam


def segmenter():
    return SamForSemanticSegmentation.from_sam(tiny_sam(), image_size=64).eval()


def beside(kind):
    config = SideNetworkConfig(kind=kind, reduction=4, target_modules="vision_encoder")
    model = get_peft_model(segmenter(), config)
    torch.nn.init.normal_(model.base_model.model.vision_encoder.side_networks["default"].up.weight)
    return model


def test_no_gradient_passes_the_encoder_of_a_ladder():
    model = beside("ladder").train()
    kept = []
    for block in model.base_model.model.vision_encoder.layers:
        block.register_forward_hook(lambda module, inputs, output: kept.append(output))
    embeddings = model.base_model.model.get_image_embeddings(torch.randn(1, 3, 64, 64))
    assert embeddings.requires_grad
    assert len(kept) == 2
    assert not any(output.requires_grad for output in kept), "nothing is kept for a backward pass through the blocks"


def test_the_ladder_is_what_its_formula_says():
    model = beside("ladder")
    encoder, network = segmenter().vision_encoder, model.base_model.model.vision_encoder.side_networks["default"]
    nn.init.normal_(network.gates)
    pixels = torch.randn(2, 3, 64, 64)
    hidden = encoder.patch_embed(pixels) + encoder.pos_embed
    state = None
    for number, block in enumerate(encoder.layers):
        hidden = block(hidden)
        seen = network.downs[number](hidden)
        gate = network.gates[number].sigmoid()
        state = network.blocks[number](seen if state is None else gate * state + (1 - gate) * seen)
    expected = encoder.neck(hidden + network.up(state))
    torch.testing.assert_close(model.base_model.model.get_image_embeddings(pixels), expected, atol=1e-5, rtol=1e-5)


def test_the_prompts_are_what_their_formula_says():
    model = beside("prompt-generator")
    encoder, network = segmenter().vision_encoder, model.base_model.model.vision_encoder.side_networks["default"]
    pixels = torch.randn(2, 3, 64, 64)
    patches = encoder.patch_embed(pixels)
    features = network.of_patches(patches) + network.of_frequencies(high_frequencies(pixels)).permute(0, 2, 3, 1)
    hidden = patches + encoder.pos_embed
    for tune, block in zip(network.tunes, encoder.layers, strict=True):
        hidden = block(hidden + network.up(nn.functional.gelu(tune(features))))
    expected = encoder.neck(hidden)
    torch.testing.assert_close(model.base_model.model.get_image_embeddings(pixels), expected, atol=1e-5, rtol=1e-5)


def test_high_frequencies():
    flat = torch.full((1, 3, 32, 32), 5.0)
    assert high_frequencies(flat).abs().max() < 1e-5
    places = torch.arange(32.0)
    slow, fast = torch.sin(places * 2 * torch.pi / 16), torch.sin(places * 2 * torch.pi / 4)
    assert high_frequencies(slow.expand(1, 3, 32, 32)).abs().max() < 1e-5
    kept = high_frequencies((slow + fast).expand(1, 3, 32, 32))
    torch.testing.assert_close(kept, fast.abs().expand(1, 3, 32, 32), atol=1e-5, rtol=0)


def test_adapters_can_be_switched():
    model = beside("ladder")
    pixels = torch.randn(1, 3, 64, 64)
    first = model(pixels).logits
    model.add_adapter(
        "second", SideNetworkConfig(kind="prompt-generator", reduction=4, target_modules="vision_encoder")
    )
    torch.testing.assert_close(model(pixels).logits, first)
    model.set_adapter("second")
    torch.testing.assert_close(model(pixels).logits, segmenter()(pixels).logits)


def test_what_is_no_encoder_is_refused():
    config = SideNetworkConfig(target_modules=["0"])
    with pytest.raises(ValueError, match="patch_embed, layers and neck"):
        get_peft_model(nn.Sequential(nn.Linear(3, 3)), config)
    with pytest.raises(ValueError, match="`kind` must be one of"):
        SideNetworkConfig(kind="tower")
