"""Runs on models other than SAM: trained, resumed, scored, tiled and compared by the same commands."""

import json
from types import SimpleNamespace

import pytest
import torch
import transformers as hf
from safetensors.torch import load_file

from convlora.api.compare import compare
from convlora.api.evaluate import evaluate
from convlora.api.predict import predict
from convlora.comparison import run as comparison_run
from convlora.errors import InputError
from convlora.inference.segmenter import Segmenter
from convlora.training import model as training_model
from convlora.training.config import RunConfig
from convlora.training.run import Interrupted, train
from tests.helpers.interrupt_at import InterruptAt
from tests.helpers.video_sams import small_sam2, small_sam3
from tests.models.test_sam_hq import small_sam_hq

SIZES = {"dinov2": 56, "eomt": 56, "sam2": 64, "sam3": 56, "sam_hq": 64}
SMALL_SAMS = {"sam2": small_sam2, "sam3": small_sam3, "sam_hq": small_sam_hq}


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    root = tmp_path_factory.mktemp("models")
    torch.manual_seed(0)
    vit = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 48}
    for name in ("dinov2", "eomt"):
        hf.Dinov2Model(hf.Dinov2Config(**vit, image_size=56, patch_size=14)).save_pretrained(root / name)
    for name, small in SMALL_SAMS.items():
        small().save_pretrained(root / name)
    return root


def settings(source, data, **training):
    config = RunConfig()
    training = {"epochs": 2, "batch_size": 2, "grad_accum": 1, "device": "cpu"} | training
    sections = {
        "data": {"path": str(data)},
        "model": {
            "source": str(source),
            "image_size": SIZES[source.name],
            "decoder": "eomt" if source.name == "eomt" else "sam",
        },
        "training": training,
    }
    config.update(sections, origin="the test")
    return config


def kind_of(run):
    return next(name for name in SIZES if run.parent.name.startswith(name))


@pytest.fixture(scope="module", params=SIZES)
def run(request, sources, blobs, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param) / "run"
    train(settings(sources / request.param, blobs), folder)
    return folder


def test_interrupted_and_resumed_equals_uninterrupted(run, sources, blobs, tmp_path):
    source = sources / kind_of(run)
    with pytest.raises(Interrupted):
        train(settings(source, blobs), tmp_path / "run", reporter=InterruptAt(4))
    train(settings(source, blobs), tmp_path / "run", resume=True)
    one, two = (load_file(place / "adapter" / "adapter_model.safetensors") for place in (run, tmp_path / "run"))
    assert one.keys() == two.keys()
    assert [name for name in one if not torch.equal(one[name], two[name])] == []


def test_scored_again_and_tiled(run, blobs, tmp_path):
    stored = json.loads((run / "metrics.json").read_text())["test"]["iou"]
    assert evaluate(run, blobs)["iou"] == pytest.approx(stored, abs=1e-6)
    predict(run, sorted((blobs / "test" / "images").iterdir()), tmp_path / "whole")
    predict(run, sorted((blobs / "test" / "images").iterdir()), tmp_path / "tiles", tile=True)
    assert {path.name for path in (tmp_path / "whole").iterdir()} == {p.name for p in (tmp_path / "tiles").iterdir()}


def test_the_card_calls_a_sam_one_and_nothing_else(run):
    card = (run / "adapter" / "README.md").read_text()
    assert ("segment-anything" in card) == (kind_of(run) in SMALL_SAMS)


def test_the_report_names_queries(run):
    assert ("queries in the encoder" in (run / "report.html").read_text()) == (kind_of(run) == "eomt")


def test_cached_blocks_change_nothing(sources, blobs, tmp_path):
    """With the early map of SAM-HQ among what is kept."""
    config = settings(sources / "sam_hq", blobs, max_steps=3, epochs=None, adapt_last=1)
    without = train(config, tmp_path / "a")
    config.training.cache = True
    assert train(config, tmp_path / "b")["val"]["iou"] == pytest.approx(without["val"]["iou"], abs=1e-5)


def test_another_model_of_the_same_shape_is_refused(run, tmp_path):
    torch.manual_seed(7)
    if kind_of(run) in SMALL_SAMS:
        other = SMALL_SAMS[kind_of(run)]()
        with torch.no_grad():
            for parameter in other.vision_encoder.parameters():
                parameter.add_(0.1)
    else:
        source = RunConfig.load(run / "config.yaml").model.source
        other = hf.Dinov2Model(hf.Dinov2Config.from_pretrained(source))
    other.save_pretrained(tmp_path)
    with pytest.raises(InputError, match="is not the model that the run"):
        Segmenter.from_run(run, model=tmp_path)


@pytest.mark.parametrize("given", [None, 56])
def test_compared_with_a_u_net_at_a_size_for_both(given, sources, blobs, tmp_path, monkeypatch):
    """The model's own size, 56 pixels, is none of a U-Net, which takes the nearest."""
    monkeypatch.setattr(comparison_run, "OwnProcesses", lambda: train)  # tests/api has one with processes
    config = settings(sources / "dinov2", blobs, max_steps=1, epochs=None)
    config.model.image_size = given
    compare(blobs, tmp_path / "c", methods=["unet:width=8", "conv-lora"], seeds=1, config=config)
    used = [RunConfig.load(path).model.image_size for path in (tmp_path / "c").rglob("config.yaml")]
    assert sorted(max(size) if isinstance(size, list) else size for size in used) == [56, 64]


@pytest.mark.parametrize(
    ("detail", "patch", "grid", "expected"),
    [("none", 16, 16, (4, 16)), ("none", 32, 8, (8, 32)), ("none", 14, 18, (4, 14)), ("half", 32, 8, (2, 32))],
)
def test_what_a_size_can_reach_is_told_by_the_cells_of_the_model(detail, patch, grid, expected, monkeypatch):
    asked = []
    monkeypatch.setattr(training_model, "describe_size", lambda *args: asked.append(args[3:]) or (None, []))
    config = RunConfig()
    config.model.detail = detail
    run = SimpleNamespace(checkpoint=None, is_main=True, config=config)
    model = SimpleNamespace(image_size=[patch * grid] * 2, grid_size=(grid, grid), patch_size=patch)
    training_model._tell_reach(run, SimpleNamespace(train=[], classes=None, windows=None), model)
    assert asked == [expected]
