"""An imported model gives the same logits as the one that was trained."""

import pytest
import torch

from convlora import Segmenter
from convlora.importing.run import import_predictor
from tests.helpers.tolerances import MODEL
from tests.importing.autogluon import EXPERTS, Predictor, enlarged

TASKS = {"binary": {}, "two": {"classes": 2, "tokens": 3}, "several": {"classes": 5, "tokens": 7}}


def imported(source, output, **options):
    told = []
    import_predictor(source, output, tell=told.append, **options)
    return Segmenter.from_run(output, device="cpu", precision="fp32").model.base_model.model, told


def assert_same(model, predictor, size=(64, 64), pixels=None):
    pixels = torch.randn(3, 3, *size) if pixels is None else pixels
    masks, classes = predictor.answer(pixels)
    with torch.no_grad():
        output = model(pixels)
    if classes is None:
        expected = enlarged(masks, size)
        torch.testing.assert_close(output.foreground, expected, **MODEL._asdict())
    else:
        torch.testing.assert_close(output.mask_logits, masks, **MODEL._asdict())
        torch.testing.assert_close(output.class_logits, classes, **MODEL._asdict())
    assert masks.std() > 0.1


@pytest.mark.parametrize("peft", ["conv_lora", "lora"])
@pytest.mark.parametrize("task", TASKS)
def test_a_whole_predictor(task, peft, tmp_path):
    predictor = Predictor(**TASKS[task], peft=peft)
    model, told = imported(predictor.save(tmp_path / "predictor"), tmp_path / "run")
    assert_same(model, predictor)
    assert "The SAM was written to" in told[0]
    assert (tmp_path / "run" / "sam" / "model.safetensors").is_file()
    if peft == "conv_lora":
        assert len(predictor.chosen) > EXPERTS // 2  # so that more than one expert is compared


@pytest.mark.parametrize("task", ["binary", "several"])
@pytest.mark.parametrize("named", ["by the user", "by config.yaml"])
def test_trained_weights_alone(task, named, tmp_path):
    predictor = Predictor(**TASKS[task])
    sam = str(predictor.save_base(tmp_path / "sam"))
    given = {"checkpoint_name": sam} if named == "by config.yaml" else {}
    source = predictor.save(tmp_path / "predictor", only_trained=True, **given)
    model, told = imported(source, tmp_path / "run", model=sam if named == "by the user" else None)
    assert_same(model, predictor)
    assert told == []
    assert not (tmp_path / "run" / "sam").exists()


def test_a_whole_predictor_beside_its_sam(tmp_path):
    predictor = Predictor()
    sam = str(predictor.save_base(tmp_path / "sam"))
    model, told = imported(predictor.save(tmp_path / "predictor"), tmp_path / "run", model=sam)
    assert_same(model, predictor)
    assert told == []


def test_trained_weights_of_the_encoder_are_kept(tmp_path):
    """As where its neck was trained too: what is in the file counts."""
    predictor = Predictor()
    sam = str(predictor.save_base(tmp_path / "sam"))
    torch.nn.init.normal_(predictor.sam.vision_encoder.neck.conv1.weight)
    source = predictor.save(tmp_path / "predictor", only_trained=True)
    weights = torch.load(source / "model.ckpt", weights_only=True)
    neck = "model.model.vision_encoder.neck.conv1.weight"
    weights["state_dict"][neck] = predictor.state_dict_of_autogluon()[neck]
    torch.save(weights, source / "model.ckpt")
    model, told = imported(source, tmp_path / "run", model=sam)
    assert_same(model, predictor)
    assert "differ from those of" in told[0]


@pytest.mark.parametrize("norm", ["inception", "clip"])
@pytest.mark.parametrize("whole", [True, False])
def test_other_pixels(norm, whole, tmp_path):
    predictor = Predictor()
    sam = None if whole else str(predictor.save_base(tmp_path / "sam"))
    source = predictor.save(tmp_path / "predictor", only_trained=not whole, image_norm=norm)
    before = (source / "model.ckpt").read_bytes()
    model, told = imported(source, tmp_path / "run", model=sam)
    assert (source / "model.ckpt").read_bytes() == before
    assert f"not as '{norm}' does" in told[0]
    intensities = torch.rand(2, 3, 64, 64)
    mean, std = {
        "inception": ([0.5, 0.5, 0.5], [0.5, 0.5, 0.5]),
        "clip": ([0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]),
    }[norm]
    theirs = (intensities - torch.tensor(mean)[:, None, None]) / torch.tensor(std)[:, None, None]
    imagenet = torch.tensor([[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]])[:, :, None, None]
    masks, _ = predictor.answer(theirs)
    with torch.no_grad():
        output = model((intensities - imagenet[0]) / imagenet[1])
    torch.testing.assert_close(output.foreground, enlarged(masks, (64, 64)), **MODEL._asdict())


def test_files_of_lightning_in_other_forms(tmp_path):
    """Averages are kept in double precision, distributed training has a name of its own, and losses have weights."""
    predictor = Predictor()
    source = predictor.save(tmp_path / "predictor")
    weights = {
        n.replace("model.", "model.module.", 1): v.double() for n, v in predictor.state_dict_of_autogluon().items()
    }
    extra = {"loss_func.empty_weight": torch.ones(3), "global_step": torch.tensor(3)}
    content = {"epoch": 3, "pytorch-lightning_version": "2.5.0", "state_dict": {**weights, **extra}, "callbacks": {}}
    torch.save(content, source / "last.ckpt")
    (source / "model.ckpt").unlink()
    model, _ = imported(source / "last.ckpt", tmp_path / "run")
    assert {value.dtype for value in model.state_dict().values()} == {torch.float32}
    assert_same(model, predictor)
    torch.save(weights, source / "bare.ckpt")
    model, _ = imported(source / "bare.ckpt", tmp_path / "bare")
    assert_same(model, predictor)


def test_the_last_blocks_alone(tmp_path):
    predictor = Predictor()
    layer = predictor.sam.vision_encoder.layers[0].attn
    layer.qkv = layer.qkv.layer
    del predictor.adapters["vision_encoder.layers.0.attn.qkv"]
    model, _ = imported(predictor.save(tmp_path / "predictor"), tmp_path / "run")
    assert_same(model, predictor)
