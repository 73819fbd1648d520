"""The segmenter against transformers' SAM and against itself."""

import pytest
import torch
import torch.nn.functional as F
from peft import PeftModel, get_peft_model
from transformers import AutoModelForSemanticSegmentation, SamModel

from convlora.errors import InputError
from convlora.losses import segmentation_loss
from convlora.methods.conv_lora import ConvLoraConfig, load_balancing_loss
from convlora.models import SamForSemanticSegmentation, SamSegmentationConfig
from tests.helpers.models import tiny_config, tiny_sam
from tests.helpers.tolerances import BY_DTYPE, MODEL


@pytest.fixture
def sam_folder(tmp_path):
    tiny_sam().save_pretrained(tmp_path / "sam")
    return tmp_path / "sam"


@pytest.fixture
def pixels():
    return torch.randn(2, 3, 64, 64)


def assert_not_trivial(embeddings):
    """A SAM made from a default configuration gives zeros for every image, and zeros equal zeros."""
    assert 0.1 < embeddings.std() < 10
    assert (embeddings[0] - embeddings[1]).abs().mean() > 0.1


def assert_same(loaded, original):
    """Weights read from a file may lie at other addresses, which can change the order of a sum."""
    torch.testing.assert_close(loaded, original, **BY_DTYPE[torch.float32]._asdict())


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_equals_transformers(sam_folder, pixels, attention):
    judge = SamModel.from_pretrained(sam_folder, attn_implementation=attention).eval()
    model = SamForSemanticSegmentation.from_pretrained(sam_folder, attn_implementation=attention)
    with torch.no_grad():
        expected = judge.get_image_embeddings(pixels)
        assert_not_trivial(expected)
        torch.testing.assert_close(model.get_image_embeddings(pixels), expected, **MODEL._asdict())
        masks = judge(pixel_values=pixels, multimask_output=False).pred_masks[:, 0]
        upsampled = F.interpolate(masks, size=(64, 64), mode="bilinear", align_corners=False)
        scale = upsampled.std()  # a random decoder's logits are small
        torch.testing.assert_close(model(pixels).foreground / scale, upsampled / scale, **MODEL._asdict())
        torch.testing.assert_close(model.image_positional_embeddings(), judge.get_image_wide_positional_embeddings())


@pytest.mark.parametrize("detail", ["none", "half"])
def test_gradients_equal_transformers(sam_folder, pixels, detail):
    judge = SamModel.from_pretrained(sam_folder).eval()
    model = SamForSemanticSegmentation.from_pretrained(sam_folder, detail=detail)
    probe = torch.randn(2, 1, 16, 16)
    (judge(pixel_values=pixels, multimask_output=False).pred_masks[:, 0] * probe).sum().backward()
    expected = {name: p.grad for name, p in judge.named_parameters()}
    low = model.mask_decoder(
        model.get_image_embeddings(pixels),
        model.image_positional_embeddings(),
        model.prompt_encoder.no_mask_embed.weight.reshape(1, -1, 1, 1),
        pixels,
    ).coarse
    (low * probe).sum().backward()
    # The gradient of a key's bias is zero but for rounding, because soft-max ignores a common shift.
    smallest = 1e-2 * max(float(gradient.abs().max()) for gradient in expected.values() if gradient is not None)
    for name, parameter in model.named_parameters():
        if parameter.requires_grad and ".detail." not in name:  # the branch is not SAM's
            scale = expected[name].abs().max().clamp(min=smallest)
            torch.testing.assert_close(parameter.grad / scale, expected[name] / scale, **MODEL._asdict(), msg=name)


