"""The folder that `convlora import` writes is a run like any other, and bad files leave nothing behind."""

import json
import pickle
import shutil

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

import convlora as package
from convlora.runs.reading import read_classes
from tests.importing.autogluon import Predictor


@pytest.fixture(scope="module")
def predictor(tmp_path_factory):
    """The files of a predictor for a binary task, with the whole SAM in them."""
    torch.manual_seed(0)
    return Predictor().save(tmp_path_factory.mktemp("autogluon") / "predictor")


@pytest.fixture(scope="module")
def run(predictor, tmp_path_factory):
    folder = tmp_path_factory.mktemp("imported") / "run"
    package.import_run(predictor, folder)
    return folder


@pytest.fixture
def copy(predictor, tmp_path):
    return shutil.copytree(predictor, tmp_path / "predictor")


def edit(path, change):
    content = yaml.safe_load(path.read_text())
    change(content)
    path.write_text(yaml.safe_dump(content) if path.suffix == ".yaml" else json.dumps(content))


@pytest.fixture
def refused(tmp_path, convlora):
    """What is said about a predictor that cannot be imported."""

    def call(source, *options):
        code, out, told = convlora("import", source, "--output", tmp_path / "out", *options)
        assert code == 2, told
        assert out == ""
        assert not (tmp_path / "out").exists()
        assert [path for path in tmp_path.iterdir() if path.name.startswith(".")] == []
        return " ".join(told.split())

    return call


# ---- the commands ----


def test_the_command_prints_what_the_function_returns(predictor, tmp_path, convlora):
    code, out, told = convlora("import", predictor, "--output", tmp_path / "a", "--json")
    assert code == 0, told
    found = package.import_run(predictor, tmp_path / "b")
    printed = json.loads(out)
    assert {**printed, "run": "", "model": ""} == {**found, "run": "", "model": ""}
    assert printed["imported"]["software"] == "AutoGluon 1.4.0"
    assert printed["method"] | {"r": 3, "lora_alpha": 16, "num_experts": 4} == printed["method"]
    code, out, _ = convlora("import", predictor, "--output", tmp_path / "c")
    assert code == 0
    assert "conv-lora, trained by AutoGluon 1.4.0" in out


def test_what_is_in_the_folder(run):
    names = {str(path.relative_to(run)) for path in run.rglob("*") if path.is_file()}
    adapter = {f"adapter/{name}" for name in ("README.md", "adapter_config.json", "adapter_model.safetensors")}
    own = {"config.yaml", "classes.json", "metrics.json", "sam.json", "sam/config.json", "sam/model.safetensors"}
    assert names == adapter | own
    assert "Trained by AutoGluon 1.4.0, imported by convlora" in (run / "adapter" / "README.md").read_text()
    card = (run / "adapter" / "README.md").read_text()
    assert "base_model: facebook/sam-vit-huge" in card
    assert "seed" not in card
    assert str(run) not in card
    settings = yaml.safe_load((run / "config.yaml").read_text())
    assert (settings["model"]["num_mask_tokens"], settings["model"]["detail"]) == (1, "none")
    training = settings["training"]
    assert (training["lr"], training["epochs"], training["loss"]) == (0.0003, 30, "structure-mean-bce")
    assert json.loads((run / "metrics.json").read_text())["imported"]["best_score"] == 0.75


def test_predict_and_evaluate(run, blobs, tmp_path, convlora):
    images = blobs / "test" / "images"
    code, out, told = convlora("predict", run, images, "--output", tmp_path / "maps", "--device", "cpu", "--json")
    assert code == 0, told
    segmenter = package.Segmenter.from_run(run, device="cpu")
    for one in json.loads(out)["images"]:
        assert np.array_equal(np.asarray(Image.open(one["mask"])), segmenter.predict(one["image"]).semantic_map)
    code, out, told = convlora("evaluate", run, blobs, "--device", "cpu", "--json")
    assert code == 0, told
    assert 0 <= json.loads(out)["iou"] <= 1


