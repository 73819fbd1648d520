"""The commands end to end."""

import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
import yaml
from PIL import Image

from convlora.cli.main import run


def only_json(out):
    assert out.count("\n") == 1, "stdout must hold one line"
    return json.loads(out)


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory, tiny_sam_folder, blobs):
    folder = tmp_path_factory.mktemp("cli") / "run"
    with pytest.raises(SystemExit) as caught:
        run(
            ["train", str(blobs), "--model", str(tiny_sam_folder), "--output", str(folder), "--epochs", "1",
             "--lr", "1e-2", "--device", "cpu", "--set", "method.num_experts=4"]
        )  # fmt: skip
    assert caught.value.code == 0
    return folder


def test_train_json(convlora, tmp_path, tiny_sam_folder, blobs):
    code, out, _ = convlora(
        "train", blobs, "--model", tiny_sam_folder, "--output", tmp_path / "r", "--max-steps", 1, "--json", "--seed", 3,
        "--precision", "fp32", "--device", "cpu", "--batch-size", 2, "--grad-accum", 1, "--image-size", 48,
        "--detail", "full",
    )  # fmt: skip
    assert code == 0
    result = only_json(out)
    assert result["steps"] == 1
    assert {"best_epoch", "val", "test", "params"} <= result.keys()
    settings = yaml.safe_load((tmp_path / "r" / "config.yaml").read_text())
    assert (settings["model"]["image_size"], settings["model"]["detail"]) == (48, "full")


def test_train_from_the_config_of_a_run(convlora, tmp_path, run_folder):
    code, out, _ = convlora(
        "train", "--config", run_folder / "config.yaml", "--output", tmp_path / "r", "--max-steps", 1, "--json"
    )
    assert code == 0
    assert only_json(out)["steps"] == 1
    assert "num_experts: 4" in (tmp_path / "r" / "config.yaml").read_text()


def test_resume_says_what_changed(convlora, run_folder, tmp_path):
    shutil.copytree(run_folder, tmp_path / "r")
    code, out, err = convlora("train", "--output", tmp_path / "r", "--resume", "--epochs", 2, "--json")
    assert code == 0
    assert "training.epochs = 2 instead of 1" in err
    assert "Going on after step 2 of 4" in err
    assert only_json(out)["steps"] == 4


def test_memory_is_chosen_anew_by_a_run_that_had_not_begun(convlora, run_folder, tmp_path):
    """From what is asked for, not from what was chosen of it before."""
    settings = yaml.safe_load((run_folder / "config.yaml").read_text())
    settings["training"].update(batch_size=4, grad_accum=1, memory="given", max_steps=1)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.yaml").write_text(yaml.safe_dump(settings))
    command = ["train", "--output", tmp_path / "run", "--memory", "auto", "--grad-accum", 4, "--resume"]
    assert convlora(*command)[0] == 0
    made = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())["training"]
    assert made["batch_size"] * made["grad_accum"] == 4


def test_evaluate(convlora, run_folder, blobs):
    code, out, _ = convlora("evaluate", run_folder, blobs, "--json")
    assert code == 0
    result = only_json(out)
    assert result["split"] == "test"
    stored = json.loads((run_folder / "metrics.json").read_text())["test"]
    for name in ("iou", "dice", "mae", "s_measure"):
        assert result[name] == pytest.approx(stored[name], abs=1e-4)
    code, out, _ = convlora("evaluate", run_folder, blobs, "--split", "val")
    assert code == 0
    assert "IoU, per image" in out
    assert "all background" in out