@pytest.mark.parametrize("size", [32, 48, 80, 96])
def test_other_sizes_equal_sams_own_interpolation(size):
    """SAM interpolates a relative table that does not fit in every forward pass; here it is done once."""
    sam = tiny_sam()
    judge = tiny_sam(size)
    # The same weights, with the relative tables of the 64-pixel model: the judge resizes them while it runs.
    weights = sam.state_dict()
    from convlora.models.positions import resize_absolute

    weights["vision_encoder.pos_embed"] = resize_absolute(weights["vision_encoder.pos_embed"], (size // 16, size // 16))
    for name, layer in enumerate(judge.vision_encoder.layers):
        for axis in ("rel_pos_h", "rel_pos_w"):
            stored = weights[f"vision_encoder.layers.{name}.attn.{axis}"]
            setattr(layer.attn, axis, torch.nn.Parameter(stored.clone()))
    judge.load_state_dict(weights)
    model = SamForSemanticSegmentation.from_sam(sam, image_size=size).eval()
    pixels = torch.randn(2, 3, size, size)
    with torch.no_grad():
        expected = judge.get_image_embeddings(pixels)
        assert_not_trivial(expected)
        torch.testing.assert_close(model.get_image_embeddings(pixels), expected, **MODEL._asdict())
        masks = judge(pixel_values=pixels, multimask_output=False).pred_masks[:, 0]
        upsampled = F.interpolate(masks, size=(size, size), mode="bilinear", align_corners=False)
        torch.testing.assert_close(model(pixels).foreground, upsampled, **MODEL._asdict())


def test_oblong_images():
    model = SamForSemanticSegmentation.from_sam(tiny_sam(), image_size=(48, 80))
    assert model(torch.randn(2, 3, 48, 80)).logits.shape == (2, 2, 48, 80)
    with pytest.raises(ValueError, match="48"):
        model(torch.randn(1, 3, 80, 48))


def test_own_folder_round_trip(pixels, tmp_path):
    model = SamForSemanticSegmentation.from_sam(tiny_sam(), loss="bce-dice").eval()
    model.save_pretrained(tmp_path)
    assert {p.name for p in tmp_path.iterdir()} == {"config.json", "model.safetensors"}
    loaded = SamForSemanticSegmentation.from_pretrained(tmp_path)
    assert_same(loaded(pixels).logits, model(pixels).logits)
    assert loaded.config.loss == "bce-dice"
    assert isinstance(AutoModelForSemanticSegmentation.from_pretrained(tmp_path), SamForSemanticSegmentation)


def test_own_folder_of_an_oblong_model_and_its_resizing(tmp_path):
    model = SamForSemanticSegmentation.from_sam(tiny_sam(), image_size=(48, 80)).eval()
    model.save_pretrained(tmp_path)
    pixels = torch.randn(1, 3, 48, 80)
    loaded = SamForSemanticSegmentation.from_pretrained(tmp_path)
    assert_same(loaded(pixels).logits, model(pixels).logits)
    resized = SamForSemanticSegmentation.from_pretrained(tmp_path, image_size=32)
    assert resized(torch.randn(1, 3, 32, 32)).logits.shape == (1, 2, 32, 32)


def test_loss_is_the_named_one_and_tuples_work(pixels):
    model = SamForSemanticSegmentation.from_sam(tiny_sam(), loss="bce-dice")
    labels = torch.randint(0, 2, (2, 64, 64))
    labels[:, :8] = 255
    loss, logits = model(pixels, labels=labels, return_dict=False)
    torch.testing.assert_close(loss, segmentation_loss("bce-dice", logits[:, 1:], labels, 255))
    (only,) = model(pixels, return_dict=False)
    assert torch.equal(only, logits)


@pytest.mark.parametrize(
    ("task", "classes"),
    [({}, "0, 1"), ({"num_classes": 3, "head": "per-pixel"}, "0 to 2"), ({"num_classes": 3}, "0 to 2")],
)
def test_labels_that_are_no_class_are_refused(pixels, task, classes):
    model = SamForSemanticSegmentation.from_sam(tiny_sam(), **task)
    labels = torch.zeros(2, 64, 64, dtype=torch.long)
    for wrong in (-1, task.get("num_classes", 2), 254):
        labels[1, 2, 3] = wrong
        with pytest.raises(ValueError, match=rf"labels must be {classes} or 255 \(ignored\), but contain .*{wrong}"):
            model(pixels, labels=labels)
    labels[1, 2, 3] = 255
    output = model(pixels, labels=labels)
    assert torch.isfinite(output["loss"])
    assert output.to_tuple()[0] is output.loss


def test_what_is_frozen_and_what_is_in_the_graph(pixels):
    model = SamForSemanticSegmentation.from_sam(tiny_sam()).train()
    frozen = {name.split(".")[0] for name, p in model.named_parameters() if not p.requires_grad}
    assert frozen == {"prompt_encoder", "shared_image_embedding"}
    model(pixels, labels=torch.randint(0, 2, (2, 64, 64))).loss.backward()
    assert [n for n, p in model.named_parameters() if p.requires_grad and p.grad is None] == []


def test_frozen_after_loading(sam_folder, tmp_path):
    model = SamForSemanticSegmentation.from_pretrained(sam_folder)
    model.save_pretrained(tmp_path / "own")
    for loaded in (model, SamForSemanticSegmentation.from_pretrained(tmp_path / "own")):
        assert not any(p.requires_grad for p in loaded.prompt_encoder.parameters())
        assert not loaded.training


def test_conv_lora_on_it(pixels, tmp_path):
    base = SamForSemanticSegmentation.from_sam(tiny_sam()).eval()
    expected = base(pixels).logits
    config = ConvLoraConfig(target_modules=["qkv"], modules_to_save=["mask_decoder"])
    model = get_peft_model(SamForSemanticSegmentation.from_sam(tiny_sam()), config).eval()
    assert torch.equal(model(pixels).logits, expected)
    model.train()
    loss = model(pixel_values=pixels, labels=torch.randint(0, 2, (2, 64, 64))).loss
    (loss + load_balancing_loss(model)).backward()
    assert [n for n, p in model.named_parameters() if p.requires_grad and p.grad is None] == []
    torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1).step()
    model.eval().save_pretrained(tmp_path)
    loaded = PeftModel.from_pretrained(SamForSemanticSegmentation.from_sam(tiny_sam()), tmp_path).eval()
    assert_same(loaded(pixels).logits, model(pixels).logits)
    assert not torch.equal(model(pixels).logits, expected)


def test_gradient_checkpointing_changes_nothing(pixels):
    labels = torch.randint(0, 2, (2, 64, 64))
    gradients = []
    for checkpointing in (False, True):
        torch.manual_seed(0)
        config = ConvLoraConfig(target_modules=["qkv"], modules_to_save=["mask_decoder"], init_lora_weights=False)
        model = get_peft_model(SamForSemanticSegmentation.from_sam(tiny_sam()), config).train()
        if checkpointing:
            model.activation_checkpointing_enable()
        torch.manual_seed(1)
        loss = model(pixel_values=pixels, labels=labels).loss + load_balancing_loss(model)
        loss.backward()
        gradients.append({n: p.grad for n, p in model.named_parameters() if p.requires_grad})
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient, msg=name)