def test_inspect_and_report_say_where_it_came_from(run, tmp_path, convlora):
    run = shutil.copytree(run, tmp_path / "run")
    code, out, told = convlora("inspect", run, "--json")
    assert code == 0, told
    assert json.loads(out)["state"] == "trained by AutoGluon 1.4.0, imported"
    code, _, told = convlora("report", run)
    assert code == 0, told
    page = (run / "report.html").read_text()
    assert "This model was trained by AutoGluon 1.4.0 and imported." in page
    assert "To repeat it" not in page
    assert "To resume it" not in page


def test_it_is_not_resumed(run, blobs, tmp_path, convlora):
    run = shutil.copytree(run, tmp_path / "run")
    before = (run / "adapter" / "adapter_model.safetensors").read_bytes()
    code, _, told = convlora("train", blobs, "--output", run, "--resume")
    assert code == 2
    assert "was trained by AutoGluon 1.4.0 and imported" in " ".join(told.split())
    assert (run / "adapter" / "adapter_model.safetensors").read_bytes() == before


def test_its_settings_and_its_sam_train_a_new_run(run, blobs, tmp_path, convlora):
    code, _, told = convlora(
        "train", blobs, "--config", run / "config.yaml", "--output", tmp_path / "new", "--max-steps", 1, "--device",
        "cpu", "--seed", 3,
    )  # fmt: skip
    assert code == 0, told
    model = package.Segmenter.from_run(tmp_path / "new", device="cpu").model.base_model.model
    assert model.config.has_one_token


def test_a_run_that_was_moved(run, blobs, tmp_path, convlora):
    moved = shutil.copytree(run, tmp_path / "moved")
    settings = yaml.safe_load((moved / "config.yaml").read_text())
    assert settings["model"]["source"] == str(run / "sam")
    settings["model"]["source"] = str(tmp_path / "nowhere" / "sam")
    (moved / "config.yaml").write_text(yaml.safe_dump(settings))
    given = ("predict", moved, blobs / "test" / "images", "--output", tmp_path / "maps", "--device", "cpu")
    assert convlora(*given)[0] == 0
    shutil.rmtree(moved / "sam")
    code, _, told = convlora(*given)
    assert code == 2
    assert "--model" in told
    assert convlora(*given, "--model", run / "sam")[0] == 0


# ---- classes ----


def test_classes_have_names_where_they_are_given(predictor, tmp_path):
    (tmp_path / "classes.json").write_text('{"classes": ["ground", "crack"]}')
    found = package.import_run(predictor, tmp_path / "run", classes=tmp_path / "classes.json")
    assert found["classes"] == ["ground", "crack"]
    table = read_classes(tmp_path / "run")
    assert table.encode(np.array([[0, 255]], np.uint8), "mask").tolist() == [[0, 1]]


def test_classes_of_several(tmp_path):
    source = Predictor(classes=3, tokens=4).save(tmp_path / "predictor", ignore_label=0)
    package.import_run(source, tmp_path / "run")
    table = read_classes(tmp_path / "run")
    assert table.names == ("background", "class 1", "class 2")
    assert table.encode(np.array([[0, 1, 2]], np.uint8), "mask").tolist() == [[255, 1, 2]]
    edit(source / "config.yaml", lambda content: content["model"]["sam"].update(ignore_label=7))
    package.import_run(source, tmp_path / "other")
    assert read_classes(tmp_path / "other").encode(np.array([[0, 7]], np.uint8), "mask").tolist() == [[0, 7]]


def test_another_number_of_names(predictor, tmp_path, refused):
    (tmp_path / "classes.json").write_text('{"classes": ["ground", "crack", "tree"]}')
    assert "names 3 classes, but the model has 2" in refused(predictor, "--classes", tmp_path / "classes.json")


# ---- older settings ----


def test_settings_of_older_versions(copy, tmp_path):
    def older(content):
        optim = content.pop("optim")
        renamed = {"efficient_finetune": "peft", "learning_rate": "lr", "loss_function": "loss_func"}
        content["optimization"] = {**{old: optim.pop(new) for old, new in renamed.items()}, **optim}

    edit(copy / "config.yaml", older)
    (copy / "assets.json").unlink()
    found = package.import_run(copy, tmp_path / "run")
    assert (found["method"]["name"], found["imported"]["software"]) == ("conv-lora", "AutoGluon")
    training = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())["training"]
    assert (training["lr"], training["loss"]) == (0.0003, "structure-mean-bce")


