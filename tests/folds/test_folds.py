"""Runs of all folds: trained, stopped, resumed, scored and used as one."""

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from convlora import Segmenter
from convlora.api.predict import predict
from convlora.comparison.bootstrap import score_interval
from convlora.errors import InputError, RunError
from convlora.folds import summary
from convlora.folds.run import cross_validate
from convlora.inference.flips import FlippedOutput, FoldedOutput
from convlora.inference.outputs import blendable_scores, own_map, own_probabilities
from convlora.models.outputs import MultiClassOutput
from convlora.report import run_page
from convlora.reporting import Silent
from convlora.runs.reading import read_metrics
from convlora.training import finish
from convlora.training.run import train
from tests.training.test_run import assert_equal_runs

FOLDS = 2


class Killed(BaseException):
    """Ends a run without giving it time to save anything."""


class KilledAt(Silent):
    def __init__(self, step):
        self.at = step

    def step(self, step, epoch, loss):
        if step == self.at:
            raise Killed


class Runner:
    """Trains in this process; the fold that is named is killed at a step."""

    def __init__(self, killed=None, step=None):
        self.trained, self.killed, self.step = [], killed, step

    def __call__(self, config, folder):
        self.trained.append(config.data.fold)
        reporter = KilledAt(self.step) if config.data.fold == self.killed else None
        train(config, folder, resume=(folder / "config.yaml").is_file(), reporter=reporter)


@pytest.fixture(scope="module")
def no_pages():
    """Pages take as long as all the rest; those of single runs are tested elsewhere."""
    with pytest.MonkeyPatch.context() as patch:
        for module in (finish, summary):
            patch.setattr(module, "report_after_training", lambda *arguments: None)
        yield patch


@pytest.fixture(scope="module")
def data(blobs, tmp_path_factory):
    folder = shutil.copytree(blobs, tmp_path_factory.mktemp("folds") / "data")
    (folder / "groups.csv").write_text("image,group\ntrain_000,a\nval_000,a\ntrain_001,b\nval_001,b\n")
    return folder


@pytest.fixture(scope="module")
def config(make_config, data):
    config = make_config(epochs=2)
    config.override([f"data.path={data}", f"folds={FOLDS}", "detail=none", "method=lora", "r=2"])
    return config


@pytest.fixture(scope="module")
def folded(config, tmp_path_factory, no_pages):
    """All folds; the second was killed after its first checkpoint, and resumed."""
    output = tmp_path_factory.mktemp("folds") / "run"
    with pytest.raises(Killed):
        cross_validate(config, output, runner=Runner(killed=1, step=4))
    assert any((output / "fold-1" / "checkpoints").iterdir())
    with pytest.raises(InputError, match=r"fold 2 of 2 \(fold-1\) has no result"):
        Segmenter.from_run(output)
    runner = Runner()
    cross_validate(config, output, resume=True, runner=runner)
    assert runner.trained == [1], "the first fold was finished"
    return output


@pytest.fixture(scope="module")
def segmenter(folded):
    return Segmenter.from_run(folded, device="cpu", precision="fp32")


@pytest.fixture(scope="module")
def alone(folded):
    return [Segmenter.from_run(folded / f"fold-{fold}", device="cpu", precision="fp32") for fold in range(FOLDS)]


def splits_of(folder):
    with (folder / "splits.csv").open() as file:
        return list(csv.DictReader(file))


def test_a_killed_fold_goes_on_as_if_nothing_had_happened(config, folded, tmp_path):
    peaceful = tmp_path / "run"
    shutil.copytree(folded, peaceful, ignore=shutil.ignore_patterns("fold-1"))
    for name in ("metrics.json", "images.jsonl", "report.html"):
        (peaceful / name).unlink(missing_ok=True)
    metrics = cross_validate(config, peaceful, resume=True, runner=Runner())
    assert_equal_runs(peaceful / "fold-1", folded / "fold-1")
    before = read_metrics(folded)
    assert {name: metrics[name] for name in ("val", "test", "interval", "steps")} == {
        name: before[name] for name in ("val", "test", "interval", "steps")
    }
    assert (peaceful / "splits.csv").read_bytes() == (folded / "splits.csv").read_bytes()