def test_predict(convlora, run_folder, blobs, tmp_path):
    folder = blobs / "test" / "images"
    code, out, _ = convlora("predict", run_folder, folder, "--output", tmp_path / "p", "--overlay", "--json")
    assert code == 0
    results = only_json(out)["images"]
    photos = sorted(folder.iterdir())
    assert len(results) == len(photos)
    for photo in photos:
        with Image.open(photo) as image, Image.open(tmp_path / "p" / f"{photo.stem}.png") as mask:
            assert mask.size == image.size
            assert set(np.unique(np.asarray(mask))) <= {0, 1}
        with Image.open(tmp_path / "p" / f"{photo.stem}_overlay.png") as picture:
            assert picture.mode == "RGB"
    assert sum(results[0]["shares"].values()) == pytest.approx(1)
    assert len(list((tmp_path / "p").glob("*.png"))) == 2 * len(photos)
    stored = json.loads((tmp_path / "p" / "shares.json").read_text())
    assert stored["images"][photos[0].stem] == results[0]["shares"]


def test_inspect(convlora, run_folder, tiny_sam_folder):
    for what, word in ((run_folder, "conv-lora"), (tiny_sam_folder, "vision encoder")):
        code, out, _ = convlora("inspect", what)
        assert code == 0
        assert word in out
        code, out, _ = convlora("inspect", what, "--json")
        assert code == 0
        assert only_json(out)["parameters"]["total"] > 0


def test_data_check(convlora, blobs, tmp_path):
    code, out, _ = convlora("data", "check", blobs, "--json")
    assert code == 0
    assert only_json(out)["ok"] is True
    shutil.copytree(blobs, tmp_path / "d")
    next((tmp_path / "d" / "train" / "masks").iterdir()).unlink()
    code, out, _ = convlora("data", "check", tmp_path / "d")
    assert code == 2
    assert "missing-pair" in out
    assert "1 error, 0 warnings." in out


@pytest.mark.usefixtures("drawn_figures")
def test_quickstart_on_ones_own_data(convlora, blobs, tmp_path, monkeypatch):
    from convlora import quickstart

    monkeypatch.setattr(quickstart, "EPOCHS", 1)
    code, out, _ = convlora("quickstart", "--data", blobs, "--output", tmp_path / "q", "--json")
    assert code == 0
    result = only_json(out)
    assert result["before"]["num_images"] == result["after"]["num_images"] == 3
    assert {"iou", "dice"} <= result["before"].keys()
    assert len(list((tmp_path / "q" / "predictions").glob("*_overlay.png"))) == 3
    report = (tmp_path / "q" / "report.html").read_text()
    assert report.count("data:image/jpeg") == 3 * 5, "image, truth, before, without and with"
    assert "<svg" in report
    assert "convlora train DATA" in report
    code, _, err = convlora("quickstart", "--output", tmp_path / "q")
    assert code == 2
    assert "not empty" in err


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (("--data", "DATA", "--domain", "cells"), "--domain says what is drawn"),
        (("--on-bad-image", "skip"), "--on-bad-image is for your own images"),
    ],
)
def test_quickstart_refuses_options_without_effect(convlora, tmp_path, given, words):
    code, _, err = convlora("quickstart", "--output", tmp_path / "q", *given)
    assert code == 2
    assert words in " ".join(err.split())


def test_quickstart_leaves_out_what_it_may(convlora, blobs, tmp_path, monkeypatch):
    from convlora import quickstart

    monkeypatch.setattr(quickstart, "EPOCHS", 1)
    shutil.copytree(blobs, tmp_path / "data")
    bad = min((tmp_path / "data" / "test" / "images").iterdir())
    bad.write_bytes(b"")
    code, _, err = convlora("quickstart", "--data", tmp_path / "data", "--output", tmp_path / "q")
    assert code == 2
    assert f"{bad} is empty" in " ".join(err.split())
    assert not (tmp_path / "q").exists()
    code, out, _ = convlora(
        "quickstart", "--data", tmp_path / "data", "--output", tmp_path / "q", "--on-bad-image", "skip", "--json"
    )
    assert code == 0
    assert only_json(out)["after"]["num_images"] == 2