# ---- bad input ----


def test_no_predictor(tmp_path, refused, run):
    assert "There is no" in refused(tmp_path / "nothing")
    (tmp_path / "empty").mkdir()
    assert "holds no model.ckpt" in refused(tmp_path / "empty")
    assert "holds no model.ckpt" in refused(run)


def test_an_output_that_is_there_already(predictor, tmp_path, convlora):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("mine")
    code, _, told = convlora("import", predictor, "--output", tmp_path / "out")
    assert code == 2
    assert "is not empty" in told
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["mine.txt"]
    assert convlora("import", predictor, "--output", tmp_path / "out" / "mine.txt")[0] == 2


class Evil:
    def __reduce__(self):
        return (print, ("this code must not run",))


def test_files_that_need_code_or_are_damaged(copy, refused, capsys):
    weights = torch.load(copy / "model.ckpt", weights_only=True)
    torch.save({**weights, "hyper_parameters": Evil()}, copy / "model.ckpt")
    assert "need code to be run" in refused(copy)
    (copy / "model.ckpt").write_bytes(pickle.dumps(Evil()))
    assert "need code to be run" in refused(copy)
    assert "must not run" not in capsys.readouterr().out
    (copy / "model.ckpt").write_bytes(b"PK\x03\x04 not a checkpoint")
    assert "cannot be read as plain tensors" in refused(copy)
    torch.save([1, 2], copy / "model.ckpt")
    assert "does not hold a table of weights" in refused(copy)
    torch.save({"state_dict": {"model.bert.weight": torch.zeros(3)}}, copy / "model.ckpt")
    assert "holds no weights of a SAM (bert.weight, for one)" in refused(copy)
    expanded = {"state_dict": {**weights["state_dict"], "model.model.vision_encoder.x": torch.zeros(1).expand(1 << 30)}}
    torch.save(expanded, copy / "model.ckpt")
    assert "its tensors would take" in refused(copy)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda c: c["optim"].update(peft="bit_fit"), "fine-tuned with 'bit_fit'"),
        (lambda c: c["optim"].update(peft="ia3_lora"), "fine-tuned with 'ia3_lora'"),
        (lambda c: c["optim"].update(peft=None), "without a method for few parameters"),
        (lambda c: c["optim"].update(peft="lora"), "conv_lora_expert_num=nothing, but its weights have 4"),
        (lambda c: c["optim"]["lora"].update(r=4), "lora.r=4, but its weights have 3"),
        (lambda c: c["optim"]["lora"].update(r=None), "lora.r=nothing, but it must be a whole number"),
        (lambda c: c["optim"]["lora"].update(alpha=0.5), "lora.alpha=0.5, but it must be a whole number"),
        (lambda c: c["optim"]["lora"].update(conv_lora_expert_num=10**9), "must be a whole number from 1 to 64"),
        (lambda c: c["optim"]["lora"].update(conv_lora_expert_num=8), "says conv_lora_expert_num=8, but its weights"),
        (lambda c: c["model"]["sam"].update(num_mask_tokens=10), "num_mask_tokens=10, but its weights have 1"),
        (lambda c: c["model"]["sam"].update(image_norm="none"), "image_norm='none', but it is one of"),
        (lambda c: c["model"].update(names=["sam", "clip"]), "names ['sam', 'clip'] as its models"),
        (lambda c: c["model"].update(names=["clip"]), "says nothing of a model 'clip'"),
        (lambda c: c.pop("optim"), "has no section 'optim'"),
    ],
)
def test_settings_that_do_not_fit(change, words, copy, refused):
    edit(copy / "config.yaml", change)
    assert words in refused(copy)