def test_published_sizes_of_the_decoder_and_the_adapters():
    """Parameters trained at the size of ViT-H, as published: decoder alone 3.51 M, with Conv-LoRA 4.02 M."""
    from transformers import SamConfig, SamVisionConfig

    vision = SamVisionConfig(
        hidden_size=1280, num_hidden_layers=32, num_attention_heads=16, global_attn_indexes=[7, 15, 23, 31]
    )
    with torch.device("meta"):
        model = SamForSemanticSegmentation(SamSegmentationConfig(**SamConfig(vision_config=vision).to_dict()))
        decoder = sum(p.numel() for p in model.mask_decoder.parameters())
        adapted = get_peft_model(model, ConvLoraConfig(target_modules=["qkv"], modules_to_save=["mask_decoder"]))
    trained = sum(p.numel() for p in adapted.parameters() if p.requires_grad)
    assert decoder == 3_506_304
    assert trained == 4_020_864
    assert trained / sum(p.numel() for p in adapted.parameters()) < 0.01


@pytest.mark.parametrize(
    ("size", "words"), [(100, "divisible by 16.*Nearest that is: 96 x 96"), ((64, 70), "64 x 70"), (0, "divisible")]
)
def test_bad_sizes(size, words):
    with pytest.raises(ValueError, match=words):
        SamForSemanticSegmentation.from_sam(tiny_sam(), image_size=size)


def test_models_of_other_kinds(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "vit"}')
    with pytest.raises(InputError, match="type 'vit', not a SAM"):
        SamForSemanticSegmentation.from_pretrained(tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"no config\.json"):
        SamForSemanticSegmentation.from_pretrained(tmp_path / "empty")
    with pytest.raises(InputError, match="neither a local file or folder"):
        SamForSemanticSegmentation.from_pretrained("nobody/no-such-model")


def test_tiny_config_has_both_kinds_of_blocks():
    config = tiny_config().vision_config
    assert config.global_attn_indexes == [1]
    assert config.num_hidden_layers == 2
