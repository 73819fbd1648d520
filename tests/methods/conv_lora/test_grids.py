"""Tokens of many families of models lie on the image where Conv-LoRA takes them to lie, or are refused."""

import threading

import pytest
import torch
import transformers as hf
from peft import get_peft_model
from torch import nn

from convlora import ConvLoraConfig, check_grid, load_balancing_loss, set_grid_size
from convlora.methods.conv_lora.grid import SeenImages

VIT = {
    "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64, "patch_size": 8
}  # fmt: skip
DINO = {key: value for key, value in VIT.items() if key != "intermediate_size"}
PYRAMID = {"hidden_sizes": [8, 16, 16, 32], "num_attention_heads": [1, 2, 2, 4], "depths": [1, 1, 1, 1]}
SWIN = {"image_size": 64, "patch_size": 2, "embed_dim": 16, "depths": [2, 2], "num_heads": [2, 2], "window_size": 4}
ANY_SIZE = {"interpolate_pos_encoding": True}
SQUARE, OBLONG, LONG = (64, 64), (32, 96), (32, 128)
ALL = (SQUARE, OBLONG, LONG)

# Class, configuration, settings of Conv-LoRA, further inputs, sizes that the model itself takes.
FAMILIES = {
    "vit": (hf.ViTModel, hf.ViTConfig(image_size=64, **VIT), {"num_prefix_tokens": 1}, ANY_SIZE, ALL),
    "deit": (hf.DeiTModel, hf.DeiTConfig(image_size=64, **VIT), {"num_prefix_tokens": 2}, ANY_SIZE, ALL),
    "beit": (hf.BeitModel, hf.BeitConfig(image_size=64, **VIT), {"num_prefix_tokens": 1}, {}, (SQUARE,)),
    "dinov2": (hf.Dinov2Model, hf.Dinov2Config(image_size=64, **DINO), {"num_prefix_tokens": 1}, {}, ALL),
    "dinov2 with registers": (
        hf.Dinov2WithRegistersModel,
        hf.Dinov2WithRegistersConfig(image_size=64, num_register_tokens=4, **DINO),
        {"num_prefix_tokens": 5}, {}, ALL,
    ),
    "dinov3": (
        hf.DINOv3ViTModel, hf.DINOv3ViTConfig(image_size=64, num_register_tokens=4, **VIT),
        {"num_prefix_tokens": 5}, {}, ALL,
    ),
    "clip": (hf.CLIPVisionModel, hf.CLIPVisionConfig(image_size=64, **VIT), {"num_prefix_tokens": 1}, ANY_SIZE, ALL),
    "siglip": (
        hf.SiglipVisionModel, hf.SiglipVisionConfig(image_size=64, vision_use_head=False, **VIT), {}, ANY_SIZE, ALL
    ),
    "yolos": (
        hf.YolosModel,
        hf.YolosConfig(image_size=[64, 64], num_detection_tokens=10, use_mid_position_embeddings=False, **VIT),
        {"num_prefix_tokens": 1, "num_suffix_tokens": 10}, {}, ALL,
    ),
    "dpt": (
        hf.DPTModel, hf.DPTConfig(image_size=64, is_hybrid=False, backbone_out_indices=[0, 0, 1, 1], **VIT),
        {"num_prefix_tokens": 1}, {}, (SQUARE,),
    ),
    "swin": (hf.SwinModel, hf.SwinConfig(**SWIN), {}, ANY_SIZE, ALL),
    "swinv2": (hf.Swinv2Model, hf.Swinv2Config(**SWIN), {}, ANY_SIZE, ALL),
    "segformer": (hf.SegformerModel, hf.SegformerConfig(**PYRAMID), {}, {}, ALL),
    "pvt": (
        hf.PvtModel, hf.PvtConfig(image_size=64, **PYRAMID),
        {"num_prefix_tokens_pattern": {r"encoder\.block\.3\..*": 1}}, {}, (SQUARE, LONG),
    ),
    "pvtv2": (hf.PvtV2Model, hf.PvtV2Config(image_size=64, **PYRAMID), {}, {}, ALL),
    "glpn": (hf.GLPNModel, hf.GLPNConfig(**PYRAMID), {}, {}, ALL),
    "focalnet": (
        hf.FocalNetModel,
        hf.FocalNetConfig(
            image_size=64, patch_size=4, embed_dim=16, depths=[1, 1], focal_levels=[1, 1], focal_windows=[3, 3]
        ),
        {}, {}, ALL,
    ),
    "sam": (
        hf.SamVisionModel,
        hf.SamVisionConfig(
            image_size=64, patch_size=8, hidden_size=32, num_hidden_layers=2, num_attention_heads=2, mlp_dim=64,
            output_channels=16, window_size=3, global_attn_indexes=[1], num_pos_feats=8,
        ),
        {}, {}, (SQUARE,),
    ),
    "vitdet": (
        hf.VitDetModel,
        hf.VitDetConfig(
            image_size=64, patch_size=8, hidden_size=32, num_hidden_layers=2, num_attention_heads=2,
            window_block_indices=[0], window_size=4,
        ),
        {}, {}, (SQUARE,),
    ),
}  # fmt: skip
TARGETS = ("query", "q_proj", "value", "v_proj", "qkv", "projection_in")


