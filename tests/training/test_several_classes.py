import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from convlora.cli.main import app
from convlora.data.checking.check import check_data
from convlora.data.classes.class_table import ClassTable
from convlora.data.sources.opening import open_data
from convlora.data.synthetic import write_task
from convlora.errors import InputError
from convlora.inference.segmenter import Segmenter
from convlora.reporting import Silent
from convlora.training import task
from convlora.training.config import RunConfig
from convlora.training.effects import Situation
from convlora.training.run import train
from convlora.training.task import class_weights, classes_in, settle_task


@pytest.fixture(scope="module")
def town(tmp_path_factory):
    return write_task("town", tmp_path_factory.mktemp("town"), num_train=4, num_val=2, num_test=2, size=(64, 80))


@pytest.fixture
def make(town, tiny_sam_folder):
    def make_config(**model):
        config = RunConfig()
        sections = {
            "data": {"path": str(town)},
            "model": {"source": str(tiny_sam_folder), **model},
            "training": {"epochs": 2, "lr": 1e-2, "batch_size": 2, "grad_accum": 1, "device": "cpu"},
        }
        config.update(sections, origin="the test")
        return config

    return make_config


@pytest.mark.parametrize("head", ["auto", "mask-classification"])
def test_a_run_with_several_classes(make, town, tmp_path, head):
    messages = []
    reporter = Silent()
    reporter.message = messages.append
    metrics = train(make(head=head), tmp_path / "run", reporter=reporter)
    assert set(metrics["test"]["per_class"]) == {"background", "water", "road", "tree", "roof"}
    assert 0 <= metrics["test"]["miou"] <= 1
    assert metrics["test"]["trivial"]["most_common_class"]["accuracy"] > 0.5
    assert {"miou", "mean_accuracy"} <= metrics["history"][0].keys()
    saved = RunConfig.load(tmp_path / "run" / "config.yaml")
    assert saved.training.select_by == "miou"
    assert saved.model.head == ("per-pixel" if head == "auto" else head)
    assert any("Mask tokens" in text for text in messages) == (head == "mask-classification")
    segmenter = Segmenter.from_run(tmp_path / "run", device="cpu")
    table = (tmp_path / "run" / "confusion.csv").read_text().splitlines()
    assert table[0] == "truth \\ prediction,background,water,road,tree,roof"
    assert sum(sum(map(int, row.split(",")[1:])) for row in table[1:]) == 2 * 64 * 80
    prediction = segmenter.predict(next((town / "test" / "images").iterdir()))
    assert prediction.probabilities.shape == (5, 64, 80)
    np.testing.assert_allclose(prediction.probabilities.sum(axis=0), 1, atol=1e-5)
    assert prediction.semantic_map.max() <= 4


def test_a_run_with_several_classes_can_be_resumed(make, tmp_path):
    train(make(), tmp_path / "whole")
    config = make()
    config.training.epochs = 1
    train(make(), tmp_path / "run")
    again = train(make(), tmp_path / "run", resume=True)
    whole = json.loads((tmp_path / "whole" / "metrics.json").read_text())
    assert again["test"]["miou"] == whole["test"]["miou"]


def test_masks_that_were_checked_are_not_read_again(make, town, tmp_path, monkeypatch):
    source = open_data(town)
    report = check_data(source, full=True)
    samples = source.splits["train"]
    assert torch.equal(class_weights(samples, report.classes, report.values), class_weights(samples, report.classes))
    counts = [classes_in(sample, report.classes, report.values) for sample in samples]
    assert counts == [classes_in(sample, report.classes) for sample in samples]

    def read(source):
        raise AssertionError(f"{source} was read again")

    monkeypatch.setattr(task, "read_mask", read)
    config = make()
    config.training.max_steps, config.training.class_weights = 1, True
    train(config, tmp_path / "run")


def test_the_number_of_tokens_follows_the_fullest_image(make, town):
    source = open_data(town)
    classes = ClassTable(("background", "water", "road", "tree", "roof"))
    samples = source.splits["train"]
    most = max(classes_in(sample, classes) for sample in samples)
    config = make(head="mask-classification")
    settle_task(config, classes, samples, lambda text: None)
    assert most <= config.model.num_mask_tokens == int(np.ceil(1.5 * most))
    config = make(num_mask_tokens=most - 1)
    with pytest.raises(InputError, match=f"holds {most} classes"):
        settle_task(config, classes, samples, lambda text: None)


@pytest.mark.parametrize(
    ("names", "score"), [(("a", "b"), "miou"), (("a", "b", "c"), "s_measure"), (("a", "b", "c"), "ber")]
)
def test_scores_of_the_other_kind_of_task_cannot_select(make, names, score):
    config = make()
    config.training.select_by = score
    with pytest.raises(InputError, match=score):
        settle_task(config, ClassTable(names), [], lambda text: None)


