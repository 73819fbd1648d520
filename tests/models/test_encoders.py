"""Segmenters on plain ViTs: transformers' own embeddings, true maps for Conv-LoRA, and everything a SAM can do."""

import copy
import json
import re
import shutil

import pytest
import torch
import transformers as hf
from torch.utils._python_dispatch import TorchDispatchMode

from convlora.errors import InputError
from convlora.methods.conv_lora import check_grid
from convlora.methods.layers import Layers
from convlora.methods.registry import METHODS
from convlora.models.build import adapt
from convlora.models.detail import DetailBranch
from convlora.models.encoder_segmenter import EncoderForSemanticSegmentation, sine_positions
from convlora.models.encoders.family import FAMILIES, find_family
from convlora.models.layer_names import vit_layers
from convlora.models.loading import load_segmenter
from convlora.models.parameters import halve_frozen_weights
from convlora.models.sam2_segmenter import Sam2ForSemanticSegmentation
from convlora.models.sam3_segmenter import Sam3ForSemanticSegmentation
from convlora.models.segmenter import SamForSemanticSegmentation
from convlora.training.config import RunConfig
from convlora.training.defaults import settle_rates
from tests.helpers.models import names_of_linear_layers, tiny_sam

VIT = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 48}
MODELS = {
    "dinov2": (hf.Dinov2Config, hf.Dinov2Model, {"image_size": 56, "patch_size": 14}),
    "dinov2-swiglu": (hf.Dinov2Config, hf.Dinov2Model, {"image_size": 56, "patch_size": 14, "use_swiglu_ffn": True}),
    "dinov2-registers": (
        hf.Dinov2WithRegistersConfig,
        hf.Dinov2WithRegistersModel,
        {"image_size": 56, "patch_size": 14, "num_register_tokens": 4},
    ),
    "dinov3": (hf.DINOv3ViTConfig, hf.DINOv3ViTModel, {"image_size": 64, "patch_size": 16, "num_register_tokens": 4}),
    "dinov3-gated": (hf.DINOv3ViTConfig, hf.DINOv3ViTModel, {"image_size": 64, "use_gated_mlp": True}),
    "vit": (hf.ViTConfig, hf.ViTModel, {"image_size": 64, "patch_size": 16}),
    "vit-mae": (hf.ViTMAEConfig, hf.ViTMAEModel, {"image_size": 64, "patch_size": 16, "mask_ratio": 0.0}),
    "clip": (hf.CLIPVisionConfig, hf.CLIPVisionModel, {"image_size": 64, "patch_size": 16}),
    "siglip": (hf.SiglipVisionConfig, hf.SiglipVisionModel, {"image_size": 64, "patch_size": 16}),
}
DECODER = {"hidden_size": 32, "mlp_dim": 32, "num_attention_heads": 2}
TEXT = {"hidden_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 24, "vocab_size": 99}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A small random model of each family, saved by transformers."""
    root = tmp_path_factory.mktemp("encoders")
    torch.manual_seed(0)
    for name, (config, model, settings) in MODELS.items():
        made = model(config(**VIT, **settings))
        for parameter in made.parameters():  # transformers draws them too small to tell images apart
            if parameter.ndim >= 2:
                torch.nn.init.normal_(parameter, std=0.2)
        made.save_pretrained(root / name)
    ids = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
    vision = {**VIT, "image_size": 64, "patch_size": 16}
    clip = hf.CLIPConfig(vision_config=vision, text_config=TEXT | ids)
    hf.CLIPModel(clip).save_pretrained(root / "whole-clip")
    hf.SiglipModel(hf.SiglipConfig(vision_config=vision, text_config=TEXT)).save_pretrained(root / "whole-siglip")
    return root


def small(folder, **settings):
    """A segmenter with a small decoder, which takes a tenth of the time."""
    torch.manual_seed(0)
    loaded = load_segmenter(folder, **settings)
    config = {**loaded.config.to_dict(), "mask_decoder_config": DECODER}
    made = type(loaded)(type(loaded.config)(**config))
    made.vision_encoder = loaded.vision_encoder
    return made.eval()


@pytest.mark.parametrize("grid", [(4, 4), (2, 6)], ids=["its own size", "another size"])
@pytest.mark.parametrize("name", [*MODELS, "whole-clip", "whole-siglip"])
def test_embeddings_are_those_of_transformers(folders, name, grid):
    patch = 14 if name.startswith("dinov2") else 16
    size = (grid[0] * patch, grid[1] * patch)
    model = load_segmenter(folders / name, image_size=size)
    stock = hf.AutoModel.from_pretrained(folders / name).eval()
    stock = getattr(stock, "vision_model", stock)
    mean, std = (torch.tensor(values).view(-1, 1, 1) for values in (model.config.image_mean, model.config.image_std))
    image = torch.rand(2, 3, *size)
    imagenet = [torch.tensor(v).view(-1, 1, 1) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))]
    more = {} if "dino" in name else {"interpolate_pos_encoding": True}
    if name == "vit-mae":
        more["noise"] = torch.arange(grid[0] * grid[1]).float().expand(2, -1)  # which leaves the order as it is
    with torch.no_grad():
        found = model.get_image_embeddings((image - imagenet[0]) / imagenet[1])
        hidden = stock((image - mean) / std, **more).last_hidden_state
    cells = hidden[:, hidden.shape[1] - grid[0] * grid[1] :]
    expected = torch.stack([cells[:, i * grid[1] : (i + 1) * grid[1]] for i in range(grid[0])], dim=1)
    assert found.std() > 0.1, "it would not matter what is seen"
    torch.testing.assert_close(found.permute(0, 2, 3, 1), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", MODELS)
def test_every_adapted_layer_of_conv_lora_sees_the_map(folders, name):
    patch = 14 if name.startswith("dinov2") else 16
    model = small(folders / name, image_size=(2 * patch, 6 * patch))
    adapted = adapt(model, "conv-lora", {})
    encoder = adapted.base_model.model.vision_encoder
    seen = check_grid(adapted, torch.randn(1, 3, 2 * patch, 6 * patch))
    layers = [n for n, module in encoder.named_modules() if hasattr(module, "lora_experts")]
    assert len(layers) == 2 * 3
    assert len(seen) == len(layers)
    assert {tuple(one.grid) for one in seen.values()} == {(2, 6)}
    assert all(one.agrees for one in seen.values())


@pytest.mark.parametrize("name", MODELS)
def test_all_linear_layers_of_the_blocks_are_known(folders, name):
    model = small(folders / name)
    expected = names_of_linear_layers(model)
    assert len(expected) >= 2 * 6
    assert {n for n, _ in model.named_modules() if re.fullmatch(model.layer_names(Layers.LINEAR), n)} == expected


@pytest.mark.parametrize("method", [name for name, method in METHODS.items() if method.network is None])
def test_methods_train_or_say_that_they_need_a_sam(folders, method):
    model = small(folders / "dinov2-registers", image_size=56)
    if METHODS[method].layers in (Layers.ATTENTION, Layers.SUBLAYERS, Layers.ENCODER):
        with pytest.raises(InputError, match="only the vision encoder of the first SAM and SAM-HQ"):
            adapt(model, method, {})
        return
    if METHODS[method].layers is Layers.MLP_MAPS:
        with pytest.raises(InputError, match="only the vision encoders of the SAMs have: feature maps"):
            adapt(model, method, {})
        return
    if METHODS[method].adapts_decoder:
        with pytest.raises(InputError, match="its decoder is new"):
            adapt(model, method, {})
        return
    adapted = adapt(model, method, {}).train()
    frozen = {n: p.clone() for n, p in adapted.named_parameters() if not p.requires_grad}
    trained = {n: p.clone() for n, p in adapted.named_parameters() if p.requires_grad}
    optimizer = torch.optim.AdamW([p for p in adapted.parameters() if p.requires_grad], lr=1e-2)
    for _ in range(2):  # B of LoRA is zero at first
        adapted(torch.randn(2, 3, 56, 56), labels=torch.randint(0, 2, (2, 56, 56))).loss.backward()
        optimizer.step()
    now = dict(adapted.named_parameters())
    assert all(torch.equal(now[n], p) for n, p in frozen.items())
    still = [n for n, p in trained.items() if torch.equal(now[n], p)]
    unused = ("mask_token", "bias", "lora_gate", "lora_experts")  # of others than the chosen experts, for one
    assert [n for n in still if not any(one in n for one in unused)] == []
    in_encoder = any("vision_encoder" in n and n not in still for n in trained)
    assert in_encoder == (method != "decoder")


@pytest.mark.parametrize("head", ["binary", "per-pixel", "mask-classification"])
@pytest.mark.parametrize("detail", ["none", "half", "full"])
def test_heads_and_branch_at_a_size_of_odd_cells(folders, head, detail):
    classes = 2 if head == "binary" else 3
    model = small(folders / "dinov2", image_size=(70, 42), head=head, num_classes=classes, detail=detail)
    adapted = adapt(model, "conv-lora", {}).train()
    output = adapted(torch.randn(1, 3, 70, 42), labels=torch.randint(0, classes, (1, 70, 42)))
    output.loss.backward()
    assert all(p.grad is not None for n, p in adapted.named_parameters() if p.requires_grad and "lora_" not in n)
    if head == "binary":
        assert output.logits.shape == (1, 2, 70, 42)
    elif detail != "none":
        cell = {"half": 2, "full": 1}[detail]
        assert output.mask_logits.shape[-2:] == (80 // cell, 48 // cell)


@pytest.mark.parametrize("name", MODELS)
def test_everything_that_full_trains_gets_a_gradient(folders, name):
    """Several processes wait for the gradient of every parameter."""
    patch = 14 if name.startswith("dinov2") else 16
    adapted = adapt(small(folders / name), "full", {}).train()
    size = (2, 4 * patch, 4 * patch)
    adapted(torch.randn(2, 3, *size[1:]), labels=torch.randint(0, 2, size)).loss.backward()
    assert [n for n, p in adapted.named_parameters() if p.requires_grad and p.grad is None] == []


def test_half_precision_weights_have_a_decoder_of_their_kind(folders):
    model = load_segmenter(folders / "dinov2", dtype=torch.bfloat16, detail="half")
    assert model(torch.randn(1, 3, 56, 56).bfloat16()).logits.isfinite().all()


def test_learning_rates_of_a_fresh_decoder(folders):
    """`full` trains a pretrained encoder: its rate stays, and the decoder has one of its own."""
    model = small(folders / "dinov2")
    model.config.encoder_config.hidden_size = 768
    config = RunConfig()
    config.method.name = "full"
    settle_rates(config, model)
    assert (config.training.lr, config.training.lr_decoder) == (1e-4, 1e-3)


def test_dinov3_does_the_same_in_training(folders):
    model = load_segmenter(folders / "dinov3").train()
    x = torch.randn(1, 3, 64, 64)
    assert torch.equal(model.get_image_embeddings(x), model.get_image_embeddings(x))


def test_the_branch_stays_in_place_where_cells_are_not_16_pixels():
    """A feature of the right edge of the embedding is at the right edge of the fine map."""
    branch = DetailBranch(8, 8, finest=1)
    inner = {}
    branch.embedding.register_forward_hook(lambda module, inputs, output: inner.update(seen=inputs[0]))
    embedding = torch.zeros(1, 8, 37, 37)
    embedding[..., -1] = 1
    (fine,) = branch(torch.zeros(1, 3, 518, 518), embedding, torch.zeros(1, 8, 148, 148))
    seen = inner["seen"][0, 0]
    assert seen.shape == (33, 33)
    assert seen[:, -1].min() > 0.5
    assert seen[:, :-2].abs().max() == 0
    assert fine.shape[-2:] == (264, 264), "all of it: nothing of a margin is cut off"


def test_the_kind_of_model_is_checked_by_every_class(folders):
    for wrong in (SamForSemanticSegmentation, Sam2ForSemanticSegmentation, Sam3ForSemanticSegmentation):
        with pytest.raises(InputError, match=r"of type 'dinov2'.*load_segmenter"):
            wrong.from_pretrained(folders / "dinov2")


@pytest.mark.parametrize(
    ("name", "settings", "words"),
    [
        ("whole-clip", {"vision_config": [1]}, "vision_config is no table"),
        ("dinov2", {"patch_size": [14, 14]}, "patch_size must be a whole number"),
        ("dinov2", {"hidden_size": 48}, "is of the size"),
        ("dinov2", {"num_hidden_layers": 10**6}, "which no model has"),
    ],
)
def test_damaged_configurations(folders, tmp_path, name, settings, words):
    shutil.copytree(folders / name, tmp_path / "m")
    file = tmp_path / "m" / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **settings}))
    with pytest.raises(InputError, match=words):
        load_segmenter(tmp_path / "m")


