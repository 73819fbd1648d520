import copy
import csv
import json
import shutil

import numpy as np
import pytest
import yaml
from PIL import Image
from transformers import DINOv3ViTConfig, DINOv3ViTModel

from convlora.comparison import run as comparison_run
from convlora.comparison import summary as summary_module
from convlora.comparison.page import table_rows, write_page
from convlora.comparison.plan import PlannedRun, Variant, make_plan
from convlora.comparison.run import OwnProcesses, run_plan
from convlora.comparison.summary import sum_up
from convlora.comparison.verdict import verdict
from convlora.data.checking.reach import SIZE_IS_TOLD
from convlora.errors import InputError, RunError
from convlora.recipes import read_recipe
from convlora.settings import ModelSettings
from convlora.training.config import RunConfig
from convlora.training.run import train
from convlora.training.validation import check_settings
from convlora.untrusted import read_yaml


@pytest.fixture(scope="module")
def base(make_config):
    config = make_config(epochs=1)
    config.data.path = str(config.data.path)
    return config


class Runner:
    """Trains in this process and keeps account; fails at the run whose number is given."""

    def __init__(self, fails_at=None):
        self.trained, self.fails_at = [], fails_at

    def __call__(self, config, folder):
        if len(self.trained) == self.fails_at:
            raise RunError("the machine went away")
        self.trained.append(folder)
        train(config, folder, resume=(folder / "config.yaml").is_file())


def plan(base, methods=("decoder", "lora"), seeds=2, fractions=(1.0,), rates=()):
    if rates:
        base = copy.deepcopy(base)
        base.training.lr = None
    return make_plan(methods, seeds, fractions, rates, base)


@pytest.fixture(scope="module")
def finished(base, tmp_path_factory):
    output = tmp_path_factory.mktemp("comparison") / "c"
    runner = Runner()
    runs = run_plan(plan(base), output, say=lambda text: None, runner=runner)
    return output, runs, runner


def test_every_method_runs_with_every_seed(finished):
    output, runs, runner = finished
    assert [folder.relative_to(output).as_posix() for folder in runner.trained] == [
        "runs/decoder/seed-0", "runs/decoder/seed-1", "runs/lora/seed-0", "runs/lora/seed-1",
    ]  # fmt: skip
    assert [run.seed for run in runs["lora"]] == [0, 1]


def test_what_is_finished_is_not_trained_again_and_more_can_be_added(base, finished):
    output, _, _ = finished
    runner = Runner()
    run_plan(plan(base), output, say=lambda text: None, runner=runner)
    assert not runner.trained
    runs = run_plan(plan(base, ("decoder", "lora:r=2"), 1), output, say=lambda text: None, runner=runner)
    assert [folder.name for folder in runner.trained] == ["seed-0"]
    assert set(runs) == {"decoder", "lora:r=2"}


def test_a_comparison_of_before_a_setting_was_there_goes_on(base, finished, tmp_path):
    copied = tmp_path / "c"
    shutil.copytree(finished[0], copied)
    settings = yaml.safe_load((copied / "comparison.yaml").read_text())
    assert settings["training"].pop("set_loss_weights") == [2, 5, 5]
    (copied / "comparison.yaml").write_text(yaml.safe_dump(settings))
    runner = Runner()
    run_plan(plan(base), copied, say=lambda text: None, runner=runner)
    assert not runner.trained