def test_scores_out_of_fold_count_each_image_once(data, folded, alone):
    """Computed anew: each image by the fold in which it was held out, its IoU from the pixels."""
    scores = []
    for row in splits_of(folded):
        prediction = alone[int(row["fold"])].predict(data / row["split"] / "images" / f"{row['image']}.png")
        found = prediction.probabilities[1] > 0.5
        truth = np.asarray(Image.open(data / row["split"] / "masks" / f"{row['image']}.png")) > 0
        scores.append((found & truth).sum() / (found | truth).sum())
    metrics = read_metrics(folded)
    assert metrics["val"]["num_images"] == len(scores) == 9
    assert metrics["val"]["iou"] == pytest.approx(np.mean(scores), abs=1e-9)
    lines = [json.loads(line) for line in (folded / "images.jsonl").read_text().splitlines()]
    held_out = {(one["image"], one["fold"]) for one in lines if one["split"] == "val"}
    assert held_out == {(row["image"], int(row["fold"])) for row in splits_of(folded)}
    interval = metrics["interval"]["val"]
    assert interval["mean"] == pytest.approx(metrics["val"]["iou"])
    assert interval["low"] <= interval["mean"] <= interval["high"]
    assert metrics["groups"] == 7
    assert [one["val"]["num_images"] for one in metrics["fold_scores"]] == [
        sum(int(row["fold"]) == fold for row in splits_of(folded)) for fold in range(FOLDS)
    ]


def test_test_images_are_scored_by_the_mean(data, folded, alone):
    scores = []
    for path in sorted((data / "test" / "images").iterdir()):
        mean = np.mean([one.predict(path).probabilities[1] for one in alone], axis=0)
        truth = np.asarray(Image.open(data / "test" / "masks" / path.name)) > 0
        scores.append(((mean > 0.5) & truth).sum() / ((mean > 0.5) | truth).sum())
    assert read_metrics(folded)["test"]["iou"] == pytest.approx(np.mean(scores), abs=1e-6)


def test_no_fold_saw_what_it_is_scored_on(data, folded):
    rows = splits_of(folded)
    assert len({row["fold"] for row in rows if row["group"] == "a"}) == 1
    for fold in range(FOLDS):
        seen = json.loads((folded / f"fold-{fold}" / "samples.json").read_text())
        train_names, val_names = ({name for name, *_ in seen[split]} for split in ("train", "val"))
        assert val_names == {row["image"] for row in rows if int(row["fold"]) == fold}
        assert train_names == {row["image"] for row in rows} - val_names
        groups = [{row["group"] for row in rows if row["image"] in names} - {""} for names in (train_names, val_names)]
        assert groups[0].isdisjoint(groups[1])


@pytest.mark.parametrize("tta", [False, True])
def test_probabilities_are_the_mean_of_those_of_the_folds(data, segmenter, alone, tta, monkeypatch):
    for one in (segmenter, *alone):
        monkeypatch.setattr(one, "tta", tta)
    image = data / "test" / "images" / "test_000.png"
    found, each = segmenter.predict(image), [one.predict(image).probabilities for one in alone]
    np.testing.assert_allclose(found.probabilities, np.mean(each, axis=0), atol=1e-6, rtol=0)
    assert np.abs(each[0] - each[1]).max() > 1e-3, "the folds differ"
    assert np.array_equal(found.semantic_map, found.probabilities[1] > 0.5)
    assert np.array_equal(segmenter.predict_tiled(image, tile_size=256), found.semantic_map)


def test_windows_are_averaged_before_they_are_blended(segmenter, alone):
    windows = [torch.randint(0, 256, (3, 64, 64), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)]
    (output, index), *_ = segmenter.outputs(windows)
    ((_, scores),) = blendable_scores(output, index, (64, 64))
    each = [own_probabilities(*next(iter(one.outputs(windows))), (64, 64))[1] for one in alone]
    torch.testing.assert_close(torch.sigmoid(scores[0]), sum(each) / FOLDS, atol=1e-6, rtol=0)


def masks(seed, tokens=5, classes=3, by_class=True):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(1, tokens if by_class else classes, 8, 8, generator=generator) * 3
    return MultiClassOutput(
        mask_logits=logits,
        class_logits=torch.randn(1, tokens, classes + 1, generator=generator) * 2 if by_class else None,
    )