def test_a_new_head_may_be_asked_for_where_there_is_none_yet(folders, tmp_path):
    """As scripts do that take any folder."""
    tiny_sam().save_pretrained(tmp_path)
    for source in (tmp_path, folders / "dinov2"):
        assert load_segmenter(source, num_classes=3, ignore_mismatched_sizes=True).config.num_classes == 3


def test_no_tensor_is_made_of_numbers_at_every_call(folders):
    """It would be copied to a GPU each time, and a recording of the pass would fail."""
    model, made = load_segmenter(folders / "clip"), []

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            made.extend([function] if "lift_fresh" in str(function) else [])
            return function(*args, **(kwargs or {}))

    with torch.no_grad(), Watch():
        model(torch.randn(1, 3, 64, 64))
    assert made == []


def test_attention_of_a_saved_segmenter_can_be_chosen(folders, tmp_path):
    small(folders / "vit").save_pretrained(tmp_path)
    for given in ({"attention": "eager"}, {"attn_implementation": "eager"}):
        model = load_segmenter(tmp_path, **given)
        assert model.config.attention == "eager"
        assert model.vision_encoder.model.config._attn_implementation == "eager"


def test_saved_and_loaded(folders, tmp_path):
    model = small(folders / "siglip", num_classes=3, head="per-pixel", detail="half", attention="eager")
    model.save_pretrained(tmp_path)
    again = EncoderForSemanticSegmentation.from_pretrained(tmp_path)
    auto = hf.AutoModelForSemanticSegmentation.from_pretrained(tmp_path)
    x = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(again(x).logits, model(x).logits)
        assert torch.equal(auto(x).logits, model(x).logits)
    assert again.config.family.name == "SigLIP"
    assert again.vision_encoder.model.config._attn_implementation == "eager"


