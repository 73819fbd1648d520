"""SAM 3 as a segmenter: transformers' own embeddings and mask, from every folder that holds its tracker."""

import importlib
import json
import shutil
from importlib.util import find_spec

import pytest
import torch
import transformers as hf
from safetensors.torch import load_file, save_file
from torch.utils._python_dispatch import TorchDispatchMode
from transformers.models.sam3.modeling_sam3 import Sam3Model
from transformers.models.sam3_tracker_video.modeling_sam3_tracker_video import Sam3TrackerVideoModel
from transformers.models.sam3_video.modeling_sam3_video import Sam3VideoModel

from convlora.errors import InputError
from convlora.methods.blocks import number_of_blocks
from convlora.methods.conv_lora import check_grid
from convlora.models.build import adapt
from convlora.models.checkpoints import native_size
from convlora.models.fingerprint import sample_weights
from convlora.models.loading import load_segmenter
from convlora.models.parameters import halve_frozen_weights
from convlora.models.sam2_segmenter import Sam2ForSemanticSegmentation
from tests.helpers.video_sams import drawn, sam3_parts, small_sam3

IMAGENET = [torch.tensor(v).view(-1, 1, 1) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))]
SMALL = {"hidden_size": 32, "num_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
DETECTOR = {
    "text_config": {
        "model_type": "clip_text_model", "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2,
        "intermediate_size": 32, "vocab_size": 99, "projection_dim": 16, "bos_token_id": 1, "eos_token_id": 2,
    },
    "geometry_encoder_config": SMALL,
    "detr_encoder_config": SMALL,
    "detr_decoder_config": SMALL | {"num_queries": 5},
    "mask_decoder_config": {"hidden_size": 32, "num_attention_heads": 2},
}  # fmt: skip
MEMORY = {
    "memory_attention_hidden_size": 32, "memory_attention_num_layers": 1, "memory_encoder_hidden_size": 32,
    "memory_attention_feed_forward_hidden_size": 32, "memory_encoder_output_channels": 16, "image_size": 84,
    "mask_downsampler_embed_dim": 32, "memory_fuser_embed_dim": 32, "memory_fuser_intermediate_dim": 32,
}  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("sam3")
    small_sam3().save_pretrained(place)
    return place


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    """All of SAM 3: its detector and its tracker, as they are published together."""
    torch.manual_seed(0)
    parts = sam3_parts()
    detector = DETECTOR | {"model_type": "sam3", "vision_config": parts["vision_config"]}
    tracker = MEMORY | parts | {"model_type": "sam3_tracker_video"}
    model = drawn(Sam3VideoModel(hf.Sam3VideoConfig(detector_config=detector, tracker_config=tracker)))
    place = tmp_path_factory.mktemp("video")
    model.save_pretrained(place)
    return model, place


def own_pixels(image):
    """As SAM 3's image processor normalises them."""
    return (image - 0.5) / 0.5


def test_its_classes_are_there_without_torchvision():
    if find_spec("torchvision") is not None:
        pytest.skip("torchvision is installed")
    for name in ("sam3.modeling_sam3", "sam3_tracker.modeling_sam3_tracker"):
        importlib.import_module(f"transformers.models.{name}")
    assert type(small_sam3().vision_encoder).__name__ == "Sam3VisionModel"


@pytest.mark.parametrize("size", [(84, 84), (56, 56), (140, 140), (56, 168), (112, 70)])
def test_embeddings_are_those_of_transformers(folder, size):
    """At its own size, at others whose windows are padded or not, and at oblong ones."""
    height, width = size
    model = load_segmenter(folder, image_size=size)
    stock = small_sam3((width, height)).vision_encoder
    for block in stock.backbone.layers:
        if block.window_size == 0:  # transformers measures both directions by the width
            block.position_ids[:, 1] *= width / height
    image = torch.rand(2, 3, height, width)
    with torch.no_grad():
        embedding, finer = model.encode((image - IMAGENET[0]) / IMAGENET[1])
        *expected, coarse, _ = stock(own_pixels(image)).fpn_hidden_states
        coarse = coarse + small_sam3().no_memory_embedding.view(1, -1, 1, 1)
    assert coarse.std() > 0.1, "it would not matter what is seen"
    torch.testing.assert_close(embedding, coarse, rtol=1e-4, atol=1e-5)
    for found, wanted in zip(finer, expected, strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("detail", ["none", "half"])
def test_equals_the_single_mask_of_transformers_without_prompts(folder, detail):
    """In values and in the gradients of pixels and decoder."""
    stock = small_sam3(dynamic_multimask_via_stability=False)
    model = load_segmenter(folder, detail=detail)
    image = torch.rand(2, 3, 84, 84)
    mine = image.clone().requires_grad_()
    pixels = (mine - IMAGENET[0]) / IMAGENET[1]
    embeddings, finer = model.encode(pixels)
    positions = model.image_positional_embeddings()
    masks = model.mask_decoder(embeddings, positions, model.no_mask_embedding(), pixels, finer)
    probe = torch.randn_like(masks.coarse)
    (masks.coarse * probe).sum().backward()
    found = [mine.grad, model.mask_decoder.mask_tokens.weight.grad, model.mask_decoder.conv_s0.weight.grad]

    theirs = image.clone().requires_grad_()
    levels = stock.vision_encoder(own_pixels(theirs)).fpn_hidden_states
    decoder = stock.mask_decoder
    expected, *_ = decoder(
        image_embeddings=levels[2] + stock.no_memory_embedding.view(1, -1, 1, 1),
        image_positional_embeddings=stock.get_image_wide_positional_embeddings().repeat(2, 1, 1, 1),
        sparse_prompt_embeddings=torch.zeros(2, 1, 0, 32),
        dense_prompt_embeddings=stock.prompt_encoder.no_mask_embed.weight.reshape(1, -1, 1, 1).expand(2, -1, 6, 6),
        multimask_output=False,
        high_resolution_features=[decoder.conv_s0(levels[0]), decoder.conv_s1(levels[1])],
    )
    (expected[:, 0] * probe).sum().backward()
    wanted = [theirs.grad, decoder.mask_tokens.weight.grad, decoder.conv_s0.weight.grad]
    assert expected.std() > 0.1
    torch.testing.assert_close(masks.coarse, expected[:, 0], rtol=1e-4, atol=1e-5)
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4 * float(other.abs().max()))


def test_a_resized_model_is_one_that_was_loaded_at_that_size(folder, tmp_path):
    model, x = load_segmenter(folder), torch.randn(1, 3, 56, 168)
    model.resize((56, 168))
    model.save_pretrained(tmp_path)
    with torch.no_grad():
        for other in (load_segmenter(folder, image_size=(56, 168)), load_segmenter(tmp_path)):
            assert torch.equal(model(x).logits, other(x).logits)


@pytest.mark.parametrize("size", [(84, 84), (56, 168), (112, 70)])
def test_every_adapted_layer_of_conv_lora_sees_the_map(folder, size):
    adapted = adapt(load_segmenter(folder, image_size=size), "conv-lora", {})
    seen = check_grid(adapted, torch.randn(2, 3, *size))
    layers = [n for n, module in adapted.named_modules() if hasattr(module, "lora_experts")]
    assert len(layers) == 3 * 3
    assert len(seen) == len(layers)
    rows, columns = size[0] // 14, size[1] // 14
    for name, one in seen.items():
        if ".layers.1." in name:  # the block with global attention
            assert (one.grid, one.maps_per_image, one.agrees) == ((rows, columns), 1, True)
        else:
            windows = -(-rows // 4) * -(-columns // 4)
            assert (one.grid, one.maps_per_image) == ((4, 4), windows)


def test_windows_lie_on_the_image_as_their_cells_do(folder):
    """A changed patch changes the one cell of the one window that it is in, and no other."""
    adapted = adapt(load_segmenter(folder, image_size=(84, 140)), "conv-lora", {}).eval()
    first = adapted.base_model.model.vision_encoder.backbone.layers[0].attention.q_proj
    seen = []
    first.register_forward_pre_hook(lambda module, args: seen.append(args[0].detach().clone()))
    x = torch.randn(1, 3, 84, 140)
    for row, column in ((0, 9), (3, 4), (4, 3), (5, 8)):
        changed = x.clone()
        changed[..., 14 * row : 14 * row + 14, 14 * column : 14 * column + 14] += 3
        with torch.no_grad():
            adapted(x), adapted(changed)
        before, after = seen[-2:]
        assert before.shape == (2 * 3, 4, 4, 32)
        where = (before != after).any(-1).nonzero().tolist()
        assert where == [[row // 4 * 3 + column // 4, row % 4, column % 4]]


def test_the_tracker_is_found_in_all_of_sam_3(video, tmp_path):
    """As this transformers saves it, and with the names that the published weights have."""
    model, place = video
    image = torch.rand(1, 3, 84, 84)
    with torch.no_grad():
        backbone = model.detector_model.vision_encoder.backbone(own_pixels(image)).last_hidden_state
        maps, _ = model.tracker_neck(backbone.transpose(1, 2).unflatten(2, (6, 6)))
        expected = maps[2] + model.tracker_model.no_memory_embedding.view(1, -1, 1, 1)
    shutil.copytree(place, tmp_path / "published")
    weights = load_file(place / "model.safetensors")
    published = {name.replace("tracker_model.tracker_model.", "tracker_model."): w for name, w in weights.items()}
    assert "tracker_model.mask_decoder.conv_s0.weight" in published
    save_file(published, tmp_path / "published" / "model.safetensors", metadata={"format": "pt"})
    for source in (place, tmp_path / "published"):
        segmenter = load_segmenter(source)
        with torch.no_grad():
            found = segmenter.get_image_embeddings((image - IMAGENET[0]) / IMAGENET[1])
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
        theirs = model.tracker_model.mask_decoder.state_dict()
        for name, weight in segmenter.mask_decoder.state_dict().items():
            assert torch.equal(weight, theirs[name]), name
        assert torch.equal(
            segmenter.prompt_encoder.no_mask_embed.weight, model.tracker_model.prompt_encoder.no_mask_embed.weight
        )
        assert native_size(source) == [84, 84]


def test_the_tracker_of_videos_alone(tmp_path):
    model = drawn(Sam3TrackerVideoModel(hf.Sam3TrackerVideoConfig(**MEMORY, **sam3_parts())))
    model.save_pretrained(tmp_path)
    image = torch.rand(1, 3, 84, 84)
    with torch.no_grad():
        found = load_segmenter(tmp_path).get_image_embeddings((image - IMAGENET[0]) / IMAGENET[1])
        expected = model.get_image_embeddings(own_pixels(image))[-1]
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_the_part_for_concepts_has_no_mask_decoder_for_this(tmp_path):
    config = hf.Sam3Config(**DETECTOR, vision_config=sam3_parts()["vision_config"])
    Sam3Model(config).save_pretrained(tmp_path)
    with pytest.raises(InputError, match=r"SAM 3 for concepts.*facebook/sam3"):
        load_segmenter(tmp_path)


def test_pixels_are_part_of_what_tells_it_from_another_one(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "m")
    (tmp_path / "m" / "preprocessor_config.json").write_text('{"image_mean": [0.1, 0.2, 0.3], "image_std": [1, 1, 1]}')
    plain, other = load_segmenter(folder), load_segmenter(tmp_path / "m")
    assert plain.config.image_mean == plain.config.image_std == [0.5] * 3
    assert other.config.image_mean == [0.1, 0.2, 0.3]
    assert sample_weights(plain.vision_encoder) != sample_weights(other.vision_encoder)
    x = torch.randn(1, 3, 84, 84)
    assert not torch.allclose(plain.get_image_embeddings(x), other.get_image_embeddings(x), atol=1e-3)
    other.save_pretrained(tmp_path / "saved")
    assert torch.equal(load_segmenter(tmp_path / "saved").get_image_embeddings(x), other.get_image_embeddings(x))


def test_no_tensor_is_made_of_numbers_at_every_call(folder):
    """It would be copied to a GPU each time, and a recording of the pass would fail."""
    model, made = load_segmenter(folder), []

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            made.extend([function] if "lift_fresh" in str(function) or "_local_scalar" in str(function) else [])
            return function(*args, **(kwargs or {}))

    with torch.no_grad(), Watch():
        model(torch.randn(1, 3, 84, 84))
    assert made == []


def test_half_precision_is_near(folder):
    model = load_segmenter(folder, image_size=(56, 168))
    x = torch.randn(1, 3, 56, 168)
    with torch.no_grad():
        expected = model.get_image_embeddings(x)
        model.requires_grad_(False)
        halve_frozen_weights(model.vision_encoder, "bf16")
        with torch.autocast("cpu", torch.bfloat16):
            found = model.get_image_embeddings(x)
    assert (found.float() - expected).norm() < 0.05 * expected.norm()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"backbone_config": {"model_type": "timm_wrapper"}}, "a backbone that is none of SAM 3"),
        ({"model_type": "sam2_vision_model"}, "a backbone that is none of SAM 3"),
        ({"backbone_config": {"num_hidden_layers": 10**6}}, "which no model has"),
        ({"backbone_config": {"patch_size": [14, 14]}}, "patch_size must be a whole number"),
        ({"backbone_config": {"hidden_size": 64}}, "is of the size"),
        ({"scale_factors": [4.0, 2.0]}, "scale_factors must begin with"),
        ([1], "is damaged|none of SAM 3"),
    ],
)
@pytest.mark.parametrize("whole", [False, True], ids=["tracker", "all"])
def test_damaged_configurations(folder, video, tmp_path, change, words, whole):
    shutil.copytree(video[1] if whole else folder, tmp_path / "m")
    file = tmp_path / "m" / "config.json"
    config = json.loads(file.read_text())
    part = config["tracker_config"] if whole else config
    if isinstance(change, dict):
        inner = part["vision_config"]["backbone_config"] | change.get("backbone_config", {})
        part["vision_config"] |= {**change, "backbone_config": inner}
    else:
        part["vision_config"] = change
    file.write_text(json.dumps(config))
    with pytest.raises(InputError, match=words):
        load_segmenter(tmp_path / "m")


