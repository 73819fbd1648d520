"""Everything that takes a run takes one on five bands, where one that is no colour alone shows the foreground."""

import copy
import sys
from io import BytesIO
from types import SimpleNamespace

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image

import convlora as package
from convlora import Segmenter
from convlora.comparison.page import write_page
from convlora.comparison.plan import make_plan
from convlora.comparison.run import run_plan
from convlora.comparison.summary import sum_up
from convlora.errors import InputError
from convlora.exporting.metadata import Facts, metadata
from convlora.exporting.program import network_of
from convlora.folds import summary
from convlora.folds.run import cross_validate
from convlora.settings.history import OF_BANDS
from convlora.training import finish
from convlora.training.config import RunConfig
from convlora.training.earlier import find_earlier
from convlora.training.run import train
from tests.docs.pages import ROOT, blocks
from tests.helpers.models import tiny_sam
from tests.sharing.test_hub import site  # noqa: F401 - a fixture
from tests.training.test_bands import SIDE, make_data, settings

PICKED = [5, 4, 1, 2, 3]  # the fourth shows it


@pytest.fixture(scope="module")
def sam(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sam")
    tiny_sam(SIDE).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return make_data(tmp_path_factory.mktemp("data") / "d", 5, 3, images=(("train", 4), ("val", 2), ("test", 2)))


@pytest.fixture(scope="module")
def image(data):
    return data / "test" / "images" / "test0.tif"


@pytest.fixture(scope="module")
def asked(data, sam):
    return lambda **more: settings(data, sam, **{"picked": PICKED, "model": 5, **more})


@pytest.fixture(scope="module", autouse=True)
def no_pages():
    """They take as long as all the rest, and are tested elsewhere."""
    with pytest.MonkeyPatch.context() as patch:
        for module in (finish, summary):
            patch.setattr(module, "report_after_training", lambda *arguments: None)
        yield


@pytest.fixture(scope="module")
def run(asked, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "run"
    train(asked(steps=25), folder)
    return folder


@pytest.fixture(scope="module")
def segmenter(run):
    return Segmenter.from_run(run, device="cpu", precision="fp32")


class Session:
    """Stands in for ONNX Runtime, which the file takes long to be made for: the network that becomes the file."""

    def __init__(self, segmenter):
        reading, size = segmenter.intensity, segmenter.image_size
        self.network = network_of(copy.deepcopy(segmenter.model), size, "fp32", reading)
        self.custom_metadata_map = metadata(Facts(segmenter.classes, size, "", "fp32", None, 0.25, reading=reading))

    def get_modelmeta(self):
        return self

    def run(self, _, given):
        with torch.no_grad():
            return [self.network(torch.from_numpy(given["images"])).numpy()]


def segment_as_the_page_does(image):
    page, names = [one.text for one in blocks(ROOT / "docs" / "export.md", "python")], {}
    script = next(text for text in page if "InferenceSession" in text).split("photo =")[0]
    script += next(text for text in page if "def bands_of" in text)
    exec(compile(script, "export.md", "exec"), names)  # noqa: S102 - our own page
    return names["segment"](names["bands_of"](tifffile.imread(image))), names["facts"]


def test_the_lines_for_onnx_do_what_predict_does(run, segmenter, image, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", SimpleNamespace(InferenceSession=lambda _: Session(segmenter)))
    found, facts = segment_as_the_page_does(image)
    expected = segmenter.predict(image).semantic_map
    assert 0.01 < expected.mean() < 0.99
    assert (found != expected).mean() <= 2e-3
    assert (facts["standardization_mean"], facts["standardization_std"]) == ([0] * 5, [1] * 5)
    assert facts["bands"] == PICKED
    config = RunConfig.load(run / "config.yaml")
    assert facts["band_range"] == config.data.band_range
    low, high = np.array(config.data.band_range).T
    assert facts["normalization"]["mean"] == pytest.approx((config.data.band_mean - low) / (high - low))
    assert facts["normalization"]["std"] == pytest.approx(config.data.band_std / (high - low))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["model.onnx", "model.pt2"])
def test_exported_files_agree(run, segmenter, image, name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = package.export(run, tmp_path / name)
    assert (result["channels"], result["other_pixels"]) == (5, 0)
    if name == "model.onnx":
        assert (segment_as_the_page_does(image)[0] != segmenter.predict(image).semantic_map).mean() <= 2e-3


def test_the_hub_and_back(run, segmenter, image, site):  # noqa: F811
    package.push(run, "me/bands")
    files = site.repositories["me/bands"].files
    assert b"Input: bands 5, 4, 1, 2, 3" in files["README.md"]
    source = str(RunConfig.load(run / "config.yaml").model.source)
    found = Segmenter.from_run("hf:me/bands", model=source, device="cpu", precision="fp32")
    assert found.intensity == segmenter.intensity
    assert np.array_equal(found.predict(image).probabilities, segmenter.predict(image).probabilities)


def test_the_server_gives_what_predict_gives(run, segmenter, image):
    from starlette.testclient import TestClient

    from convlora.serve.app import make_app
    from convlora.serve.engine import Engine
    from convlora.serve.limits import Limits
    from convlora.serve.segmenting import Segmenting
    from convlora.serve.served import load_runs

    runs, _ = load_runs([run], device="cpu", precision="fp32")
    segmenting = Segmenting(runs, Engine({name: one.segmenter for name, one in runs.items()}, 1), Limits())
    client = TestClient(make_app(segmenting, ()), base_url="http://127.0.0.1:8000", raise_server_exceptions=False)
    try:
        answer = client.post("/v1/segment?format=png", content=image.read_bytes())
        assert answer.status_code == 200, answer.text
        expected = segmenter.predict(image).semantic_map
        assert np.array_equal(np.asarray(Image.open(BytesIO(answer.content))), expected)
    finally:
        segmenting.close()
        segmenting.engine.close()


def test_looking_at_a_run(run, segmenter, data, tmp_path):
    found = package.inspect_run(run, data, output=tmp_path, images=1, device="cpu")
    assert found["receptive_field"]["adapted"]["0.5"] > 0
    assert found["detail_share"]["share"] > 0
    assert "data:image/jpeg" in (tmp_path / "inspect.html").read_text()


def test_a_run_that_begins_with_it_reads_the_same_bands(run, data, tmp_path):
    saved = RunConfig.load(run / "config.yaml")

    def begun(**given):
        config = RunConfig()
        config.update({"data": {"path": str(data), **given.pop("data", {})}, "model": {"from_run": str(run), **given}})
        find_earlier(config, tmp_path / "new", resume=False)
        return config

    config = begun()
    assert (config.data.bands, config.model.bands) == (PICKED, 5)
    assert all(config.get(key) == saved.get(key) for key in OF_BANDS)
    config.update({"training": {"max_steps": 1, "batch_size": 2, "device": "cpu"}})
    assert train(config, tmp_path / "new")["val"]["iou"] > 0.1
    other = begun(data={"bands": [1, 2, 3, 4, 5]}, bands=5)
    assert other.data.band_range is None  # which are those of other bands
    with pytest.raises(InputError, match=r"model\.bands is 4, but the run was trained with 5"):
        begun(bands=4)


def test_folds(asked, image, tmp_path):
    config = asked(steps=1)
    config.data.folds = 2
    cross_validate(config, tmp_path / "run", runner=train)
    segmenter = Segmenter.from_run(tmp_path / "run", device="cpu")
    assert segmenter.intensity.picked == tuple(PICKED)
    assert {one.intensity for one in segmenter.folds} == {segmenter.intensity}
    assert segmenter.predict(image).semantic_map.shape == (SIDE, SIDE)


def test_compared_with_a_network(asked, tmp_path):
    plan = make_plan(["unet:width=8", "conv-lora"], 1, (1.0,), (), asked(steps=1))
    runs = run_plan(plan, tmp_path / "c", say=lambda text: None, runner=train)
    found = sum_up(plan, runs, tmp_path / "c")
    assert {row["method"] for row in found["rows"]} == {"unet:width=8", "conv-lora"}
    assert write_page(found, runs, tmp_path / "c").read_text().count("data:image/jpeg") >= 2 * 4