def test_checkpointing_changes_nothing(folders):
    gradients = []
    for checkpointed in (False, True):
        adapted = adapt(small(folders / "dinov2"), "conv-lora", {"gate_noise": False}).train()
        if checkpointed:
            adapted.activation_checkpointing_enable({"use_reentrant": False})
        torch.manual_seed(1)
        for name, parameter in adapted.named_parameters():
            if name.endswith("lora_B.default.weight"):
                torch.nn.init.normal_(parameter, std=0.1)
        adapted(torch.ones(1, 3, 56, 56), labels=torch.ones(1, 56, 56, dtype=torch.long)).loss.backward()
        gradients.append({n: p.grad for n, p in adapted.named_parameters() if p.grad is not None})
    plain, again = gradients
    assert plain.keys() == again.keys()
    assert all(torch.allclose(plain[n], again[n], rtol=1e-4, atol=1e-6) for n in plain)


def test_half_precision_is_near(folders):
    model = small(folders / "dinov3")
    x = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        expected = model.get_image_embeddings(x)
        half = copy.deepcopy(model).requires_grad_(False)
        halve_frozen_weights(half.vision_encoder, "bf16")
        with torch.autocast("cpu", torch.bfloat16):
            found = half.get_image_embeddings(x)
    assert (found.float() - expected).norm() < 0.05 * expected.norm()