@pytest.mark.parametrize("by_class", [True, False], ids=["mask-classification", "per-pixel"])
@pytest.mark.parametrize("flipped", [False, True])
def test_several_classes(by_class, flipped):
    each = [masks(seed, by_class=by_class) for seed in range(3)]
    if flipped:
        each = [FlippedOutput((one, masks(7 + seed, by_class=by_class))) for seed, one in enumerate(each)]
    folded = FoldedOutput(tuple(each))
    mean = sum(own_probabilities(one, 0, (20, 30)) for one in each) / 3
    torch.testing.assert_close(own_probabilities(folded, 0, (20, 30)), mean, atol=1e-6, rtol=0)
    assert torch.equal(own_map(folded, 0, (20, 30)), own_probabilities(folded, 0, (20, 30)).argmax(dim=0))
    sums = [sum(scores.sum(0).mean() for _, scores in blendable_scores(one, 0, (20, 30))) for one in (folded, *each)]
    assert float(sums[0]) == pytest.approx(float(sum(sums[1:]) / 3), rel=1e-5), "a window keeps its weight"


def test_frozen_weights_are_in_memory_once(segmenter, alone):
    first, second = (dict(one.named_parameters()) for one in segmenter.model.members)
    shared = {name for name in first if first[name].data_ptr() == second[name].data_ptr()}
    trained = {name for name in first if "lora_" in name or "modules_to_save" in name}
    assert {name for name in first if "vision_encoder" in name and ".base_layer." in name} <= shared
    assert len(trained - shared) > 0.7 * len(trained)
    assert [len(one.folds) for one in (segmenter, *alone)] == [FOLDS, 0, 0]


def test_files_are_predicted_in_bands_too(data, folded, alone, tmp_path):
    image = data / "test" / "images" / "test_001.png"
    how = {"device": "cpu", "precision": "fp32", "probabilities": True, "objects": True, "threshold": 0.4}
    result = predict(folded, [image], tmp_path / "whole", **how)
    with Image.open(result["images"][0]["probabilities"]) as file:
        found = np.asarray(file).astype(float) / 65534
    mean = np.mean([one.predict(image).probabilities[1] for one in alone], axis=0)
    np.testing.assert_allclose(found, mean, atol=1e-4)
    with Image.open(result["images"][0]["mask"]) as file:
        assert np.array_equal(np.asarray(file) > 0, mean > 0.4)
    result = predict(folded, [image], tmp_path / "tiled", tile_size=64, batch_size=3, resume=True, **how)
    assert Path(result["images"][0]["mask"]).is_file()


def test_the_commands(convlora, config, data, folded, tmp_path):
    code, out, told = convlora("train", "--output", folded, "--resume", "--json")
    assert code == 0, told
    assert json.loads(out)["folds"] == FOLDS
    assert "2 of 2 folds are trained" in told
    code, out, _ = convlora("evaluate", folded, data, "--device", "cpu", "--json")
    assert code == 0
    assert json.loads(out)["iou"] == pytest.approx(read_metrics(folded)["test"]["iou"])
    code, out, _ = convlora("inspect", folded, "--json")
    assert (code, json.loads(out)["folds"]) == (0, FOLDS)
    code, _, told = convlora("report", folded, "--device", "cpu")
    page = (folded / "report.html").read_text()
    assert code == 0, told
    assert page.count("<img") == 3 * 4, "three test images"
    assert all(f"fold-{fold}" in page for fold in range(FOLDS))
    assert "95% interval" in page
    for command in (("export", folded, "--output", tmp_path / "m.onnx"), ("push", folded, "me/run", "--dry-run")):
        code, _, told = convlora(*command)
        assert code == 2
        assert str(folded / "fold-0") in told


def test_served_as_one_run(data, folded, segmenter):
    from convlora.serve.served import load_runs

    runs, _ = load_runs([folded], device="cpu", precision="fp32")
    image = data / "test" / "images" / "test_002.png"
    (served,) = runs.values()
    assert served.has_probability
    assert served.facts["scores_of"] == "test"
    assert np.array_equal(served.segmenter.predict(image).probabilities, segmenter.predict(image).probabilities)