@pytest.mark.usefixtures("drawn_figures")
def test_the_summary_and_the_page(base, finished):
    output, runs, _ = finished
    summary = sum_up(plan(base), runs, output)
    assert json.loads((output / "compare.json").read_text()) == summary
    assert summary["reference"] == "lora"
    decoder, lora = summary["rows"]
    scores = [json.loads((output / "runs/lora" / f"seed-{n}" / "metrics.json").read_text()) for n in (0, 1)]
    assert lora["mean"]["iou"] == pytest.approx(sum(one["test"]["iou"] for one in scores) / 2)
    assert decoder["difference"]["mean"] == pytest.approx(decoder["mean"]["iou"] - lora["mean"]["iou"])
    assert "difference" not in lora
    assert decoder["trainable"] < lora["trainable"] < lora["total"]
    with (output / "compare.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["method"] for row in rows] == ["decoder", "lora"]
    assert float(rows[1]["iou"]) == pytest.approx(lora["mean"]["iou"])
    page = write_page(summary, runs, output).read_text()
    assert page.count("<img") == 3 * (2 + 2), "three test images: image, truth and two methods"
    assert page.count("<svg") == 4
    assert "3 images are too few to tell" in page
    for name in ("curves", "weights", "seconds", "memory"):
        assert {path.suffix for path in (output / "plots").glob(f"{name}.*")} == {".svg", ".pdf"}
    best = max(summary["rows"], key=lambda row: row["mean"]["iou"])
    assert table_rows(summary, 1.0)[0][0] == best["method"]


def test_published_scores_stand_beside_ours(base, finished, monkeypatch):
    output, runs, _ = finished
    monkeypatch.setattr(summary_module, "recipe_of_data", lambda path: read_recipe("leaf"))
    summary = sum_up(plan(base), runs, output)
    means = {row["method"]: row["mean"]["dice"] for row in summary["rows"]}
    assert summary["published"][1]["ours"] == means
    page = write_page(summary, runs, output).read_text()
    assert "0.843 ± 0.0034" in page
    assert f"{means['lora']:.4f}" in page
    monkeypatch.undo()
    assert sum_up(plan(base), runs, output)["published"] == []


def test_runs_of_an_older_version_lack_some_scores(base, finished, tmp_path):
    copied = tmp_path / "c"
    shutil.copytree(finished[0], copied)
    path = copied / "runs" / "lora" / "seed-1" / "metrics.json"
    metrics = json.loads(path.read_text())
    del metrics["test"]["precision"], metrics["history"]
    path.write_text(json.dumps(metrics))
    runs = run_plan(plan(base), copied, say=lambda text: None, runner=Runner())
    summary = sum_up(plan(base), runs, copied)
    assert ["precision" in row["mean"] for row in summary["rows"]] == [True, False]
    page = write_page(summary, runs, copied).read_text()
    assert "Recall" in page
    assert "Precision" not in page
    with (copied / "compare.csv").open() as file:
        assert "precision" not in next(csv.reader(file))


def test_other_settings_are_refused(base, finished, make_config):
    output, _, _ = finished
    with pytest.raises(InputError, match=r"training.epochs = 2 instead of 1"):
        run_plan(plan(make_config(epochs=2)), output, say=lambda text: None, runner=Runner())
    other = output.parent / "other"
    other.mkdir()
    (other / "thesis.tex").write_text("mine")
    with pytest.raises(InputError, match="holds no comparison"):
        run_plan(plan(base), other, say=lambda text: None, runner=Runner())


def test_a_mistake_does_not_bind_the_folder(base, tmp_path):
    wrong = copy.deepcopy(base)
    wrong.data.path = str(tmp_path / "nothing")
    with pytest.raises(InputError, match="does not exist"):
        run_plan(plan(wrong), tmp_path / "c", say=lambda text: None, runner=Runner())
    assert not (tmp_path / "c").exists()
    with pytest.raises(RunError):
        run_plan(plan(base), tmp_path / "c", say=lambda text: None, runner=Runner(fails_at=0))
    other = copy.deepcopy(base)
    other.training.epochs = 2
    run_plan(plan(other, ("decoder",), 1), tmp_path / "c", say=lambda text: None, runner=Runner())


def test_options_of_methods_stand_beside_their_names(base):
    other = copy.deepcopy(base)
    other.method.options = {"r": 8}
    with pytest.raises(InputError, match="--methods lora:r=8"):
        plan(other)


def test_a_run_made_with_another_method_does_not_count(base, tmp_path):
    run_plan(plan(base, ("lora",), 1), tmp_path / "c", say=lambda text: None, runner=Runner())
    path = tmp_path / "c" / "runs" / "lora" / "seed-0" / "config.yaml"
    path.write_text(path.read_text().replace("  r: 3\n", "  r: 8\n"))
    with pytest.raises(InputError, match="made with other settings"):
        run_plan(plan(base, ("lora",), 1), tmp_path / "c", say=lambda text: None, runner=Runner())


def test_what_auto_meant_when_it_began_holds_for_a_comparison(base, tmp_path):
    other = copy.deepcopy(base)
    other.model.source, other.model.detail = "tiny", "auto"
    runner = Runner()
    run_plan(plan(other, ("decoder",), 1), tmp_path / "c", say=lambda text: None, runner=runner)
    settings = tmp_path / "c" / "comparison.yaml"
    assert read_yaml(settings)["model"]["detail"] == "full"
    settings.write_text(settings.read_text().replace("detail: full", "detail: auto"))  # as older versions wrote it
    run_plan(plan(other, ("lora", "unet:width=8"), 1), tmp_path / "c", say=lambda text: None, runner=runner)
    lora = RunConfig.load(tmp_path / "c" / "runs" / "lora" / "seed-0" / "config.yaml")
    assert lora.model.detail == "half"


def test_data_without_other_splits(base, blobs, tmp_path):
    shutil.copytree(blobs / "train", tmp_path / "data" / "train")
    alone = copy.deepcopy(base)
    alone.data.path = str(tmp_path / "data")
    asked = plan(alone, ("decoder",), 2)
    runs = run_plan(asked, tmp_path / "c", say=lambda text: None, runner=Runner())
    summary = sum_up(asked, runs, tmp_path / "c")
    assert summary["split"] == "val"
    assert write_page(summary, runs, tmp_path / "c").is_file()


def test_groups_are_drawn_as_a_whole(make_config, blobs, tmp_path):
    base = make_config(epochs=1)
    shutil.copytree(blobs, tmp_path / "data")
    base.data.path = str(tmp_path / "data")
    names = sorted(path.name for path in (tmp_path / "data" / "test" / "images").iterdir())
    rows = [f"test/images/{name},patient {number % 2}" for number, name in enumerate(names)]
    (tmp_path / "data" / "groups.csv").write_text("\n".join(["image,group", *rows]))
    asked = plan(base, ("decoder", "lora"), 1)
    runs = run_plan(asked, tmp_path / "c", say=lambda text: None, runner=Runner())
    summary = sum_up(asked, runs, tmp_path / "c")
    assert (summary["images"], summary["groups"]) == (len(names), 2)
    assert "2 groups" in verdict(summary)[0], "too few to tell"
    page = write_page(summary, runs, tmp_path / "c").read_text(encoding="utf-8")
    assert "bootstrap over the groups" in page


def test_bad_images_may_be_left_out(make_config, blobs, tmp_path):
    base = make_config(epochs=1)
    shutil.copytree(blobs, tmp_path / "data")
    bad, strange, *_ = sorted((tmp_path / "data" / "test" / "images").iterdir())
    bad.write_bytes(b"")
    with Image.open(strange) as image:
        values = np.linspace(-196, -29, image.width * image.height, dtype=np.float32)
        Image.fromarray(values.reshape(image.height, image.width)).save(strange.with_suffix(".tif"))
    strange.unlink()
    base.data.path = str(tmp_path / "data")
    with pytest.raises(InputError, match=f"{bad} is empty"):
        run_plan(plan(base), tmp_path / "c", say=lambda text: None, runner=Runner())
    base.data.on_bad_image = "skip"
    runs = run_plan(plan(base, seeds=1), tmp_path / "c", say=lambda text: None, runner=Runner())
    summary = sum_up(plan(base, seeds=1), runs, tmp_path / "c")
    assert summary["images"] == 1
    page = write_page(summary, runs, tmp_path / "c").read_text()
    assert page.count("data:image/jpeg") == 4, "image, truth and two answers of each"


def test_a_failure_loses_nothing(base, tmp_path):
    with pytest.raises(RunError):
        run_plan(plan(base), tmp_path / "c", say=lambda text: None, runner=Runner(fails_at=1))
    runner = Runner()
    run_plan(plan(base), tmp_path / "c", say=lambda text: None, runner=runner)
    assert len(runner.trained) == 3


def test_learning_rates_are_searched_on_validation_images(base, tmp_path):
    messages, runner = [], Runner()
    asked = plan(base, ("decoder", "lora:lr=1e-3"), 2, rates=(1e-2, 1e-6))
    runs = run_plan(asked, tmp_path / "c", say=messages.append, runner=runner)
    assert {run.lr for run in runs["decoder"]} <= {1e-2, 1e-6}
    assert {run.lr for run in runs["lora:lr=1e-3"]} == {None}
    assert len(runner.trained) == 2 + 1 + 2, "two for the search, of which one counts, and another seed"
    assert any("learning rate" in text and "validation scores" in text for text in messages)
    summary = sum_up(asked, runs, tmp_path / "c")
    assert [row["lr"] for row in summary["rows"]] == [runs["decoder"][0].lr, 1e-3]


@pytest.mark.usefixtures("drawn_figures")
def test_fewer_images(base, tmp_path):
    asked = plan(base, ("lora",), 1, fractions=(0.5, 1.0))
    runner = Runner()
    runs = run_plan(asked, tmp_path / "c", say=lambda text: None, runner=runner)
    steps = [json.loads((folder / "metrics.json").read_text())["steps"] for folder in runner.trained]
    assert steps == [3, 2]
    summary = sum_up(asked, runs, tmp_path / "c")
    assert [row["train_fraction"] for row in summary["rows"]] == [1.0, 0.5]
    page = write_page(summary, runs, tmp_path / "c").read_text()
    assert "50% of the training images" in page


@pytest.mark.parametrize(
    ("methods", "more", "message"),
    [
        (["magic"], {}, "There is no method 'magic'"),
        (["lora:rank=3"], {}, "'rank' in --methods lora:rank=3 is no option of lora"),
        (["lora:method=conv-lora"], {}, "'method' in --methods"),
        (["lora:epochs=9"], {}, "'epochs' in --methods"),
        (["lora:seed=9"], {}, "'seed' in --methods"),
        (["lora:r=0"], {}, "rank of the method lora must be at least 1"),
        (["conv-lora:top_k=9"], {}, "top_k"),
        (["conv-lora:num_experts=2:expert_scales=[2]"], {}, "expert_scales"),
        (["decoder:adapt_last=1"], {}, "Leave out --adapt-last"),
        (["lora"], {"rates": (-1.0,)}, "--lr-search must hold learning rates above 0"),
        (["lora"], {"rates": (float("nan"), 1e-3)}, "--lr-search must hold learning rates above 0"),
        (["lora:r"], {}, "has no '='"),
        (["lora", "lora"], {}, "more than once"),
        ([], {}, "names no method"),
        (["lora"], {"seeds": 0}, "--seeds must be at least 1"),
        (["lora"], {"fractions": (0.0,)}, "--train-fraction"),
    ],
)
def test_bad_plans_are_refused_before_anything_is_trained(base, methods, more, message):
    with pytest.raises(InputError, match=message):
        plan(base, methods, **more)


@pytest.mark.parametrize(
    ("assignment", "rates", "message"),
    [
        ("seed=5", (), "training.seed has no effect on a comparison"),
        ("train_fraction=0.5", (), "data.train_fraction has no effect on a comparison"),
        ("method=lora", (), "method.name has no effect on a comparison"),
        ("lr=1e-3", (1e-4, 1e-3), "training.lr has no effect on a comparison"),
    ],
)
def test_what_a_comparison_sets_itself_is_refused_in_its_settings(base, assignment, rates, message):
    base = copy.deepcopy(base)
    base.override([assignment])
    with pytest.raises(InputError, match=message) as caught:
        make_plan(("lora", "decoder"), 1, (1.0,), rates, base)
    base.override([str(caught.value).rpartition("--set ")[2].removesuffix(".")])  # the remedy
    make_plan(("lora", "decoder"), 1, (1.0,), rates, base)


def test_settings_that_do_not_fit_the_data_are_refused_before_anything_is_trained(base, tmp_path):
    runner = Runner()
    asked = plan(base, ("decoder", "lora:set_loss_weights=[1,1,1]"), 1)
    with pytest.raises(InputError, match=r"set_loss_weights=\[1.0,1.0,1.0\] has no effect"):
        run_plan(asked, tmp_path / "c", say=lambda text: None, runner=runner)
    assert runner.trained == []


def test_variants_set_options_and_settings(base):
    variant = Variant.parse("conv-lora:top_k=2:lr=3e-4:expert_scales=[1,2]:num_experts=2")
    config = PlannedRun(variant, 0.5, None, 7).config(base)
    assert config.method.options == {"top_k": 2, "expert_scales": [1, 2], "num_experts": 2}
    assert (config.training.lr, config.training.seed, config.data.train_fraction) == (3e-4, 7, 0.5)
    assert base.method.options == {}
    assert "/" not in variant.folder
    assert ":" not in variant.folder


def test_a_network_takes_part_with_its_own_rate_and_the_settings_that_concern_it(base):
    other = copy.deepcopy(base)
    other.training.lr, other.training.adapt_last, other.model.head = None, 1, "mask-classification"
    asked = plan(other, ("unet", "lora"))
    unet, lora = (PlannedRun(variant, 1.0, None, 0).config(other) for variant in asked.variants)
    assert (unet.training.lr, lora.training.lr) == (None, None), "each takes its own when it is trained"
    assert (unet.model.image_size, lora.model.image_size) == ([64, 64], None), "the SAM's own size for both"
    assert (unet.training.adapt_last, lora.training.adapt_last) == (None, 1)
    assert (unet.model.head, lora.model.head) == ("auto", "mask-classification")
    check_settings(unet)
    other.training.lr, other.model.image_size = 3e-4, 32
    asked = plan(other, ("unet", "lora"))
    unet = PlannedRun(asked.variants[0], 1.0, None, 0).config(other)
    assert (unet.training.lr, unet.model.image_size) == (3e-4, 32), "what is said for all holds for it"
    with pytest.raises(InputError, match=r"--model .* has no effect on the method unet"):
        plan(other, ("unet", "unet:width=8"))
    other.model, other.training.adapt_last = ModelSettings(), None
    assert plan(other, ("unet", "unet:width=8")).variants[0].image_size is None, "no SAM is looked for"


def test_equal_time(base, tmp_path, monkeypatch):
    monkeypatch.setattr("convlora.training.fit.steps_within", lambda seconds, args, **more: len(steps) and steps.pop())
    steps, asked = [3, 5], copy.deepcopy(base)
    asked.training.budget_seconds, asked.training.epochs = 60, None
    asked.training.lr, asked.model.image_size = None, 32
    compared = plan(asked, ("unet:width=8", "lora"), 1)
    runs = run_plan(compared, tmp_path / "c", say=lambda text: None, runner=Runner())
    summary = sum_up(compared, runs, tmp_path / "c")
    assert [row["steps"] for row in summary["rows"]] == [5, 3]
    assert summary["budget_seconds"] == 60
    page = write_page(summary, runs, tmp_path / "c").read_text()
    assert "as many steps as fit into 60 s of training (validation not counted)" in page
    assert "the same number of steps" not in page
    assert {row[0]: row[5] for row in table_rows(summary, 1.0)} == {"unet:width=8": "5", "lora": "3"}
    runner = Runner()
    run_plan(compared, tmp_path / "c", say=lambda text: None, runner=runner)
    assert not runner.trained


def test_a_comparison_of_an_older_version_goes_on_as_it_began(base, tmp_path):
    """Its defaults were written down; what the new command leaves open is taken from there."""
    asked = copy.deepcopy(base)
    asked.training.lr, asked.training.max_steps = None, 1
    compared = plan(asked, ("decoder",), 1)
    run_plan(compared, tmp_path / "c", say=lambda text: None, runner=Runner())
    path = tmp_path / "c" / "comparison.yaml"
    older = path.read_text().replace("lr: null", "lr: 0.0001").replace("loss: null", "loss: structure")
    path.write_text(older.replace("  detail: half\n", ""))
    run = tmp_path / "c" / "runs" / "decoder" / "seed-0" / "config.yaml"
    run.write_text(run.read_text().replace("lr: 0.001", "lr: 0.0001"))
    again = plan(asked, ("decoder", "bitfit"), 1)
    runner = Runner()
    run_plan(again, tmp_path / "c", say=lambda text: None, runner=runner)
    assert len(runner.trained) == 1
    config = RunConfig.load(tmp_path / "c" / "runs" / "bitfit" / "seed-0" / "config.yaml")
    assert (config.training.lr, config.training.loss, config.model.detail) == (1e-4, "structure", "none")
    asked.training.loss = "bce-dice"
    with pytest.raises(InputError, match=r"training.loss = 'bce-dice' instead of 'structure'"):
        run_plan(plan(asked, ("decoder",), 1), tmp_path / "c", say=lambda text: None, runner=Runner())


@pytest.mark.parametrize("name", ["runs", "runs/decoder", "runs/lora/seed-1"])
def test_runs_do_not_lie_behind_a_link(base, tmp_path, name):
    (tmp_path / "outside").mkdir()
    link = tmp_path / "c" / name
    link.parent.mkdir(parents=True)
    link.symlink_to(tmp_path / "outside")
    (tmp_path / "c" / "comparison.yaml").write_text("{}")
    runner = Runner()
    with pytest.raises(InputError, match=f"{name} is a link"):
        run_plan(plan(base), tmp_path / "c", say=lambda text: None, runner=runner)
    assert not runner.trained
    assert not list((tmp_path / "outside").iterdir())


def test_what_a_size_can_reach_is_said_once_for_each_kind_of_run(base, tmp_path, monkeypatch):
    silent = []
    monkeypatch.setattr(
        comparison_run,
        "_train_in_own_process",
        lambda config, folder, environment, again: silent.append(
            environment is not None and environment[SIZE_IS_TOLD] == "1"
        ),
    )
    runner, runs = OwnProcesses(), plan(base, ("unet", "lora", "decoder"), seeds=2)
    for variant in runs.variants:
        for seed in runs.seeds:
            runner(PlannedRun(variant, 1.0, None, seed).config(base), tmp_path)
    assert silent == [False, True, False, True, True, True], "a U-Net draws in other cells than SAM"


def test_methods_that_do_not_fit_are_named_before_anything_is_trained(base, tmp_path):
    folder = tmp_path / "dino"
    settings = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 48}
    DINOv3ViTModel(DINOv3ViTConfig(image_size=64, patch_size=16, **settings)).save_pretrained(folder)
    other, runner = copy.deepcopy(base), Runner()
    other.model.source = str(folder)
    with pytest.raises(InputError, match=r"with lora-decoder, lora-decoder:r=2\. .*pretrained mask decoder"):
        run_plan(
            plan(other, ("unet", "lora", "lora-decoder", "lora-decoder:r=2")),
            tmp_path / "c",
            say=lambda text: None,
            runner=runner,
        )
    other.model.source = str(tmp_path / "none")
    with pytest.raises(InputError, match="none"):
        run_plan(plan(other, ("unet", "lora")), tmp_path / "d", say=lambda text: None, runner=runner)
    assert not runner.trained
