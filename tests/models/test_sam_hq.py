"""SAM-HQ as a segmenter: its own high-quality mask without prompts, and everything SAM can do."""

import copy
import threading

import pytest
import torch
from transformers import AutoModelForSemanticSegmentation, SamHQConfig, SamHQModel
from transformers.models.sam_hq.configuration_sam_hq import SamHQMaskDecoderConfig

from convlora.errors import InputError
from convlora.methods.conv_lora import check_grid
from convlora.methods.registry import METHODS
from convlora.models.build import adapt
from convlora.models.checkpoints import native_size
from convlora.models.frozen_blocks import FrozenBlockCache
from convlora.models.high_quality_segmenter import SamHQForSemanticSegmentation
from convlora.models.loading import load_segmenter
from convlora.models.random_sam import randomize, small_sam_config
from convlora.models.segmenter import SamForSemanticSegmentation


def small_sam_hq(size=128):
    settings = small_sam_config(size, hidden_size=24, num_hidden_layers=4, num_attention_heads=2, decoder_size=32)
    parts = settings.to_dict()
    vision = {k: v for k, v in parts["vision_config"].items() if k != "model_type"}
    prompt = {k: v for k, v in parts["prompt_encoder_config"].items() if k != "model_type"}
    decoder = {k: v for k, v in parts["mask_decoder_config"].items() if k != "model_type"}
    torch.manual_seed(0)
    model = SamHQModel(
        SamHQConfig(
            vision_config=vision,
            prompt_encoder_config=prompt,
            mask_decoder_config=SamHQMaskDecoderConfig(**{**decoder, "vit_dim": 24}).to_dict(),
        )
    )
    randomize(model)
    model.tie_weights()
    return model.eval()