def adapted(cls, config, **settings):
    torch.manual_seed(0)
    base = cls(config).eval()
    linear = {name.rpartition(".")[2] for name, module in base.named_modules() if isinstance(module, nn.Linear)}
    return get_peft_model(base, ConvLoraConfig(target_modules=sorted(linear & set(TARGETS)), **settings)).eval()


def vit(**settings):
    return adapted(hf.ViTModel, hf.ViTConfig(image_size=64, **VIT), **{"num_prefix_tokens": 1, **settings})


def images(height, width, count=2):
    return torch.randn(count, 3, height, width, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("family", FAMILIES)
def test_every_layer_sees_cells_where_they_are(family):
    cls, config, settings, inputs, sizes = FAMILIES[family]
    model = adapted(cls, config, **settings)
    for size in sizes:
        found = check_grid(model, {"pixel_values": images(*size), **inputs})
        assert found
        assert {name: check for name, check in found.items() if check.agrees is False} == {}
        if size[0] != size[1]:  # an oblong grid is oblong in every layer that sees the whole image
            whole = [check.grid for check in found.values() if check.maps_per_image == 1]
            assert all(width * size[0] == height * size[1] for height, width in whole)


@pytest.mark.parametrize(
    ("cls", "config", "why"),
    [
        (hf.HieraModel, hf.HieraConfig(image_size=[64, 64], embed_dim=8, depths=[1] * 4, num_heads=[1] * 4), "order"),
        (hf.ViTMAEModel, hf.ViTMAEConfig(image_size=64, **VIT), "shuffles"),
        (hf.SamModel, None, "prompts"),
    ],
)
def test_orders_that_are_no_rows_are_refused_when_adapted(cls, config, why):
    if cls is hf.SamModel:
        from tests.helpers.models import tiny_config

        config = tiny_config()
    with pytest.raises(ValueError, match=why) as caught:
        adapted(cls, config)
    assert "layer '" in str(caught.value)


def detr():
    return hf.DetrConfig(
        use_timm_backbone=False, use_pretrained_backbone=False, backbone=None, d_model=32, encoder_layers=1,
        decoder_layers=1, encoder_attention_heads=2, decoder_attention_heads=2, encoder_ffn_dim=64, decoder_ffn_dim=64,
        num_queries=100, backbone_config=hf.ResNetConfig(
            embedding_size=8, hidden_sizes=[8, 8, 8, 8], depths=[1] * 4, out_features=["stage4"]
        ),
    )  # fmt: skip


def mobile_vit():
    return hf.MobileViTConfig(
        image_size=64, hidden_sizes=[16, 24, 32], neck_hidden_sizes=[8, 8, 16, 16, 24, 32, 64], num_attention_heads=2
    )


def clip():
    text = {key: value for key, value in VIT.items() if key != "patch_size"}
    return hf.CLIPConfig(vision_config={"image_size": 64, **VIT}, text_config=text)


@pytest.mark.parametrize(
    ("cls", "config", "inputs", "why"),
    [
        (hf.CLIPModel, clip, {"input_ids": torch.ones(2, 64, dtype=torch.long)}, "words"),
        (hf.DetrModel, detr, {}, "queries"),
        (hf.MobileViTModel, mobile_vit, {}, "several rows"),
    ],
)
def test_rows_that_are_no_grid_are_refused_when_they_come(cls, config, inputs, why):
    model = adapted(cls, config(), num_prefix_tokens=int(cls is hf.CLIPModel))
    with pytest.raises(ValueError, match=why) as caught:
        model(pixel_values=images(64, 64), **inputs)
    assert "layer '" in str(caught.value)


def test_the_tokens_of_videos_are_no_cells_of_an_image():
    config = hf.VideoMAEConfig(image_size=32, num_frames=4, tubelet_size=2, **VIT)
    model = adapted(hf.VideoMAEModel, config)
    with pytest.raises(ValueError, match="no grid of such an image"):
        model(pixel_values=torch.randn(2, 4, 3, 32, 32))


@pytest.mark.parametrize(("height", "width", "grid"), [(32, 128, (4, 16)), (128, 32, (16, 4)), (64, 64, (8, 8))])
def test_sixty_four_tokens_are_read_by_the_image(height, width, grid):
    model = vit()
    model.train()
    output = model(pixel_values=images(height, width), interpolate_pos_encoding=True).last_hidden_state
    (output.sum() + load_balancing_loss(model)).backward()
    found = check_grid(model, {"pixel_values": images(height, width), "interpolate_pos_encoding": True})
    assert {check.grid for check in found.values()} == {grid}


def test_a_wrong_grid_is_found_out():
    """The check must be able to fail."""
    model = vit()
    set_grid_size(model, (16, 4))
    found = check_grid(model, {"pixel_values": images(32, 128), "interpolate_pos_encoding": True})
    assert [check.agrees for check in found.values()] == [False] * len(found)
    set_grid_size(model, None)
    found = check_grid(model, {"pixel_values": images(32, 128), "interpolate_pos_encoding": True})
    assert [check.agrees for check in found.values()] == [True] * len(found)


def test_a_forgotten_class_token_is_found_where_the_number_happens_to_be_square():
    """3 x 5 cells and a class token are sixteen tokens."""
    model = vit(num_prefix_tokens=0)
    with pytest.raises(ValueError, match=r"1 token is too many for 3 x 5 cells.*num_prefix_tokens") as caught:
        model(pixel_values=images(24, 40), interpolate_pos_encoding=True)
    assert "layer 'layers.0" in str(caught.value) or "layer 'encoder.layer" in str(caught.value)


@pytest.mark.parametrize("batch", [{"pixel_values": torch.randn(2, 17, 32)}, torch.randn(2, 17, 32), {}])
def test_check_grid_needs_images(batch):
    with pytest.raises(ValueError, match="images"):
        check_grid(vit(), batch)


def test_a_checkpointed_layer_reads_the_same_grid_again():
    gradients = []
    for checkpointed in (False, True):
        model = vit()
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if "lora_B" in name:
                    parameter.normal_(generator=torch.Generator().manual_seed(2))
        model.train()
        if checkpointed:
            model.base_model.model.gradient_checkpointing_enable({"use_reentrant": False})
            model.base_model.model.enable_input_require_grads()
        torch.manual_seed(0)
        output = model(pixel_values=images(32, 128), interpolate_pos_encoding=True).last_hidden_state
        output.square().mean().backward()
        gradients.append([p.grad.clone() for n, p in model.named_parameters() if "experts" in n])
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other)


