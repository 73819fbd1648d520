"""A run as a file: other programs get from it what `convlora predict` gives."""

import json
import shutil
import sys
import zipfile

import numpy as np
import pytest
import yaml
from PIL import Image

import convlora as package
from convlora.data.classes.class_table import ClassTable
from convlora.errors import InputError, RunError
from convlora.exporting import agreement
from convlora.inference.segmenter import Segmenter
from convlora.methods.registry import METHODS
from convlora.models.build import adapt
from tests.docs.pages import ROOT, blocks
from tests.helpers.models import tiny_segmenter


@pytest.fixture(scope="module")
def folder(tmp_path_factory, trained_run):
    """A folder with an export of the run, and an image that is larger than the model's size in one direction only."""
    place = tmp_path_factory.mktemp("exported")
    rows, columns = np.mgrid[:50, :131]
    waves = 127 + 120 * np.sin(rows / 5)[..., None] * np.sin(columns[..., None] / np.array([4, 7, 11]))
    Image.fromarray(waves.astype(np.uint8)).save(place / "photo.jpg")
    place.joinpath("result.json").write_text(
        json.dumps(package.export(trained_run, place / "model.onnx", resolution_cm=20, tile_overlap=0.1))
    )
    return place


def test_the_file_agrees_with_the_run_and_is_alone(folder):
    result = json.loads((folder / "result.json").read_text())
    assert result["largest_difference"] < 1e-4
    assert result["other_pixels"] == 0
    assert result["bytes"] == (folder / "model.onnx").stat().st_size
    assert {path.name for path in folder.iterdir()} == {"model.onnx", "photo.jpg", "result.json"}


def test_the_file_says_what_deepness_reads(folder, trained_run):
    import onnxruntime

    session = onnxruntime.InferenceSession(folder / "model.onnx")
    facts = {key: json.loads(value) for key, value in session.get_modelmeta().custom_metadata_map.items()}
    (given,), (answer,) = session.get_inputs(), session.get_outputs()
    segmenter = package.Segmenter.from_run(trained_run)
    side = segmenter.image_size[0]
    assert [given.shape[0], *given.shape[1:]] == ["batch", 3, side, side]
    assert [answer.shape[0], *answer.shape[1:]] == ["batch", 2, side, side]
    assert facts["model_type"] == "Segmentor"
    assert facts["class_names"] == {"0": segmenter.classes.names[0], "1": segmenter.classes.names[1]}
    assert (facts["resolution"], facts["tiles_overlap"], facts["tile_size"], facts["seg_thresh"]) == (20, 10, side, 0.5)
    assert (facts["standardization_mean"], facts["standardization_std"]) == ([0, 0, 0], [1, 1, 1])


@pytest.mark.parametrize("size", [(50, 131), (33, 40), (300, 200)])
def test_the_lines_of_the_page_do_what_predict_does(folder, trained_run, size, monkeypatch):
    (script,) = [one.text for one in blocks(ROOT / "docs" / "export.md", "python") if "InferenceSession" in one.text]
    assert len(script.strip().splitlines()) <= 24
    assert {line.split()[1].split(".")[0] for line in script.splitlines() if line.startswith(("import", "from"))} == {
        "json", "numpy", "onnxruntime", "PIL",
    }  # fmt: skip
    monkeypatch.chdir(folder)
    Image.open("photo.jpg").resize(size[::-1]).save("sized.png")
    names = {}
    exec(compile(script.replace("photo.jpg", "sized.png"), "export.md", "exec"), names)  # noqa: S102 - our own page
    expected = Segmenter.from_run(trained_run, device="cpu", precision="fp32").predict("sized.png").semantic_map
    found = np.asarray(Image.open("classes.png"))
    assert 0.01 < expected.mean() < 0.99
    assert (found != expected).mean() <= 1e-3


def test_an_earlier_export_is_replaced_and_nothing_else(folder, trained_run, tmp_path):
    from convlora.exporting.files import is_own_file

    assert is_own_file(folder / "model.onnx")
    other = tmp_path / "theirs.onnx"
    other.write_bytes(b"\x08\n\x12\x07pytorch")
    with pytest.raises(InputError, match="exists"):
        package.export(trained_run, other)
    assert other.read_bytes() == b"\x08\n\x12\x07pytorch"
    (tmp_path / "link.onnx").symlink_to(folder / "model.onnx")
    with pytest.raises(InputError, match="exists"):
        package.export(trained_run, tmp_path / "link.onnx")


def test_geodeep_reads_it(folder, tmp_path):
    """Without smoothing a tile that is the whole picture: its classes are those of ONNX Runtime."""
    inference, segmentation = pytest.importorskip("geodeep.inference"), pytest.importorskip("geodeep.segmentation")
    session, config = inference.create_session(str(folder / "model.onnx"))
    assert (config["model_type"], config["resolution"], config["tiles_overlap"]) == ("Segmentor", 20, 10)
    side = config["tiles_size"]
    pixels = np.asarray(Image.open(folder / "photo.jpg").resize((side, side))).transpose(2, 0, 1)
    found = segmentation.execute_segmentation(pixels, session, config)
    expected = session.run(None, {"images": pixels[None].astype(np.float32) / 255})[0]
    assert (found == expected.argmax(axis=1)).all()


