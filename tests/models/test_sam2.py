"""SAM 2 as a segmenter: transformers' own mask without prompts. What it shares with SAM 3 is in test_video_sams.py."""

import json
import shutil

import pytest
import torch

from convlora.errors import InputError
from convlora.methods.blocks import number_of_blocks
from convlora.methods.conv_lora import check_grid
from convlora.models.build import adapt
from convlora.models.checkpoints import native_size
from convlora.models.loading import load_segmenter
from tests.helpers.video_sams import small_sam2


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("sam2")
    small_sam2().save_pretrained(place)
    return place


@pytest.mark.parametrize("detail", ["none", "half"])
def test_equals_the_single_mask_of_transformers_without_prompts(folder, detail):
    """In values and in the gradients of pixels and decoder."""
    stock = small_sam2(dynamic_multimask_via_stability=False)
    model = load_segmenter(folder, detail=detail)
    pixels = torch.randn(2, 3, 128, 128)
    found_gradients, expected_gradients = [], []
    mine = pixels.clone().requires_grad_()
    embeddings, finer = model.encode(mine)
    masks = model.mask_decoder(embeddings, model.image_positional_embeddings(), model.no_mask_embedding(), mine, finer)
    probe = torch.randn_like(masks.coarse)
    (masks.coarse * probe).sum().backward()
    found_gradients += [mine.grad, model.mask_decoder.mask_tokens.weight.grad, model.mask_decoder.conv_s0.weight.grad]

    theirs = pixels.clone().requires_grad_()
    levels = list(stock.vision_encoder(theirs).fpn_hidden_states)
    coarse = levels[2] + stock.no_memory_embedding.view(1, -1, 1, 1)
    high = [stock.mask_decoder.conv_s0(levels[0]), stock.mask_decoder.conv_s1(levels[1])]
    positions = stock.get_image_wide_positional_embeddings()
    expected, *_ = stock.mask_decoder(
        image_embeddings=coarse,
        image_positional_embeddings=positions.repeat(2, 1, 1, 1),
        sparse_prompt_embeddings=torch.zeros(2, 1, 0, 32),
        dense_prompt_embeddings=stock.prompt_encoder.no_mask_embed.weight.reshape(1, -1, 1, 1).expand(2, -1, 8, 8),
        multimask_output=False,
        high_resolution_features=high,
    )
    (expected[:, 0] * probe).sum().backward()
    decoder = stock.mask_decoder
    expected_gradients += [theirs.grad, decoder.mask_tokens.weight.grad, decoder.conv_s0.weight.grad]
    assert expected.std() > 0.1
    torch.testing.assert_close(masks.coarse, expected[:, 0], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(model.image_positional_embeddings(), positions)
    for found, wanted in zip(found_gradients, expected_gradients, strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-3, atol=1e-4 * float(wanted.abs().max()))


def test_every_adapted_layer_of_conv_lora_sees_the_map(folder):
    adapted = adapt(load_segmenter(folder, image_size=(64, 192)), "conv-lora", {})
    seen = check_grid(adapted, torch.randn(1, 3, 64, 192))
    layers = [n for n, module in adapted.named_modules() if hasattr(module, "lora_experts")]
    assert len(layers) == 5
    assert len(seen) == 5
    assert all(one.agrees is not False for one in seen.values())
    whole = {name: one.grid for name, one in seen.items() if one.maps_per_image == 1}
    assert (4, 12) in whole.values(), "the block with global attention sees the whole map"


def test_a_checkpoint_of_videos_is_read(folder, tmp_path):
    """As the published ones are."""
    shutil.copytree(folder, tmp_path / "video")
    file = tmp_path / "video" / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "model_type": "sam2_video"}))
    x = torch.randn(1, 3, 128, 128)
    with torch.no_grad():
        assert torch.equal(load_segmenter(tmp_path / "video")(x).logits, load_segmenter(folder)(x).logits)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"blocks_per_stage": [3000, 1, 2, 1]}, "which no model has"),
        ({"blocks_per_stage": [600, 600, 2, 1]}, "which no model has"),
        ({"model_type": "timm_wrapper"}, "a backbone that is none of SAM 2"),
    ],
)
def test_a_backbone_that_is_none(folder, tmp_path, settings, words):
    shutil.copytree(folder, tmp_path / "m")
    file = tmp_path / "m" / "config.json"
    config = json.loads(file.read_text())
    config["vision_config"]["backbone_config"].update(settings)
    file.write_text(json.dumps(config))
    with pytest.raises(InputError, match=words):
        load_segmenter(tmp_path / "m")


def test_sizes(folder):
    assert native_size(folder) == [128, 128]
    assert number_of_blocks(load_segmenter(folder).vision_encoder) == 5
    with pytest.raises(ValueError, match=r"divisible by 32, got 80 x 80"):
        load_segmenter(folder, image_size=80)
    with pytest.raises(ValueError, match="for the first SAM"):
        load_segmenter(folder, attention="blocks")