def high_quality_mask(stock, embeddings, early):
    """The mask of the high-quality token, of the modules of transformers' decoder, one after the other.

    The forward pass of that decoder drops what its transformer makes of the image, and mirrors the map that it takes in
    its place (transformers 5.23); the published code does not. So the passes of SAM's decoder are followed here.
    """
    decoder = stock.mask_decoder
    tokens = torch.cat([decoder.iou_token.weight, decoder.mask_tokens.weight, decoder.hq_token.weight])
    dense = stock.prompt_encoder.no_mask_embed.weight.reshape(1, -1, 1, 1)
    queries, keys = decoder.transformer(
        point_embeddings=tokens.repeat(len(embeddings), 1, 1, 1),
        image_embeddings=embeddings + dense,
        image_positional_embeddings=stock.get_image_wide_positional_embeddings().repeat(len(embeddings), 1, 1, 1),
        attention_similarity=None,
    )
    gelu = torch.nn.functional.gelu
    up = keys.transpose(2, 3).reshape(embeddings.shape)
    up = gelu(decoder.upscale_conv2(gelu(decoder.upscale_layer_norm(decoder.upscale_conv1(up)))))
    features = decoder.mask_conv2(gelu(decoder.mask_norm(decoder.mask_conv1(up))))
    features = features + decoder.encoder_conv2(gelu(decoder.encoder_norm(decoder.encoder_conv1(embeddings))))
    compressed = gelu(decoder.compress_vit_norm(decoder.compress_vit_conv1(early.permute(0, 3, 1, 2))))
    features = features + decoder.compress_vit_conv2(compressed)
    kernels = decoder.hq_mask_mlp(queries[:, 0, -1])
    return (kernels[:, :, None, None] * features).sum(1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("sam_hq")
    small_sam_hq().save_pretrained(place)
    return place


@pytest.mark.parametrize("detail", ["none", "half"])
@pytest.mark.parametrize("attention", ["sdpa", "auto"])
def test_equals_the_high_quality_mask_of_transformers_without_prompts(folder, detail, attention):
    """In values and in the gradients of pixels, encoder and decoder."""
    stock = small_sam_hq()
    model = load_segmenter(folder, detail=detail, attention=attention)
    assert isinstance(model, SamHQForSemanticSegmentation)
    pixels = torch.randn(2, 3, 128, 128)
    mine = pixels.clone().requires_grad_()
    embeddings, (early,) = model.encode(mine)
    masks = model.mask_decoder(
        embeddings, model.image_positional_embeddings(), model.no_mask_embedding(), mine, (early,)
    )
    probe = torch.randn_like(masks.coarse)
    (masks.coarse * probe).sum().backward()

    theirs = pixels.clone().requires_grad_()
    seen = stock.vision_encoder(theirs)
    torch.testing.assert_close(embeddings, seen.last_hidden_state, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(early, seen.intermediate_embeddings[0].permute(0, 3, 1, 2), rtol=1e-4, atol=1e-5)
    expected = high_quality_mask(stock, seen.last_hidden_state, seen.intermediate_embeddings[0])
    (expected * probe[:, 0]).sum().backward()
    assert expected.std() > 0.1
    torch.testing.assert_close(masks.coarse[:, 0], expected, rtol=1e-4, atol=1e-4)
    own, decoder = model.mask_decoder, stock.mask_decoder
    pairs = [
        (mine.grad, theirs.grad),
        (own.hq_token.weight.grad, decoder.hq_token.weight.grad),
        (own.mask_tokens.weight.grad, decoder.mask_tokens.weight.grad),
        (own.hq.compress_vit_conv1.weight.grad, decoder.compress_vit_conv1.weight.grad),
        (model.vision_encoder.layers[0].attn.qkv.weight.grad, stock.vision_encoder.layers[0].attn.qkv.weight.grad),
    ]
    for found, wanted in pairs:
        torch.testing.assert_close(found, wanted, rtol=1e-3, atol=1e-4 * float(wanted.abs().max()))


def test_every_weight_of_the_decoder_takes_part(folder):
    model = load_segmenter(folder, image_size=(64, 96), detail="half").train()
    model(torch.randn(1, 3, 64, 96), labels=torch.randint(0, 2, (1, 64, 96))).loss.backward()
    assert [n for n, p in model.mask_decoder.named_parameters() if p.grad is None] == []


@pytest.mark.parametrize("method", [name for name, method in METHODS.items() if method.network is None])
def test_every_method_trains(folder, method):
    adapted = adapt(load_segmenter(folder, image_size=64), method, {}).train()
    frozen = {n: p.clone() for n, p in adapted.named_parameters() if not p.requires_grad}
    trained = {n: p.clone() for n, p in adapted.named_parameters() if p.requires_grad}
    optimizer = torch.optim.AdamW([p for p in adapted.parameters() if p.requires_grad], lr=1e-2)
    for _ in range(2):
        adapted(torch.randn(2, 3, 64, 64), labels=torch.randint(0, 2, (2, 64, 64))).loss.backward()
        optimizer.step()
    now = dict(adapted.named_parameters())
    assert all(torch.equal(now[n], p) for n, p in frozen.items())
    changed = [n for n, p in trained.items() if not torch.equal(now[n], p)]
    assert any("mask_decoder" in n and "hq" in n for n in changed)
    assert any("vision_encoder" in n for n in changed) == (method != "decoder")


def test_conv_lora_sees_the_map_in_every_layer(folder):
    adapted = adapt(load_segmenter(folder, image_size=(64, 192)), "conv-lora", {})
    seen = check_grid(adapted, torch.randn(1, 3, 64, 192))
    assert len(seen) == 4
    assert all(one.agrees is not False for one in seen.values())


@pytest.mark.parametrize("head", ["per-pixel", "mask-classification"])
def test_several_classes_start_near_its_mask_and_are_saved(folder, head, tmp_path):
    model = load_segmenter(folder, image_size=(64, 96), num_classes=4, head=head, detail="half")
    x = torch.randn(1, 3, 64, 96)
    output = model(x)
    assert output.mask_logits.shape[-2:] == (32, 48)
    binary = load_segmenter(folder, image_size=(64, 96))(x).foreground
    masks = torch.nn.functional.interpolate(output.mask_logits, size=(64, 96), mode="bilinear")
    together = torch.corrcoef(torch.cat([binary.reshape(1, -1), masks[0].flatten(1)]).detach())[0, 1:]
    assert float(together.mean()) > 0.3
    model.save_pretrained(tmp_path)
    with torch.no_grad():
        expected = model(x).logits
        assert torch.equal(load_segmenter(tmp_path)(x).logits, expected)
        assert torch.equal(AutoModelForSemanticSegmentation.from_pretrained(tmp_path)(x).logits, expected)


@pytest.mark.parametrize("last", [1, 3])  # the early block, the second of four, is passed over, and is not
def test_the_cache_keeps_the_early_map(folder, last, tmp_path):
    adapted = adapt(load_segmenter(folder, image_size=64), "lora", {}, adapt_last=last).eval()
    model = adapted.base_model.model
    x = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        expected = model(x).logits
        model.frozen_block_cache = FrozenBlockCache(
            model.vision_encoder, tmp_path, training_images=True, early=model.early_block
        )
        first, second = model(x).logits, model(x).logits
    assert len(list(tmp_path.rglob("*.safetensors"))) == 2
    torch.testing.assert_close(first, expected, rtol=1e-4, atol=1e-5)
    assert torch.equal(first, second)


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
    assert len(plain) == 4
    assert all(torch.allclose(plain[n], again[n], rtol=1e-3, atol=1e-6) for n in plain)


def test_a_copy_and_threads_keep_to_their_own_maps(folder):
    model = load_segmenter(folder, image_size=64)
    other = copy.deepcopy(model)
    images = [torch.randn(1, 3, 64, 64) for _ in range(8)]
    with torch.no_grad():
        expected = [model(x).logits for x in images]
        found = [None] * len(images)

        def work(numbers):
            for number in numbers:
                with torch.no_grad():
                    found[number] = (other if number % 2 else model)(images[number]).logits

        threads = [threading.Thread(target=work, args=([n, n + 1],)) for n in range(0, 8, 2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


def test_it_is_recognised_and_told_from_others(folder, tmp_path):
    assert native_size(folder) == [128, 128]
    with pytest.raises(InputError, match="load_segmenter"):
        SamForSemanticSegmentation.from_pretrained(folder)
    with pytest.raises(InputError, match="not a SAM-HQ"):
        SamHQForSemanticSegmentation.from_pretrained("tiny")
    (tmp_path / "sam_hq_vit_b.pth").write_bytes(b"")
    with pytest.raises(InputError, match="a folder saved by transformers"):
        SamHQForSemanticSegmentation.from_pretrained(tmp_path / "sam_hq_vit_b.pth")