def exported_answers(method, options, size, precision="fp32", kind="torch", batch=None, path=None, blocks=4, **model):
    """What `compare` says of a tiny model whose trained weights have been moved."""
    import torch

    from convlora.exporting.files import OnnxFile, TorchFile, write_onnx, write_torch
    from convlora.exporting.program import network_of, program_of

    adapted = adapt(tiny_segmenter(method, size, blocks=blocks, **model), method, options)
    with torch.no_grad():
        for parameter in adapted.parameters():
            if parameter.requires_grad:
                parameter.add_(0.1 * torch.randn_like(parameter))
    names = tuple(f"class {number}" for number in range(model.get("num_classes", 2)))
    segmenter = Segmenter(adapted, ClassTable(names), size)
    probes = agreement.probe(segmenter, batch)
    assert np.concatenate([one.ravel() for one in probes.probabilities]).std() > 0.01
    program = program_of(network_of(segmenter.model, size, precision), batch)
    (write_onnx if kind == "onnx" else write_torch)(program, path, {})
    return agreement.compare((OnnxFile if kind == "onnx" else TorchFile)(path), probes)


SEVERAL = {"num_classes": 3, "head": "mask-classification", "num_mask_tokens": 5, "detail": "half"}


@pytest.mark.parametrize(
    ("method", "options", "size", "how"),
    [
        ("conv-lora", {"top_k": 2, "gate_scaling": "softmax"}, (64, 48), {}),
        ("conv-lora", {}, (64, 64), {**SEVERAL, "batch": 2}),
        ("sam-adapter", {}, (48, 64), {}),
        ("unet", {}, (64, 48), {"precision": "fp16", "num_classes": 3}),
    ],
)
def test_programs_of_torch(tmp_path, method, options, size, how):
    found = exported_answers(method, options, size, path=tmp_path / "model.pt2", blocks=2, **how)
    with zipfile.ZipFile(tmp_path / "model.pt2") as archive:
        told = [archive.read(name) for name in archive.namelist() if name.endswith("_config.json")]
        assert len(told) == 2
        assert not any(entry["use_pickle"] for one in told for entry in json.loads(one)["config"].values())
        assert not any(archive.getinfo(name).file_size for name in archive.namelist() if name.endswith(".pt"))
    assert found.largest < (1e-2 if how.get("precision") == "fp16" else 1e-4)
    assert found.pixels < 0.01


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
@pytest.mark.parametrize("method", METHODS)
def test_onnx_files_of_every_method(tmp_path, method, precision):
    found = exported_answers(method, {}, (48, 64), precision, "onnx", path=tmp_path / "model.onnx")
    assert found.largest < (2e-2 if precision == "fp16" else 1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("how", [SEVERAL, {"num_classes": 3, "head": "per-pixel", "detail": "full"}])
def test_onnx_files_of_several_classes(tmp_path, how):
    assert exported_answers("conv-lora", {}, (64, 48), kind="onnx", path=tmp_path / "m.onnx", **how).largest < 1e-4


def test_a_file_that_disagrees_is_not_left_behind(trained_run, tmp_path, monkeypatch):
    monkeypatch.setitem(agreement.TOLERANCE, "fp32", -1.0)
    with pytest.raises(RunError, match="differ"):
        package.export(trained_run, tmp_path / "out" / "model.pt2")
    assert list((tmp_path / "out").iterdir()) == []


def test_differences_are_found():
    expected = np.full((1, 2, 1, 4), 0.5, np.float32)
    probes = agreement.Probes([np.zeros((1, 3, 1, 4), np.uint8)], [expected])
    found = agreement.compare(
        lambda images: expected + np.array([0, 0, 0, 0.25]).reshape(1, 1, 1, 4) * [[[[-1]], [[1]]]], probes
    )
    assert found == pytest.approx((0.25, 0.0625, 0.25))
    agreement.require(agreement.Agreement(1e-4, 0, 0), "fp32")
    for largest in (0.25, float("nan")):
        with pytest.raises(RunError):
            agreement.require(agreement.Agreement(largest, 0, 0), "fp32")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--output", "model.bin"], "must end in .onnx or .pt2"),
        (["--output", "model.onnx", "--format", "torch"], "must end in .pt2"),
        (["--output", "model.onnx", "--tile-overlap", "1"], "--tile-overlap"),
        (["--output", "model.onnx", "--resolution-cm", "0"], "--resolution-cm"),
        (["--output", "model.pt2", "--resolution-cm", "5"], "no effect"),
        (["--output", "model.onnx", "--precision", "bf16"], "bf16"),
    ],
)
def test_options_that_make_no_sense(convlora, trained_run, tmp_path, monkeypatch, options, words):
    monkeypatch.chdir(tmp_path)
    code, _, err = convlora("export", trained_run, *options)
    assert code == 2
    assert words in err
    assert err.startswith("Error:"), "nothing is announced that is not done"
    assert list(tmp_path.iterdir()) == []


def test_what_a_file_must_be_given_is_told_on_the_command_line(convlora, trained_run, tmp_path, monkeypatch):
    run = tmp_path / "run"
    shutil.copytree(trained_run, run)
    settings = yaml.safe_load((run / "config.yaml").read_text())
    settings["data"]["window"] = settings["model"]["image_size"]
    (run / "config.yaml").write_text(yaml.safe_dump(settings))

    def stop(*_):
        raise RunError("far enough")

    monkeypatch.setattr("convlora.api.export.probe", stop)
    _, _, err = convlora("export", run, "--output", tmp_path / "model.pt2")
    assert f"trained on windows of {settings['data']['window']} pixels" in err


def test_no_run(convlora, tmp_path):
    code, _, err = convlora("export", tmp_path, "--output", tmp_path / "model.pt2")
    assert (code, "is not a run folder" in err) == (2, True)


def test_a_missing_extra_is_named(convlora, trained_run, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    code, _, err = convlora("export", trained_run, "--output", tmp_path / "model.onnx")
    assert (code, "convlora[export]" in err) == (2, True)
