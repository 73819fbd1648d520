import csv
import json

import pytest

from convlora.comparison.page import table_rows, write_page
from convlora.comparison.plan import PlannedRun, Variant, make_plan
from convlora.comparison.run import run_plan
from convlora.comparison.summary import sum_up
from convlora.errors import InputError, RunError
from convlora.training.run import train


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
    assert page.count("<svg") == 3
    best = max(summary["rows"], key=lambda row: row["mean"]["iou"])
    assert table_rows(summary, 1.0)[0][0] == best["method"]


def test_other_settings_are_refused(base, finished, make_config):
    output, _, _ = finished
    with pytest.raises(InputError, match=r"training.epochs = 2 instead of 1"):
        run_plan(plan(make_config(epochs=2)), output, say=lambda text: None, runner=Runner())
    other = output.parent / "other"
    other.mkdir()
    (other / "thesis.tex").write_text("mine")
    with pytest.raises(InputError, match="holds no comparison"):
        run_plan(plan(base), other, say=lambda text: None, runner=Runner())


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
        (["lora:rank=3"], {}, "no setting 'rank'|no option 'rank'"),
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


def test_variants_set_options_and_settings(base):
    variant = Variant.parse("conv-lora:top_k=2:lr=3e-4:expert_scales=[1,2]:num_experts=2")
    config = PlannedRun(variant, 0.5, None, 7).config(base)
    assert config.method.options == {"top_k": 2, "expert_scales": [1, 2], "num_experts": 2}
    assert (config.training.lr, config.training.seed, config.data.train_fraction) == (3e-4, 7, 0.5)
    assert base.method.options == {}
    assert "/" not in variant.folder
    assert ":" not in variant.folder
