"""What the code of the documentation uses: a run, images and small models under the names of the pages."""

import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tests.importing.autogluon import Predictor


@pytest.fixture(scope="session")
def docs_folder(tmp_path_factory, trained_run, tiny_sam_folder, blobs):
    """A folder to run the examples in."""
    from transformers import Dinov2Config, Dinov2Model

    folder = tmp_path_factory.mktemp("examples")
    shutil.copytree(trained_run, folder / "RUN")
    shutil.copytree(blobs, folder / "DATA")
    Predictor().save(folder / "PREDICTOR")
    shutil.copytree(tiny_sam_folder, folder / "facebook" / "sam-vit-base")
    size = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "image_size": 32, "patch_size": 8}
    Dinov2Model(Dinov2Config(**size)).save_pretrained(folder / "facebook" / "dinov2-base")
    noise = np.random.default_rng(0).integers(0, 256, (90, 120, 3), np.uint8)
    Image.fromarray(noise).save(folder / "photo.jpg")
    Image.fromarray(noise).save(folder / "scene.tif")
    (folder / "photos").mkdir()
    Image.fromarray(noise).save(folder / "photos" / "one.png")
    return folder


@pytest.fixture
def example_names(docs_folder, monkeypatch):
    """Stand-ins for what a page takes for granted; the examples run in the folder that holds their files."""
    monkeypatch.chdir(docs_folder)
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent), prepend=":")
    generator = np.random.default_rng(0)
    maps = [generator.integers(0, 2, (24, 32)) for _ in range(2)]
    return {
        "pixels": torch.randn(1, 3, 32, 32),
        "labels": torch.randint(0, 2, (1, 32, 32)),
        "my_loss": lambda features: features.square().mean(),
        "images": [(generator.random((24, 32)), truth) for truth in maps],
        "label_maps": maps,
    }