def test_a_normalisation_beside_the_weights_counts(folders, tmp_path):
    hf.AutoModel.from_pretrained(folders / "dinov2").save_pretrained(tmp_path)
    file = tmp_path / "preprocessor_config.json"
    file.write_text('{"image_mean": [0.1, 0.2, 0.3], "image_std": [0.5, 0.25, 1.0]}')
    model = load_segmenter(tmp_path)
    image = torch.rand(1, 3, 56, 56)
    mean, std = (torch.tensor(v).view(-1, 1, 1) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    own = [torch.tensor(v).view(-1, 1, 1) for v in ((0.1, 0.2, 0.3), (0.5, 0.25, 1.0))]
    seen = model.vision_encoder._normalised((image - mean) / std)
    torch.testing.assert_close(seen, (image - own[0]) / own[1])
    file.write_text('{"image_mean": [0.1, 0.2], "image_std": "x"}')
    with pytest.raises(InputError, match=r"preprocessor_config\.json .* is damaged"):
        load_segmenter(tmp_path)


def test_models_that_are_not_known_are_refused(tmp_path):
    hf.BertModel(hf.BertConfig(**VIT, vocab_size=9)).save_pretrained(tmp_path)
    with pytest.raises(InputError, match=r"of type .bert., which is not known here.*DINOv2"):
        load_segmenter(tmp_path)


def test_sizes_and_attention_that_do_not_fit_are_refused(folders):
    with pytest.raises(ValueError, match=r"divisible by 14, got 100 x 100\. Nearest that is: 98 x 98"):
        load_segmenter(folders / "dinov2", image_size=100)
    with pytest.raises(ValueError, match="'blocks' is for SAM"):
        load_segmenter(folders / "dinov2", attention="blocks")


def test_a_sam_is_loaded_as_one(tmp_path):
    tiny_sam().save_pretrained(tmp_path)
    assert type(load_segmenter(tmp_path)).__name__ == "SamForSemanticSegmentation"


def test_families_are_found_by_type():
    assert find_family("vit_mae").name == "ViT"
    assert find_family(None) is None
    assert len({family.model_type for family in FAMILIES}) == len(FAMILIES)
    with pytest.raises(LookupError):
        vit_layers(Layers.ATTENTION)


def test_positions_of_cells_all_differ():
    codes = sine_positions((5, 7), 32, torch.device("cpu"), torch.float32)[0].flatten(1).T
    assert codes.shape == (35, 32)
    assert torch.cdist(codes, codes).fill_diagonal_(9).min() > 0.1