def test_other_files_that_are_missing_or_damaged(copy, refused):
    edit(copy / "assets.json", lambda content: content.update(output_shape=5))
    assert "says that there are 5 classes, but its weights have 1" in refused(copy)
    edit(copy / "assets.json", lambda content: content.update(problem_type="classification"))
    assert "is a predictor for classification" in refused(copy)
    (copy / "assets.json").write_text("{")
    assert "assets.json' is damaged" in refused(copy)
    (copy / "assets.json").unlink()
    (copy / "config.yaml").write_text("a: &a [1]\nb: *a\n")
    assert "it uses aliases" in refused(copy)
    (copy / "config.yaml").write_text("just text")
    assert "is no table of settings" in refused(copy)
    (copy / "config.yaml").unlink()
    assert "There is no config.yaml beside" in refused(copy)


def edited_weights(folder, change):
    content = torch.load(folder / "model.ckpt", weights_only=True)
    change(content["state_dict"])
    torch.save(content, folder / "model.ckpt")


QKV = "model.model.vision_encoder.layers.0.attn.qkv"
PROJ = "model.model.vision_encoder.layers.0.attn.proj"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda w: w.pop(f"{QKV}.lora_moe_experts.2.0.bias"), "does not hold all experts of"),
        (lambda w: w.pop(f"{QKV}.lora_moe_gating.w_gate"), "1 of"),
        (lambda w: w.pop(f"{QKV}.lora_A"), "lora.r=3, but its weights have 0"),
        (lambda w: w.update({f"{QKV}.lora_magnitude": torch.ones(3)}), "lora_magnitude, which Conv-LoRA has not"),
        (lambda w: w.update({f"{PROJ}.lora_A": torch.ones(3, 32)}), "adapts vision_encoder.layers.0.attn.proj"),
        (lambda w: w.update({f"{QKV}.lora_B": torch.ones(5, 3)}), "of another size"),
        (lambda w: w.pop("model.model.mask_decoder.mask_tokens.weight"), "holds no mask decoder"),
        (lambda w: w.pop("model.model.mask_decoder.iou_token.weight"), "--model"),
        (lambda w: w.update({"model.model.vision_encoder.pos_embed": torch.ones(1, 9, 9, 32)}), "of a SAM"),
        (lambda w: w.update({"model.model.vision_encoder.extra": torch.ones(1)}), "of a SAM"),
        (lambda w: w.update({"model.model.mask_decoder.transformer.layers.99999999.x": torch.ones(1)}), "of a SAM"),
        (lambda w: [w.pop(name) for name in list(w) if "lora_" in name], "holds no adapter"),
        (lambda w: w.update({f"{QKV}.weight": w[f"{QKV}.weight"].long()}), "weights are floating-point numbers"),
    ],
)
def test_weights_that_do_not_fit(change, words, copy, refused):
    edited_weights(copy, change)
    assert words in refused(copy)


def test_a_sam_that_is_another_or_none(predictor, tmp_path, refused, tiny_sam_folder):
    assert "is not the SAM in" in refused(predictor, "--model", tiny_sam_folder)
    assert "neither a local file or folder" in refused(predictor, "--model", tmp_path / "nowhere")
    assert "is a file of Meta's" in refused(predictor, "--model", tmp_path / "sam_vit_h.pth")
    source = Predictor().save(tmp_path / "trained", only_trained=True, checkpoint_name=str(tmp_path / "gone"))
    told = refused(source)
    assert "does not hold all weights of the SAM" in told
    assert "--model" in told
    from tests.helpers.models import tiny_sam

    tiny_sam(hidden_size=64).save_pretrained(tmp_path / "wider")
    assert "of another size" in refused(source, "--model", tmp_path / "wider")


def test_a_sam_that_would_not_be_used(copy, refused, tiny_sam_folder):
    edit(copy / "config.yaml", lambda content: content["model"]["sam"].update(image_norm="clip"))
    assert "--model has no effect" in refused(copy, "--model", tiny_sam_folder)


def test_adapters_in_the_first_blocks_alone(copy, refused):
    block = "model.model.vision_encoder.layers.1.attn.qkv.lora_"
    edited_weights(copy, lambda w: [w.pop(name) for name in list(w) if name.startswith(block)])
    assert "The blocks 0 of 2 are adapted" in refused(copy)


def test_a_pipe_in_place_of_a_file(copy, refused):
    import os

    (copy / "config.yaml").unlink()
    os.mkfifo(copy / "config.yaml")
    assert "config.yaml" in refused(copy)