def test_without_test_images_the_page_shows_what_each_fold_did_not_see(config, data, folded, tmp_path, monkeypatch):
    from convlora.report import examples

    shutil.copytree(data, tmp_path / "data")
    shutil.rmtree(tmp_path / "data" / "test")
    own = shutil.copytree(folded, tmp_path / "run")
    drawn = {}
    whole = examples._example
    monkeypatch.setattr(
        examples, "_example", lambda name, score, *more: drawn.setdefault(name, (score, whole(name, score, *more)))[1]
    )
    monkeypatch.setattr(summary, "report_after_training", run_page.report_after_training)
    moved = config.__class__.load(own / "config.yaml")
    moved.data.path = str(tmp_path / "data")
    metrics = cross_validate(moved, own, resume=True, runner=Runner())
    assert "test" not in metrics
    assert len(drawn) == 9
    assert (own / "report.html").read_text().count("<img") == 9 * 4


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--folds", "1"], "--folds must be at least 2"),
        (["--folds", "10"], "has only|make only"),
        (["--folds", "2", "--set", "val_fraction=0.2"], "data.val_fraction=0.2 has no effect with --folds"),
        (["--folds", "2", "--from", "OTHER"], "--folds trains every fold from the same start"),
        (["--set", "fold=0"], "data.fold=0 has no effect without data.folds"),
        (["--folds", "2", "--set", "fold=2"], "data.fold=2 has no effect with --folds 2, whose folds are 0 to 1"),
    ],
)
def test_wrong_folds_are_refused(convlora, config, tmp_path, options, message):
    config = config.__class__.load(_saved(config, tmp_path))
    config.data.folds = None
    config.save(tmp_path / "config.yaml")
    code, _, told = convlora("train", "--config", tmp_path / "config.yaml", "--output", tmp_path / "run", *options)
    assert code == 2
    assert any(part in told for part in message.split("|"))
    assert not (tmp_path / "run").exists()


def _saved(config, folder):
    config.save(folder / "config.yaml")
    return folder / "config.yaml"


def test_what_is_resumed_has_to_be_the_same(config, data, folded, make_config, tmp_path):
    runner = Runner()

    def refused(message, output, change=(), base=config, **how):
        settings = base.__class__.load(_saved(base, tmp_path))
        settings.override(list(change))
        with pytest.raises(InputError, match=message):
            cross_validate(settings, output, runner=runner, **how)

    refused("is not empty.*or --resume", folded)
    refused("data.folds = 3 instead of 2", folded, ["folds=3"], resume=True)
    refused("training.epochs = 3 instead of 2", folded, ["epochs=3"], resume=True)
    refused("was trained without --folds", folded / "fold-0", resume=True)
    with pytest.raises(InputError, match="holds several folds"):
        train(make_config(), folded, resume=True)
    groups = (data / "groups.csv").read_text()
    (data / "groups.csv").write_text(groups + "train_002,c\nval_002,c\n")
    try:
        refused("the images or their groups are no longer those", folded, resume=True)
    finally:
        (data / "groups.csv").write_text(groups)
    other = tmp_path / "other"
    other.mkdir()
    (other / "thesis.tex").write_text("mine")
    refused("is not empty", other)
    assert [path.name for path in other.iterdir()] == ["thesis.tex"]
    linked = shutil.copytree(folded, tmp_path / "linked", symlinks=True)
    (linked / "splits.csv").unlink()
    (linked / "splits.csv").symlink_to(other / "thesis.tex")
    refused("is a link", linked, resume=True)
    assert runner.trained == []


def test_a_fold_that_fails_names_the_remedy(config, tmp_path):
    with pytest.raises(RunError, match=r"fold-0 ended without a result\. Give the same command with --resume"):
        cross_validate(config, tmp_path / "run", runner=lambda config, folder: None)
    other = config.__class__.load(_saved(config, tmp_path))
    other.override(["folds=3"])
    with pytest.raises(RunError):  # nothing was trained, so nothing binds
        cross_validate(other, tmp_path / "run", runner=lambda config, folder: None)
    assert {row["fold"] for row in splits_of(tmp_path / "run")} == {"0", "1", "2"}


def test_intervals_are_drawn_over_groups():
    """Ten copies of one image are one image: the interval does not shrink with them."""
    records = [{"iou": float(value)} for value in (0.2, 0.4, 0.6, 0.8)]
    copies, units = [one for one in records for _ in range(10)], [number for number in range(4) for _ in range(10)]
    single, grouped = score_interval(records, "iou"), score_interval(copies, "iou", units)
    assert grouped == pytest.approx(single)
    naive = score_interval(copies, "iou")
    assert naive.high - naive.low < 0.5 * (grouped.high - grouped.low)
    assert single.mean == pytest.approx(0.5)
