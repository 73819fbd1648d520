"""Folders of transformers that are incomplete, damaged or made up."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from convlora.errors import InputError
from convlora.models import SamForSemanticSegmentation


@pytest.fixture
def folder(tiny_sam_folder, tmp_path):
    shutil.copytree(tiny_sam_folder, tmp_path / "sam")
    return tmp_path / "sam"


def refused(folder):
    with pytest.raises(InputError) as caught:
        SamForSemanticSegmentation.from_pretrained(folder)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def change(folder, weights):
    save_file(weights, folder / "model.safetensors", {"format": "pt"})


def settings(folder, section, **values):
    path = folder / "config.json"
    config = json.loads(path.read_text())
    (config[section] if section else config).update(values)
    path.write_text(json.dumps(config))


def test_missing_weights_are_not_drawn_at_random(folder):
    weights = load_file(folder / "model.safetensors")
    change(folder, {name: value for name, value in weights.items() if "vision_encoder.layers.1." not in name})
    assert "is incomplete: " in refused(folder)
    assert "vision_encoder.layers.1." in refused(folder)
    change(folder, {f"net.{name}": value for name, value in weights.items()})
    assert "is incomplete: " in refused(folder)


def test_what_no_prompt_ever_uses_may_be_missing(folder):
    weights = load_file(folder / "model.safetensors")
    whole = SamForSemanticSegmentation.from_pretrained(folder)
    unused = ("prompt_encoder.mask_embed", "prompt_encoder.point_embed", "prompt_encoder.shared_embedding")
    change(folder, {name: value for name, value in weights.items() if not name.startswith(unused)})
    pixels = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(
            SamForSemanticSegmentation.from_pretrained(folder)(pixels).logits, whole(pixel_values=pixels).logits
        )


def test_incomplete_folders_of_its_own(folder, tmp_path):
    SamForSemanticSegmentation.from_pretrained(folder, num_classes=3).save_pretrained(tmp_path / "own")
    SamForSemanticSegmentation.from_pretrained(tmp_path / "own")
    weights = load_file(tmp_path / "own" / "model.safetensors")
    change(tmp_path / "own", {name: value for name, value in weights.items() if "mask_decoder" not in name})
    assert "mask_decoder." in refused(tmp_path / "own")


def test_an_interrupted_download(folder):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1000])
    assert "cannot be loaded" in refused(folder)
    assert "Download them again" in refused(folder)


def test_weights_of_another_size(folder):
    settings(folder, "vision_config", mlp_dim=48)
    assert "cannot be loaded" in refused(folder)


def test_code_in_the_place_of_weights_is_not_run_nor_asked_for(folder, tmp_path):
    class Evil:
        def __reduce__(self):
            return (open, (str(tmp_path / "ran"), "w"))

    (folder / "model.safetensors").unlink()
    torch.save({"weight": Evil()}, folder / "pytorch_model.bin")
    message = refused(folder)
    assert "would need code to be run" in message
    assert "False" not in message
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("section", "values", "words"),
    [
        ("vision_config", {"num_hidden_layers": 10**7}, "num_hidden_layers=10000000, which no model has"),
        ("prompt_encoder_config", {"num_point_embeddings": 10**9}, "num_point_embeddings=1000000000"),
        ("vision_config", {"image_size": 10**6}, "image_size=1000000"),
        ("vision_config", {"patch_size": 0}, "cannot be loaded"),
        ("vision_config", {"num_attention_heads": 0}, "cannot be loaded"),
        ("vision_config", {"hidden_size": "wide"}, "cannot be loaded"),
        (None, {"attn_implementation": "somebody/kernel"}, "attn_implementation='somebody/kernel'"),
        ("vision_config", {"_attn_implementation": "somebody/kernel"}, "may be code to fetch"),
    ],
)
def test_settings_that_cannot_be(folder, section, values, words):
    settings(folder, section, **values)
    assert words in refused(folder)


@pytest.mark.parametrize("own", [False, True])
def test_a_small_folder_that_describes_a_large_model(folder, tmp_path, own, monkeypatch):
    """transformers would make all weights, here 13 GB, before it notices that they are missing."""
    if own:
        SamForSemanticSegmentation.from_pretrained(folder, num_classes=3).save_pretrained(tmp_path / "own")
        folder = tmp_path / "own"
    settings(folder, "vision_config", hidden_size=4096, mlp_dim=16384, num_hidden_layers=16)
    monkeypatch.setattr("convlora.models.segmenter.load_whole", lambda *args, **kwargs: 1 / 0)
    told = refused(folder)
    assert "describes 3,2" in told
    assert "weights, but the files beside it have" in told


def test_weights_that_are_no_floating_point_numbers(folder):
    weights = load_file(folder / "model.safetensors")
    change(folder, {name: value.to(torch.int64) for name, value in weights.items()})
    assert "of the type I64, and no weight is" in refused(folder)
