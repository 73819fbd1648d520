"""A setting that was asked for and has no effect is an error, whatever the setting."""

import re
import shlex

import pytest
import torch

from convlora.data.classes.class_table import ClassTable
from convlora.data.synthetic import write_task
from convlora.errors import InputError
from convlora.recipes import recipe_names
from convlora.settings import SETTINGS
from convlora.training.config import RunConfig
from convlora.training.effects import CONDITIONS, check_effects
from convlora.training.run import train
from convlora.training.task import settle_task
from convlora.training.validation import check_settings
from tests.training.test_run import log_of

TWO, ELEVEN = {"num_classes": 2, "has_val": True}, {"num_classes": 11, "has_val": True}


def asking(*assignments):
    config = RunConfig()
    config.override(list(assignments))
    return config


def test_every_setting_knows_when_it_applies():
    assert list(CONDITIONS) == list(SETTINGS)


@pytest.mark.parametrize("now", [{}, TWO, ELEVEN])
def test_defaults_ask_for_nothing(now):
    check_effects(RunConfig(), **now)
    check_effects(asking("method=unet"), **now)


@pytest.mark.parametrize(
    ("assignments", "now", "words"),
    [
        (
            ["num_mask_tokens=9"],
            TWO,
            "model.num_mask_tokens=9 has no effect on a task of 2 classes with the head",
        ),
        (["set_loss_weights=[1,1,1]"], TWO, "training.set_loss_weights=[1.0,1.0,1.0] has no effect on a task of 2"),
        (["head=per-pixel", "num_mask_tokens=9"], {}, "model.num_mask_tokens=9 has no effect on a task with the head"),
        (
            ["loss=balanced-bce"],
            ELEVEN,
            "--loss balanced-bce has no effect on a task of 11 classes with the head",
        ),
        (["head=per-pixel", "loss=structure"], TWO, "--loss structure has no effect on a task of 2 classes with the"),
        (["loss=balanced-bce", "class_weights=true"], TWO, "which weighs both classes alike already"),
        (["val_fraction=0.3"], TWO, "data.val_fraction=0.3 has no effect on data with a validation split"),
        (["split_seed=0"], TWO, "data.split_seed=0 has no effect on data with a validation split"),
        (["budget_seconds=9", "epochs=3"], {}, "--epochs 3 has no effect with --budget-seconds"),
        (["memory=auto", "activation_checkpointing=true"], {}, "has no effect with --memory auto, which chooses it"),
        (["detail=none", "lr_detail=1e-3"], {}, "training.lr_detail=0.001 has no effect without the detail branch"),
        (["lr_detail=1e-3", "detail=none"], {}, "training.lr_detail=0.001 has no effect without the detail branch"),
        (["gate_scaling=average", "top_k=2"], {}, "method.top_k=2 has no effect with gate_scaling=average"),
        (["gate_scaling=average", "gate_noise=false"], {}, "method.gate_noise=false has no effect with gate_scaling"),
        (["method=unet", "lr_detail=1e-3"], {}, "training.lr_detail=0.001 has no effect on the method unet"),
        (["method=unet", "set_loss_weights=[1,1,1]"], {}, "has no effect on the method unet"),
    ],
)
def test_settings_without_effect_are_refused_and_the_remedy_helps(assignments, now, words):
    config = asking(*assignments)
    with pytest.raises(InputError, match=re.escape(words)) as caught:
        check_effects(config, **now)
    config.override(shlex.split(str(caught.value).rpartition("--set ")[2].removesuffix(".")))
    check_effects(config, **now)


@pytest.mark.parametrize(
    ("assignments", "now"),
    [
        (["class_weights=true"], TWO),
        (["class_weights=true", "loss=balanced-bce", "head=per-pixel", "loss=null"], TWO),
        (["class_weights=true"], ELEVEN),
        (["head=mask-classification", "num_mask_tokens=9", "set_loss_weights=[1,1,1]"], TWO),
        (["loss=structure"], TWO),
        (["val_fraction=0.3", "split_seed=4"], {"num_classes": 2, "has_val": False}),
        (["epochs=3", "budget_seconds=9"], TWO),  # the later one counts
        (["num_mask_tokens=9", "loss=structure", "set_loss_weights=[1,1,1]"], {}),  # it is not known yet
    ],
)
def test_settings_with_effect_are_taken(assignments, now):
    check_effects(asking(*assignments), **now)


