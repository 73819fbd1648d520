import json
import re
import shutil

import pytest
import yaml
from PIL import Image

from convlora.data.synthetic import write_task
from convlora.errors import InputError
from convlora.report import run_page
from convlora.report.finished import report_run
from convlora.report.run_facts import settings_rows
from convlora.report.run_files import read_run
from convlora.reporting import Silent
from convlora.training.config import RunConfig
from convlora.training.run import Interrupted, train
from tests.helpers.interrupt_at import InterruptAt


class Listening(Silent):
    def __init__(self):
        self.messages = []

    def message(self, text):
        self.messages.append(text)


@pytest.fixture
def run(trained_run, tmp_path):
    shutil.copytree(trained_run, tmp_path / "run")
    return tmp_path / "run"


def text_of(run):
    return (run / "report.html").read_text(encoding="utf-8")


def change_metrics(run, change):
    metrics = json.loads((run / "metrics.json").read_text())
    change(metrics)
    (run / "metrics.json").write_text(json.dumps(metrics))


def test_training_writes_a_page_with_everything(trained_run):
    text, metrics = text_of(trained_run), json.loads((trained_run / "metrics.json").read_text())
    assert f"IoU {metrics['test']['iou']:.3f} on 3 test images" in text
    assert text.count("<svg") == 2
    assert f"best: epoch {metrics['best_epoch']}" in text
    assert text.count("data:image/jpeg") == 3 * 4, "image, truth, prediction and outcome of each"
    for words in ("all foreground", "Precision", "Recall", "config.yaml --output NEW_RUN", "6 training, 3 validation"):
        assert words in text
    assert "A pixel is foreground if its probability is above 0.5" in text
    assert metrics["threshold"]["iou"] >= metrics["threshold"]["iou_at_half"]
    assert metrics["threshold"]["iou_at_half"] == pytest.approx(metrics["val"]["iou"])
    assert not re.findall(r'(?:src|href)="(?!data:|#)', text)


def test_the_page_says_what_the_images_are(run):
    config = RunConfig.load(run / "config.yaml")
    config.update({"data": {"neighbours": True, "bands": [4, 3, 2], "band_range": [[0, 9]] * 3}})
    config.save(run / "config.yaml")
    rows = dict(settings_rows(read_run(run)))
    assert rows["bands"] == "4, 3, 2, counted from 1"
    assert rows["input"] == "axial slices of volumes, the slices before and after as red and blue"


def test_the_command_draws_the_same_page_again(convlora, trained_run, run):
    (run / "report.html").unlink()
    code, out, _ = convlora("report", run, "--json")
    assert code == 0
    assert json.loads(out)["report"] == str(run / "report.html")
    assert text_of(run) == text_of(trained_run).replace(str(trained_run), str(run))


def test_an_interrupted_run_has_a_page(make_config, tmp_path, convlora):
    with pytest.raises(Interrupted):
        train(make_config(epochs=3), tmp_path / "run", reporter=InterruptAt(4))
    code, _, _ = convlora("report", tmp_path / "run")
    assert code == 0
    text = text_of(tmp_path / "run")
    assert "This run is not finished" in text
    assert "--resume" in text
    assert text.count("<svg") == 2, "the scores of the first epoch lie in its checkpoint"
    code, _, err = convlora("report", tmp_path / "run", "--data", tmp_path)
    assert code == 2, "there are no pictures to show yet"
    assert "--data has no effect" in err
    train(make_config(epochs=3), tmp_path / "run", resume=True)
    assert "This run is not finished" not in text_of(tmp_path / "run")


def test_a_run_of_an_older_version_has_a_page(run):
    def make_old(metrics):
        for name in ("threshold", "versions", "device", "stopped_early"):
            del metrics[name]
        for split in ("val", "test"):
            for name in ("precision", "recall"):
                del metrics[split][name]
            del metrics[split]["trivial"]

    change_metrics(run, make_old)
    for name in ("samples.json", "log.jsonl"):
        (run / name).unlink()
    settings = yaml.safe_load((run / "config.yaml").read_text())
    del settings["model"]["detail"], settings["training"]["ema"]
    (run / "config.yaml").write_text(yaml.safe_dump(settings))
    report_run(run)
    assert "IoU, per image" in text_of(run)
    assert "Training loss" not in text_of(run)


def test_where_the_data_are_gone_there_is_a_page_without_pictures(run, blobs, tmp_path, convlora):
    settings = yaml.safe_load((run / "config.yaml").read_text())
    settings["data"]["path"] = str(tmp_path / "gone")
    (run / "config.yaml").write_text(yaml.safe_dump(settings))
    code, _, err = convlora("report", run)
    assert code == 0
    assert "gone" in err
    assert "no pictures" in text_of(run)
    assert "data:image/jpeg" not in text_of(run)
    code, _, err = convlora("report", run, "--data", blobs)
    assert (code, err) == (0, "")
    assert "data:image/jpeg" in text_of(run)


