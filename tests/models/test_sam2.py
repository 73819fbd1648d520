"""SAM 2 as a segmenter: transformers' own mask without prompts, and everything SAM can do."""

import json
import shutil

import pytest
import torch
from transformers import AutoModelForSemanticSegmentation, Sam2Config, Sam2Model, Sam2VisionConfig
from transformers.models.sam2.configuration_sam2 import (
    Sam2HieraDetConfig,
    Sam2MaskDecoderConfig,
    Sam2PromptEncoderConfig,
)

from convlora.errors import InputError
from convlora.methods.conv_lora import check_grid
from convlora.methods.registry import METHODS, Layers, number_of_blocks
from convlora.models.build import adapt
from convlora.models.checkpoints import native_size
from convlora.models.loading import load_segmenter
from convlora.models.random_sam import randomize
from convlora.models.sam2_segmenter import Sam2ForSemanticSegmentation


def small_sam2(size=128, **decoder):
    """Five blocks in four stages, one of them with global attention, as the published ones have them."""
    backbone = Sam2HieraDetConfig(
        hidden_size=16, num_attention_heads=1, image_size=[size, size], blocks_per_stage=[1, 1, 2, 1],
        embed_dim_per_stage=[16, 32, 64, 128], num_attention_heads_per_stage=[1, 2, 4, 8],
        window_size_per_stage=[8, 4, 4, 4], global_attention_blocks=[3],
        window_positional_embedding_background_size=[3, 3],
    )  # fmt: skip
    cells = [[size // stride, size // stride] for stride in (4, 8, 16)]
    vision = Sam2VisionConfig(
        backbone_config=backbone, backbone_channel_list=[128, 64, 32, 16], fpn_hidden_size=32,
        backbone_feature_sizes=cells,
    )  # fmt: skip
    small = {"hidden_size": 32, "mlp_dim": 32, "num_attention_heads": 2, "iou_head_hidden_dim": 32, **decoder}
    torch.manual_seed(0)
    model = Sam2Model(
        Sam2Config(
            vision_config=vision,
            prompt_encoder_config=Sam2PromptEncoderConfig(hidden_size=32, image_size=size),
            mask_decoder_config=Sam2MaskDecoderConfig(**small),
        )
    )
    randomize(model)
    with torch.no_grad():
        model.no_memory_embedding.normal_(std=0.3)
    return model.eval()


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


@pytest.mark.parametrize("method", [name for name, method in METHODS.items() if method.network is None])
def test_methods_train_or_say_that_they_need_a_sam(folder, method):
    model = load_segmenter(folder, image_size=64)
    if METHODS[method].layers in (Layers.ATTENTION, Layers.ENCODER):
        with pytest.raises(InputError, match="only the vision encoder of the first SAM and SAM-HQ"):
            adapt(model, method, {})
        return
    adapted = adapt(model, method, {}).train()
    trained = {n: p.clone() for n, p in adapted.named_parameters() if p.requires_grad}
    frozen = {n: p.clone() for n, p in adapted.named_parameters() if not p.requires_grad}
    optimizer = torch.optim.AdamW([p for p in adapted.parameters() if p.requires_grad], lr=1e-2)
    for _ in range(2):
        adapted(torch.randn(2, 3, 64, 64), labels=torch.randint(0, 2, (2, 64, 64))).loss.backward()
        optimizer.step()
    now = dict(adapted.named_parameters())
    assert all(torch.equal(now[n], p) for n, p in frozen.items())
    changed = [n for n, p in trained.items() if not torch.equal(now[n], p)]
    assert any("mask_decoder" in n for n in changed)
    assert any("vision_encoder" in n for n in changed) == (method != "decoder")


@pytest.mark.parametrize("head", ["per-pixel", "mask-classification"])
def test_several_classes_at_an_oblong_size(folder, head):
    model = load_segmenter(folder, image_size=(64, 96), num_classes=4, head=head, detail="half")
    adapted = adapt(model, "conv-lora", {}).train()
    output = adapted(torch.randn(2, 3, 64, 96), labels=torch.randint(0, 4, (2, 64, 96)))
    output.loss.backward()
    assert output.mask_logits.shape[-2:] == (32, 48)
    unused = ("lora_", "obj_score")
    assert all(p.grad is not None for n, p in adapted.named_parameters() if p.requires_grad and unused[0] not in n)


def test_saved_and_loaded(folder, tmp_path):
    model = load_segmenter(folder, num_classes=3, head="per-pixel", detail="half", image_size=64)
    model.save_pretrained(tmp_path)
    x = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        expected = model(x).logits
        assert torch.equal(Sam2ForSemanticSegmentation.from_pretrained(tmp_path)(x).logits, expected)
        assert torch.equal(AutoModelForSemanticSegmentation.from_pretrained(tmp_path)(x).logits, expected)


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


def test_checkpointing_changes_nothing(folder):
    gradients = []
    for checkpointed in (False, True):
        adapted = adapt(load_segmenter(folder, image_size=64), "lora", {}).train()
        if checkpointed:
            adapted.activation_checkpointing_enable({"use_reentrant": False})
        torch.manual_seed(1)
        for name, parameter in adapted.named_parameters():
            if name.endswith(("lora_A.default.weight", "lora_B.default.weight")):
                torch.nn.init.normal_(parameter, std=0.1)
        adapted(torch.ones(1, 3, 64, 64), labels=torch.ones(1, 64, 64, dtype=torch.long)).loss.backward()
        gradients.append({n: p.grad for n, p in adapted.named_parameters() if "lora_A" in n})
    plain, again = gradients
    assert len(plain) == 5
    assert all(torch.allclose(plain[n], again[n], rtol=1e-3, atol=1e-6) for n in plain)


def test_sizes(folder):
    assert native_size(folder) == [128, 128]
    assert number_of_blocks(load_segmenter(folder).vision_encoder) == 5
    with pytest.raises(ValueError, match=r"divisible by 32, got 80 x 80"):
        load_segmenter(folder, image_size=80)
    with pytest.raises(ValueError, match="for the first SAM"):
        load_segmenter(folder, attention="blocks")