def test_rare_classes_weigh_more_and_absent_ones_as_usual(tmp_path):
    from convlora.data.sample import Sample

    mask = np.zeros((10, 10), dtype=np.uint8)
    mask[0, :4] = 1
    mask[9] = 255
    Image.fromarray(mask).save(tmp_path / "m.png")
    weights = class_weights([Sample(tmp_path / "m.png", tmp_path / "m.png", "m")], ClassTable(("a", "b", "c")))
    share = torch.tensor([86 / 90, 4 / 90])
    torch.testing.assert_close(weights[:2], (share.mean() / share).sqrt())
    assert weights[2] == 1


@pytest.mark.parametrize(
    ("model", "head"),
    [
        ({}, "per-pixel"),
        ({"detail": "none"}, "mask-classification"),
        ({"num_mask_tokens": 9}, "mask-classification"),
        ({"head": "per-pixel", "detail": "none"}, "per-pixel"),
    ],
)
def test_the_head_follows_the_branch_unless_it_is_named(make, model, head):
    config = make(**model)
    assert Situation(config, 3).head == head


def first_loss(run):
    return json.loads((run / "log.jsonl").read_text().splitlines()[0])["task_loss"]


@pytest.mark.parametrize("head", ["auto", "mask-classification"])
def test_class_weights_reach_the_loss(make, tmp_path, head):
    train(make(head=head), tmp_path / "plain")
    config = make(head=head)
    config.training.class_weights = True
    train(config, tmp_path / "weighted")
    assert first_loss(tmp_path / "plain") != first_loss(tmp_path / "weighted")


def test_set_loss_weights_reach_the_loss(make, tmp_path):
    train(make(head="mask-classification"), tmp_path / "plain")
    config = make(head="mask-classification")
    config.training.set_loss_weights = [4.0, 10.0, 10.0]
    train(config, tmp_path / "weighted")
    assert first_loss(tmp_path / "weighted") == pytest.approx(2 * first_loss(tmp_path / "plain"), rel=1e-5)
    config.training.set_loss_weights = [1.0, -1.0, 1.0]
    with pytest.raises(InputError, match="set_loss_weights must be three numbers"):
        train(config, tmp_path / "wrong")


def test_a_run_is_not_gone_on_with_on_other_classes(make, town, tmp_path):
    copy = tmp_path / "town"
    shutil.copytree(town, copy)
    config = make()
    config.data.path = str(copy)
    train(config, tmp_path / "run")
    table = json.loads((copy / "classes.json").read_text())
    table["classes"][1:3] = table["classes"][2:0:-1]
    (copy / "classes.json").write_text(json.dumps(table))
    config = make()
    config.data.path, config.training.epochs = str(copy), 3
    before = (tmp_path / "run" / "classes.json").read_text()
    with pytest.raises(InputError, match="learned the classes background, water, road"):
        train(config, tmp_path / "run", resume=True)
    assert (tmp_path / "run" / "classes.json").read_text() == before


def test_classes_are_scored_by_name_not_by_number(make, town, tmp_path):
    train(make(), tmp_path / "run")
    copy = tmp_path / "town"
    shutil.copytree(town, copy)
    order = [0, 3, 1, 4, 2]  # new number of each old class
    for path in (copy / "test" / "masks").iterdir():
        Image.fromarray(np.array(order, dtype=np.uint8)[np.asarray(Image.open(path))]).save(path)
    table = json.loads((copy / "classes.json").read_text())
    names = dict(zip(order, table["classes"], strict=True))
    table["classes"] = [names[number] for number in range(5)]
    (copy / "classes.json").write_text(json.dumps(table))
    scores = []
    for data in (town, copy):
        done = CliRunner().invoke(app, ["evaluate", str(tmp_path / "run"), str(data), "--json", "--device", "cpu"])
        scores.append(json.loads(done.stdout.splitlines()[-1]))
    assert scores[0]["per_class"] == scores[1]["per_class"]


def test_images_that_are_all_ignored_end_with_a_sentence(make, town, tmp_path):
    copy = tmp_path / "town"
    shutil.copytree(town, copy)
    for path in (copy / "val" / "masks").iterdir():
        Image.fromarray(np.full((64, 80), 255, dtype=np.uint8)).save(path)
    config = make()
    config.data.path = str(copy)
    with pytest.raises(InputError, match=r"All pixels in the masks of the split 'val' of .* are ignored"):
        train(config, tmp_path / "run")


def test_boundaries_can_select_the_best_epoch(make, tmp_path):
    config = make()
    config.training.select_by = "boundary_f"
    metrics = train(config, tmp_path / "run")
    assert 0 <= metrics["history"][0]["boundary_f"] <= 1


def test_a_head_that_was_chosen_follows_the_settings_again(make, tmp_path):
    config = make()
    settle_task(config, ClassTable(("a", "b", "c")), [], lambda text: None)
    config.save(tmp_path / "config.yaml")
    for change, head in (
        ("model.detail=none", "mask-classification"),
        ("model.num_mask_tokens=9", "mask-classification"),
    ):
        again = RunConfig.load(tmp_path / "config.yaml")
        assert again.model.head == "per-pixel"
        again.override([change])
        assert Situation(again, 3).head == head
    again.override(["model.head=per-pixel"])
    assert Situation(again, 3).head == "per-pixel"