@pytest.mark.parametrize("part", [{"vision_config": {"backbone_config": {"model_type": "timm_wrapper"}}}, 3])
def test_a_tracker_within_a_tracker(folder, tmp_path, part):
    """transformers would take the inner one."""
    shutil.copytree(folder, tmp_path / "m")
    file = tmp_path / "m" / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "tracker_config": part}))
    with pytest.raises(InputError, match="a backbone that is none of SAM 3"):
        load_segmenter(tmp_path / "m")


def test_weights_that_are_missing(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "m")
    weights = load_file(folder / "model.safetensors")
    weights = {name: value for name, value in weights.items() if "conv_s0" not in name}
    save_file(weights, tmp_path / "m" / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(InputError, match="is incomplete"):
        load_segmenter(tmp_path / "m")


def test_sizes_and_settings(folder):
    assert native_size(folder) == [84, 84]
    model = load_segmenter(folder)
    assert number_of_blocks(model.vision_encoder) == 3
    assert model.encoder_facts()["kind"] == "SAM 3"
    with pytest.raises(ValueError, match=r"divisible by 14, got 80 x 80\. Nearest that is: 84 x 84"):
        load_segmenter(folder, image_size=80)
    with pytest.raises(ValueError, match="for the first SAM"):
        load_segmenter(folder, attention="blocks")
    with pytest.raises(InputError, match="of type 'sam3_tracker', not a SAM 2"):
        Sam2ForSemanticSegmentation.from_pretrained(folder)