def test_all_of_them_are_named_at_once():
    with pytest.raises(InputError, match=r"num_mask_tokens=9 .*set_loss_weights=.* has no effect"):
        check_effects(asking("num_mask_tokens=9", "set_loss_weights=[1,1,1]"), **TWO)


@pytest.mark.parametrize("loss", ["structure", "bce-dice"])
def test_a_run_is_repeated_whose_version_wrote_down_a_loss_without_effect(loss, tmp_path):
    path = tmp_path / "config.yaml"
    asking(f"loss={loss}", "select_by=miou").save(path)
    config = RunConfig.load(path)
    check_settings(config)
    check_effects(config, **ELEVEN)
    config.override(["loss=structure"])
    with pytest.raises(InputError, match="--loss structure has no effect"):
        check_effects(config, **ELEVEN)
    path.write_text(path.read_text().replace(f"loss: {loss}", "loss: balanced-bce"))  # an edited copy
    with pytest.raises(InputError, match="--loss balanced-bce has no effect"):
        check_effects(RunConfig.load(path), **ELEVEN)


def test_a_score_of_binary_tasks_is_not_taken_for_another():
    config = asking("select_by=iou")
    config.model.head = "per-pixel"
    with pytest.raises(InputError, match="select_by=iou is for binary tasks; with 3 classes use one of miou"):
        settle_task(config, ClassTable(("a", "b", "c")), [], lambda text: None)


@pytest.mark.parametrize("name", recipe_names())
def test_recipes_ask_for_nothing_without_effect(name):
    config = RunConfig.load(f"recipe:{name}")
    several = config.training.select_by == "miou"
    check_effects(config, num_classes=3 if several else 2, has_val=True)


def test_class_weights_reach_the_loss_of_a_binary_task(make_config, tmp_path):
    train(make_config(max_steps=1), tmp_path / "plain")
    train(make_config(max_steps=1, class_weights=True), tmp_path / "weighted")
    first, second = (log_of(tmp_path / name)[0]["task_loss"] for name in ("plain", "weighted"))
    assert first != second


def test_class_weights_reach_the_loss_of_a_binary_network(make_config, tmp_path):
    losses = []
    for weighted in (False, True):
        config = make_config(max_steps=1, class_weights=weighted)
        config.update({"method": {"name": "unet", "width": 8}, "model": {"image_size": 32}}, origin="the test")
        config.model.source = "unet"
        train(config, tmp_path / str(weighted))
        losses.append(log_of(tmp_path / str(weighted))[0]["task_loss"])
    assert losses[0] != losses[1]


def test_a_loss_for_two_classes_stops_a_run_with_several_before_it_begins(convlora, tmp_path):
    town = write_task("town", tmp_path / "town", num_train=2, num_val=1, num_test=1, size=(64, 64))
    common = ("train", town, "--model", "tiny", "--image-size", 64, "--max-steps", 1, "--output", tmp_path / "run")
    code, _, told = convlora(*common, "--loss", "balanced-bce")
    assert code == 2
    assert "--loss balanced-bce has no effect on a task of 5 classes" in " ".join(told.split())
    assert not (tmp_path / "run").exists()
    code, _, told = convlora(*common)
    assert code == 0, told
    saved = RunConfig.load(tmp_path / "run" / "config.yaml").training
    assert (saved.loss, saved.select_by) == (None, "miou")
    code, _, told = convlora("train", "--config", tmp_path / "run" / "config.yaml", "--output", tmp_path / "again")
    assert code == 0, told
    assert torch.equal(*(torch.tensor(log_of(tmp_path / name)[0]["loss"]) for name in ("run", "again")))
