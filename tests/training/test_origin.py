"""A run knows the data and the SAM it was made of."""

import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import SamModel

from convlora.data.sources.opening import open_data
from convlora.errors import InputError
from convlora.inference.segmenter import Segmenter
from convlora.models.fingerprint import same_weights, sample_weights
from convlora.models.random_sam import randomize
from convlora.runs.reading import SAM, check_sam
from convlora.storage import write_json
from convlora.training.origin import SAMPLES, check_samples, described, write_samples
from convlora.training.run import Interrupted, train
from tests.data import volumes_on_disk as on_disk
from tests.training.test_health import Heard
from tests.training.test_run import InterruptAt


@pytest.fixture
def data(blobs, tmp_path):
    shutil.copytree(blobs, tmp_path / "data")
    shutil.rmtree(tmp_path / "data" / "val")  # so that validation is drawn from training
    return tmp_path / "data"


@pytest.fixture
def config_of(make_config, data):
    def make(**training):
        config = make_config(**training)
        config.data.path = str(data)
        return config

    return make


def other_sam(folder, place):
    sam = SamModel.from_pretrained(folder)
    randomize(sam.vision_encoder)
    sam.save_pretrained(place)
    return place


def test_a_run_whose_images_have_become_others_is_not_gone_on_with(config_of, data, tmp_path):
    """Another image in training, and another would be held out of it for validation."""
    run = tmp_path / "run"
    with pytest.raises(Interrupted):
        train(config_of(), run, reporter=InterruptAt(2))
    for part in ("images", "masks"):
        first = sorted((data / "train" / part).iterdir())[0]
        shutil.copy(first, first.with_name(f"zzz{first.suffix}"))
    with pytest.raises(InputError, match=r"because its images are no longer those it began with: zzz is new\. Rest"):
        train(config_of(), run, resume=True)


def test_order_counts_and_mended_files_are_spoken_of(data, tmp_path):
    samples = open_data(data).splits["train"]
    write_samples(tmp_path, {"train": samples})
    heard = Heard()
    check_samples(tmp_path, {"train": samples}, heard.message)
    assert heard.messages == []
    with pytest.raises(InputError, match="their order, or what is"):
        check_samples(tmp_path, {"train": samples[::-1]}, heard.message)
    with pytest.raises(InputError, match=rf"{samples[0].name} is missing, with 1 more\."):
        check_samples(tmp_path, {"train": samples[2:]}, heard.message)
    Image.new("RGB", (9, 9)).save(samples[1].image)
    check_samples(tmp_path, {"train": samples}, heard.message)
    assert heard.messages == [f"Warning: Image or mask of {samples[1].name} has changed since the run began."]
    for damaged in ("[", "[]", '{"train": [1]}', '{"train": [["a"]]}', "{}"):
        (tmp_path / SAMPLES).write_text(damaged)
        with pytest.raises(InputError, match=r"samples\.json is damaged"):
            check_samples(tmp_path, {"train": samples}, heard.message)


def test_slices_are_known_by_the_files_of_their_volumes(tmp_path):
    """Volumes of two splits may have the same name, and one may change."""
    for split, seed in (("train", 0), ("val", 1)):
        for part, values in zip(("images", "masks"), on_disk.spheres((9, 9, 3), seed)):
            on_disk.write_nifti(tmp_path / split / part / "a.nii.gz", values)
    splits = open_data(tmp_path).splits
    one, other = (described(splits[name][0]) for name in ("train", "val"))
    assert one[0] == other[0]
    assert one[1:] == [(tmp_path / "train" / part / "a.nii.gz").stat().st_size for part in ("images", "masks")]
    assert one[1] != other[1]
    write_samples(tmp_path, {"train": splits["train"]})
    heard = Heard()
    on_disk.write_nifti(tmp_path / "train/images/a.nii.gz", np.zeros((9, 9, 3), np.int16))
    check_samples(tmp_path, {"train": splits["train"]}, heard.message)
    assert "changed since the run began" in heard.messages[0]
    write_json(tmp_path / SAMPLES, {"train": [[sample.name, None, None] for sample in splits["train"]]})
    check_samples(tmp_path, {"train": splits["train"]}, heard.message)
    assert len(heard.messages) == 1, "older versions did not write down the sizes"


def test_another_sam_of_the_same_shape_is_refused(make_config, trained_run, tiny_sam_folder, tmp_path):
    other = other_sam(tiny_sam_folder, tmp_path / "other")
    with pytest.raises(InputError, match=r"is not the model that the run .* was trained from.*with model"):
        Segmenter.from_run(trained_run, model=other, device="cpu")
    with pytest.raises(Interrupted):
        train(make_config(), tmp_path / "run", reporter=InterruptAt(1))
    config = make_config()
    config.model.source = str(other)
    with pytest.raises(InputError, match="is not the model"):
        train(config, tmp_path / "run", resume=True)


def test_a_bundled_sam_of_another_version_is_said_to_be_one(trained_run):
    with pytest.raises(InputError, match=r"another version of convlora.*Train it again"):
        check_sam(trained_run, {}, "tiny")


def test_the_same_sam_in_half_precision_or_at_another_size_is_not(trained_run, tiny_sam_folder, tmp_path):
    SamModel.from_pretrained(tiny_sam_folder).to(torch.float16).save_pretrained(tmp_path / "half")
    Segmenter.from_run(trained_run, model=tmp_path / "half", device="cpu")


def test_what_is_compared():
    torch.manual_seed(0)
    encoder = torch.nn.Sequential(torch.nn.Linear(8, 8), torch.nn.LayerNorm(8), torch.nn.Linear(8, 8))
    sample = sample_weights(encoder)
    assert sample.keys() == {"0.weight", "2.weight"}
    assert same_weights(json.loads(json.dumps(sample)), sample)
    assert not same_weights(sample | {"2.weight": sample["2.weight"] * 1.05}, sample)
    assert not same_weights({}, sample)
    assert not same_weights(sample | {"2.weight": "x"}, sample)


def test_where_all_weights_are_of_the_run_any_sam_will_do(make_config, tiny_sam_folder, tmp_path):
    config = make_config(epochs=1, max_steps=1)
    config.method.name = "full"
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / SAM).write_text("{}")  # of a false start with another method
    train(config, tmp_path / "run")
    assert not (tmp_path / "run" / SAM).exists()
    Segmenter.from_run(tmp_path / "run", model=other_sam(tiny_sam_folder, tmp_path / "other"), device="cpu")


def test_a_damaged_list_of_weights(trained_run, tmp_path):
    shutil.copytree(trained_run, tmp_path / "run")
    for damaged in ("[", "[]", "3"):
        (tmp_path / "run" / SAM).write_text(damaged)
        with pytest.raises(InputError, match=r"sam\.json is damaged"):
            Segmenter.from_run(tmp_path / "run", device="cpu")
