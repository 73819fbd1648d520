import json

import numpy as np
import pytest
import torch
from PIL import Image

from convlora.data.classes import ClassTable
from convlora.data.sources import open_data
from convlora.data.synthetic import write_task
from convlora.errors import InputError
from convlora.inference.segmenter import Segmenter
from convlora.training.config import RunConfig
from convlora.training.reporting import Silent
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


@pytest.mark.parametrize("head", ["auto", "per-pixel"])
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
    assert any("Mask tokens" in text for text in messages) == (head == "auto")
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


def test_the_number_of_tokens_follows_the_fullest_image(make, town):
    source = open_data(town)
    classes = ClassTable(("background", "water", "road", "tree", "roof"))
    samples = source.splits["train"]
    most = max(classes_in(sample, classes) for sample in samples)
    config = make()
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


def test_class_weights_reach_the_loss(make, tmp_path):
    plain = train(make(), tmp_path / "plain")
    config = make()
    config.training.class_weights = True
    weighted = train(config, tmp_path / "weighted")
    assert plain["history"] != weighted["history"]