@pytest.mark.parametrize("option", ["--data", "--model"])
def test_a_wrong_place_is_an_error_and_leaves_the_page_as_it_is(run, tmp_path, convlora, option):
    (run / "report.html").write_text("a page with pictures")
    code, out, err = convlora("report", run, option, tmp_path / "typo")
    assert (code, out) == (2, "")
    assert f"{tmp_path}/typo" in err
    assert (run / "report.html").read_text() == "a page with pictures"


def test_a_single_image_that_is_gone_is_named(run, blobs, tmp_path):
    shutil.copytree(blobs, tmp_path / "data")
    min((tmp_path / "data" / "test" / "images").iterdir()).write_bytes(b"")
    _, notes = report_run(run, data=str(tmp_path / "data"))
    assert len(notes) == 1
    assert "test_000" in notes[0]
    assert text_of(run).count("data:image/jpeg") == 2 * 4


def test_a_failure_to_draw_loses_nothing(make_config, tmp_path, monkeypatch):
    def fail(*_, **__):
        raise ValueError("no room for a legend")

    monkeypatch.setattr(run_page, "write_page", fail)
    reporter = Listening()
    metrics = train(make_config(epochs=1), tmp_path / "run", reporter=reporter)
    assert metrics["test"]["num_images"] == 3
    warnings = [message for message in reporter.messages if "no room for a legend" in message]
    assert len(warnings) == 1
    assert warnings[0].startswith("Warning: ")
    assert not (tmp_path / "run" / "report.html").exists()


def test_several_classes_have_a_table_and_a_matrix(make_config, tmp_path):
    config = make_config(epochs=1)
    data = write_task("town", tmp_path / "data", num_train=2, num_val=1, num_test=2, size=(64, 64))
    config.data.path = str(data)
    train(config, tmp_path / "run")
    text = text_of(tmp_path / "run")
    assert "What was taken for what" in text
    assert text.count("<svg") == 3
    assert "wrong class" in text
    assert "boundary F" in text
    assert "threshold" not in json.loads((tmp_path / "run" / "metrics.json").read_text())
    for suffix in ("csv", "svg", "pdf"):
        assert (tmp_path / "run" / f"confusion.{suffix}").is_file()


def test_hostile_names(run, blobs, tmp_path):
    names = ["<script>alert(1)<script>", 'a" onerror="alert(1)', "a\x1b[2J\u202eb"]
    shutil.copytree(blobs, tmp_path / "data")
    lines = [json.loads(line) for line in (run / "images.jsonl").read_text().splitlines()]
    for line, name in zip(lines, names, strict=True):
        for part in ("images", "masks"):
            (old,) = (tmp_path / "data" / "test" / part).glob(f"{line['image']}.*")
            old.rename(old.with_name(name.replace("/", "") + old.suffix))
        line["image"] = name
    (run / "images.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    classes = json.loads((run / "classes.json").read_text())
    classes["classes"][1] = "</title><script>"
    (run / "classes.json").write_text(json.dumps(classes))
    _, notes = report_run(run, data=str(tmp_path / "data"))
    assert not notes
    text = text_of(run)
    assert text.count("data:image/jpeg") == 3 * 4
    assert "<script" not in text
    assert 'onerror="' not in text
    assert "\x1b" not in text
    assert "\u202e" not in text


def test_large_images(run, blobs, tmp_path):
    shutil.copytree(blobs, tmp_path / "data")
    for part in ("images", "masks"):
        path = min((tmp_path / "data" / "test" / part).iterdir())
        with Image.open(path) as image:
            image.resize((3000, 2500), Image.Resampling.NEAREST).save(path)
    _, notes = report_run(run, data=str(tmp_path / "data"))
    assert not notes
    assert len(text_of(run)) < 1_000_000


def test_a_link_in_the_run_folder_is_replaced_and_not_followed(run, tmp_path):
    (tmp_path / "mine.html").write_text("mine")
    (run / "report.html").unlink()
    (run / "report.html").symlink_to(tmp_path / "mine.html")
    report_run(run)
    assert (tmp_path / "mine.html").read_text() == "mine"
    assert not (run / "report.html").is_symlink()


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("metrics.json", '{"steps": 1}'),
        ("metrics.json", "[]"),
        ("classes.json", "{}"),
        ("config.yaml", "a: 1"),
    ],
)
def test_damaged_files_are_named(run, name, content):
    (run / name).write_text(content)
    with pytest.raises(InputError, match=name):
        report_run(run)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("log.jsonl", '{"step": "x"}\n[]\nnot json\n{"step": 1, "epoch": 1e999, "task_loss": null}\n'),
        ("images.jsonl", '{"image": 3}\n{"image": "a"}\n{"image": "b", "right": [], "true": 1, "predicted": []}\n'),
        ("samples.json", "[1, 2]"),
    ],
)
def test_damaged_lines_are_left_aside(run, name, content):
    (run / name).write_text(content)
    report_run(run)
    assert "Scores" in text_of(run)


def test_a_folder_that_is_no_run(convlora, tmp_path):
    code, _, err = convlora("report", tmp_path)
    assert code == 2
    assert "not a run folder" in " ".join(err.split())
    assert not list(tmp_path.iterdir())