def test_threads_see_their_own_images():
    model = vit()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(generator=torch.Generator().manual_seed(2))
    sizes = [(32, 128), (128, 32)]

    def answer(size):
        with torch.no_grad():
            return model(pixel_values=images(*size), interpolate_pos_encoding=True).last_hidden_state

    expected, wrong = [answer(size) for size in sizes], []

    def work(number):
        for _ in range(10):
            if not torch.equal(answer(sizes[number]), expected[number]):
                wrong.append(number)

    threads = [threading.Thread(target=work, args=(number % 2,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_single_layers_have_grids_of_their_own(tmp_path):
    pattern = {"0.attention.attention.value": (2, 32), "first": [1, 2]}
    config = ConvLoraConfig(target_modules=["x"], grid_size_pattern=pattern, num_suffix_tokens_pattern={"last": 3})
    config.save_pretrained(tmp_path)
    again = ConvLoraConfig.from_pretrained(tmp_path)
    assert again.grid_size_pattern == {"0.attention.attention.value": [2, 32], "first": [1, 2]}
    assert again.num_suffix_tokens_pattern == {"last": 3}
    with pytest.raises(ValueError, match=r"grid_size_pattern\['x'\].*num_prefix_tokens_pattern\['y'\]"):
        ConvLoraConfig(grid_size_pattern={"x": 3}, num_prefix_tokens_pattern={"y": -1})


@pytest.mark.parametrize(
    ("size", "cells", "length", "grid"),
    [
        ((32, 128), (4, 16), 64, (4, 16)),
        ((128, 32), (16, 4), 64, (16, 4)),
        ((64, 64), (16, 16), 16, (4, 4)),  # two steps down
        ((36, 132), (9, 33), 64, (4, 16)),  # what is left over is cut
        ((36, 132), (9, 33), 85, (5, 17)),  # or filled up
        ((36, 132), (9, 33), 25, None),
        ((224, 224), (7, 7), 16, (4, 4)),
        ((224, 224), (14, 14), 81, (9, 9)),  # no step of this model, but square as the image is
        ((224, 224), (14, 14), 65, None),
    ],
)
def test_grids_of_images(size, cells, length, grid):
    assert SeenImages(1, *size, *cells).grid(length) == grid


class Wrapped(nn.Module):
    """Calls a ViT by other names."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.inner = hf.ViTModel(hf.ViTConfig(image_size=64, **VIT))

    def forward(self, batch):
        return self.inner(pixel_values=batch["photo"], interpolate_pos_encoding=True).last_hidden_state


def test_images_are_seen_however_they_come_in():
    model = get_peft_model(Wrapped(), ConvLoraConfig(target_modules=["q_proj"], num_prefix_tokens=1)).eval()
    layer = next(module for module in model.modules() if hasattr(module, "conv_lora_settings"))
    seen = []
    layer.register_forward_pre_hook(
        lambda m, args: seen.append(m.conv_lora_settings["default"].grid.read(args[0].shape))
    )
    model({"photo": images(32, 128)})
    model.base_model.model.inner(images(128, 32), interpolate_pos_encoding=True)  # a part, round the whole
    assert seen == [(4, 16), (16, 4)]


def test_nothing_is_remembered_from_one_model_call_to_the_next():
    model = vit()
    model(pixel_values=images(32, 128), interpolate_pos_encoding=True)
    watch = (
        next(m for m in model.modules() if hasattr(m, "conv_lora_settings")).conv_lora_settings["default"].grid.watch
    )
    assert watch.images is None
    with pytest.raises(ValueError, match="channel"):
        model(pixel_values=images(32, 128)[:, :2])
    assert watch.images is None


def test_copies_see_their_own_images():
    import copy
    import pickle

    model = vit()
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):  # noqa: S301 - our own
        found = check_grid(other, {"pixel_values": images(32, 128), "interpolate_pos_encoding": True})
        assert {check.grid for check in found.values()} == {(4, 16)}
        assert all(check.agrees for check in found.values())


def test_passes_of_several_sizes_before_one_backward_pass():
    def gradient(checkpointed, sizes):
        model = vit().train()
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if "lora_B" in name:
                    parameter.normal_(generator=torch.Generator().manual_seed(2))
        if checkpointed:
            model.base_model.model.gradient_checkpointing_enable({"use_reentrant": False})
            model.base_model.model.enable_input_require_grads()
        torch.manual_seed(0)
        outputs = [model(pixel_values=images(*s), interpolate_pos_encoding=True).last_hidden_state for s in sizes]
        sum(output.square().mean() for output in outputs).backward()
        return [p.grad.clone() for n, p in model.named_parameters() if "experts" in n]

    for sizes in [((64, 64, 2), (32, 128, 1)), ((64, 64, 1), (96, 96, 2)), ((32, 128, 4), (32, 128, 1))]:
        for one, other in zip(gradient(True, sizes), gradient(False, sizes), strict=True):
            torch.testing.assert_close(one, other)
    with pytest.raises(ValueError, match="before one backward pass"):
        gradient(True, [(32, 128), (128, 32)])


def test_an_image_that_is_no_multiple_of_the_patch():
    found = check_grid(vit(), {"pixel_values": images(39, 60), "interpolate_pos_encoding": True})
    assert {(check.grid, check.agrees) for check in found.values()} == {((4, 7), True)}


def test_compiled_for_any_size():
    model = adapted(hf.ViTModel, hf.ViTConfig(image_size=64, **{**VIT, "num_hidden_layers": 1}), num_prefix_tokens=1)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(generator=torch.Generator().manual_seed(2))
        compiled = torch.compile(model, backend="eager", dynamic=True)
        for size in [(32, 128), (128, 32)]:
            inputs = {"pixel_values": images(*size), "interpolate_pos_encoding": True}
            expected = model(**inputs).last_hidden_state
            torch.testing.assert_close(compiled(**inputs).last_hidden_state, expected)


def test_the_check_leaves_a_model_in_its_modes():
    model = vit().train()
    layer = next(module for module in model.modules() if isinstance(module, nn.LayerNorm)).eval()
    check_grid(model, images(64, 64))
    assert model.training
    assert not layer.training