def test_quickstart_draws_what_it_is_asked_for(convlora, tmp_path, monkeypatch):
    from convlora import quickstart

    code, _, err = convlora("quickstart", "--domain", "cats", "--output", tmp_path / "q")
    assert code == 2
    assert "cells, cracks, leaves" in err
    assert not (tmp_path / "q").exists()
    monkeypatch.setattr(quickstart, "EPOCHS", 1)
    monkeypatch.setattr(quickstart, "NUM_IMAGES", (4, 2, 2))
    code, out, _ = convlora("quickstart", "--domain", "cracks", "--output", tmp_path / "q")
    assert code == 0
    assert "report.html" in out
    assert len(list((tmp_path / "q" / "data" / "train" / "images").iterdir())) == 4


def test_help_is_quick_because_nothing_heavy_is_imported():
    code = (
        "import sys; from convlora.cli.main import run\n"
        "try: run(sys.argv[1:])\n"
        "except SystemExit as e: assert e.code == 0, e.code\n"
        "heavy = {'torch', 'transformers', 'peft', 'numpy', 'kornia'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    helps = (["--help"], ["train", "--help"], ["predict", "--help"], ["data", "--help"])
    for arguments in (*helps, ["models"], ["--version"]):
        subprocess.run([sys.executable, "-c", code, *arguments], check=True, capture_output=True)


def test_import_is_light():
    code = (
        "import convlora, sys; assert not {'torch', 'numpy', 'transformers'} & set(sys.modules); print(dir(convlora))"
    )
    result = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert "SamForSemanticSegmentation" in result.stdout


def test_all_public_names_exist():
    import convlora

    for name in convlora.__all__:
        assert getattr(convlora, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        convlora.nothing  # noqa: B018


def test_predict_goes_on_after_a_bad_image(convlora, run_folder, blobs, tmp_path):
    shutil.copytree(blobs / "test" / "images", tmp_path / "photos")
    (tmp_path / "photos" / "a_broken.png").write_bytes(b"\x89PNG")
    code, out, err = convlora("predict", run_folder, tmp_path / "photos", "--output", tmp_path / "p", "--json")
    assert code == 1
    result = only_json(out)
    assert len(result["images"]) == 3
    assert "a_broken.png" in result["failed"][0]["error"]
    assert "1 of 4 images could not be read" in err
    alone = tmp_path / "photos" / "a_broken.png"
    code, _, err = convlora("predict", run_folder, alone, "--output", tmp_path / "q")
    assert code == 2, "nothing could be done with what was given"
    assert str(alone) in err


def test_predict_replaces_its_own_results_only(convlora, run_folder, blobs, tmp_path):
    shutil.copytree(blobs / "test", tmp_path / "d")
    masks = {path.name: path.read_bytes() for path in (tmp_path / "d" / "masks").iterdir()}
    code, _, err = convlora("predict", run_folder, tmp_path / "d" / "images", "--output", tmp_path / "d" / "masks")
    assert code == 2
    assert "was not made by convlora" in err
    assert {path.name: path.read_bytes() for path in (tmp_path / "d" / "masks").iterdir()} == masks
    for _ in range(2):
        code, _, _ = convlora("predict", run_folder, tmp_path / "d" / "images", "--output", tmp_path / "p")
        assert code == 0


def test_evaluate_looks_at_its_split_only(convlora, run_folder, blobs, tmp_path):
    shutil.copytree(blobs, tmp_path / "d")
    next((tmp_path / "d" / "train" / "masks").iterdir()).unlink()
    next((tmp_path / "d" / "val" / "images").iterdir()).write_bytes(b"")
    code, out, _ = convlora("evaluate", run_folder, tmp_path / "d", "--json")
    assert code == 0
    assert only_json(out)["num_images"] == 3


def test_evaluate_on_images_without_foreground(convlora, run_folder, blobs, tmp_path):
    shutil.copytree(blobs / "test", tmp_path / "d")
    for mask in (tmp_path / "d" / "masks").iterdir():
        with Image.open(mask) as image:
            size = image.size
        Image.new("L", size, 0).save(mask)
    code, out, _ = convlora("evaluate", run_folder, tmp_path / "d", "--json")
    assert code == 0
    assert 0 <= only_json(out)["iou"] <= 1


def test_names_of_classes_in_another_case_and_order_are_the_same(convlora, run_folder, blobs, tmp_path):
    shutil.copytree(blobs, tmp_path / "d")
    first, second = json.loads((run_folder / "classes.json").read_text())["classes"]
    (tmp_path / "d" / "classes.json").write_text(json.dumps({"classes": [second.upper(), first.title()]}))
    for path in (tmp_path / "d").glob("*/masks/*"):
        with Image.open(path) as mask:
            values = np.asarray(mask)
        Image.fromarray((values == 0).astype(np.uint8)).save(path)
    _, out, err = convlora("evaluate", run_folder, tmp_path / "d", "--json")
    assert "Note" not in err
    assert only_json(out)["iou"] == only_json(convlora("evaluate", run_folder, blobs, "--json")[1])["iou"]


def test_evaluate_says_what_it_scores_of_undivided_data(convlora, run_folder, blobs, tmp_path):
    shutil.copytree(blobs / "train", tmp_path / "d")
    assert convlora("train", tmp_path / "d", "--config", run_folder / "config.yaml", "--epochs", 1,
                    "--output", tmp_path / "run")[0] == 0  # fmt: skip
    code, out, err = convlora("evaluate", tmp_path / "run", tmp_path / "d", "--json")
    assert code == 0
    assert only_json(out)["split"] == "all"
    assert only_json(out)["num_images"] == 6
    assert "has no test split, so all 6 images are scored" in err
    code, out, err = convlora("evaluate", run_folder, tmp_path / "d", "--json")
    assert only_json(out)["split"] == "all"
    assert "was trained on some of them" not in err, "they are new to that run"


def test_evaluate_speaks_of_what_is_strange_in_the_masks(convlora, run_folder, blobs, tmp_path):
    shutil.copytree(blobs, tmp_path / "d")
    victim, *others = sorted((tmp_path / "d" / "test" / "masks").iterdir())
    for path in (victim, *others):
        with Image.open(path) as mask:
            values = np.asarray(mask) > 0
        Image.fromarray(values.astype(np.uint8) * (255 if path == victim else 1)).save(path)
    code, _, err = convlora("evaluate", run_folder, tmp_path / "d")
    assert code == 0
    assert "Warning: " in err
    assert victim.name in err


def test_a_run_that_was_told_what_the_values_mean_knows_it_elsewhere(convlora, run_folder, blobs, tmp_path):
    """Things in black on white: without classes.json the smaller value would be taken for the background."""
    shutil.copytree(blobs, tmp_path / "d")
    (tmp_path / "d" / "classes.json").write_text('{"classes": ["background", "crack"], "values": [255, 0]}')
    for path in (tmp_path / "d").glob("*/masks/*"):
        with Image.open(path) as mask:
            values = np.asarray(mask)
        Image.fromarray(np.where(values > 0, 0, 255).astype(np.uint8)).save(path)
    assert convlora("train", tmp_path / "d", "--config", run_folder / "config.yaml", "--epochs", 1,
                    "--output", tmp_path / "run")[0] == 0  # fmt: skip
    whole = only_json(convlora("evaluate", tmp_path / "run", tmp_path / "d", "--json")[1])
    alone = only_json(convlora("evaluate", tmp_path / "run", tmp_path / "d" / "test", "--json")[1])
    assert alone["iou"] == whole["iou"]


def test_no_arguments_show_the_help_without_an_error(convlora):
    code, _, err = convlora()
    assert code == 2
    assert "Error" not in err


def test_a_run_of_another_method_from_the_config_of_a_run(convlora, run_folder, tmp_path):
    settings = run_folder / "config.yaml"
    code, _, _ = convlora(
        "train", "--config", settings, "--method", "lora", "--output", tmp_path / "r", "--max-steps", 1
    )
    assert code == 0
    assert "num_experts" not in (tmp_path / "r" / "config.yaml").read_text()
