"""Values of files and command lines are converted and checked in our own sentences."""

import math
import re

import pytest

from convlora.errors import InputError
from convlora.settings import SETTINGS
from convlora.settings.checking import COMMAND_LINE, ProblemError, read_value
from convlora.training.config import RunConfig


@pytest.mark.parametrize(
    ("key", "value", "wanted"),
    [
        ("training.lr", "1e-4", 1e-4),  # as YAML reads it
        ("training.lr", 1, 1.0),
        ("training.lr", None, None),
        ("training.epochs", 3.0, 3),
        ("training.epochs", "3", 3),
        ("training.weight_decay", 0, 0.0),
        ("training.cache", True, True),
        ("training.report_to", "tensorboard", ["tensorboard"]),
        ("training.report_to", ["a", "b"], ["a", "b"]),
        ("training.set_loss_weights", [1, "2", 3.5], [1.0, 2.0, 3.5]),
        ("model.image_size", "320x480", [320, 480]),
        ("model.image_size", "512", 512),
        ("model.image_size", 512.0, 512),
        ("model.num_mask_tokens", "auto", "auto"),
        ("model.num_mask_tokens", 9, 9),
        ("data.path", "12", "12"),
    ],
)
def test_values_are_converted(key, value, wanted):
    found = read_value(SETTINGS[key], value, "a test")
    assert found == wanted
    assert type(found) is type(wanted)
    if isinstance(wanted, list):
        assert [type(one) for one in found] == [type(one) for one in wanted]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("training.lr", True),
        ("training.lr", "fast"),
        ("training.lr", 10**400),
        ("training.epochs", True),
        ("training.epochs", 1.5),
        ("training.epochs", "many"),
        ("training.epochs", math.inf),
        ("training.epochs", "9" * 5000),
        ("training.cache", 1),
        ("training.cache", "true"),
        ("training.seed", None),
        ("training.report_to", [1]),
        ("training.set_loss_weights", [1, True, 1]),
        ("training.set_loss_weights", 1),
        ("training.precision", "fp8"),
        ("training.precision", ["fp16"]),
        ("model.image_size", "320x"),
        ("model.image_size", [320, 480, 3]),
        ("model.image_size", {}),
        ("model.num_mask_tokens", "some"),
        ("data.path", 12),
        ("data.path", ["a"]),
    ],
)
def test_values_of_another_type_are_refused_in_plain_words(key, value):
    for origin, label in (("settings.yaml", key), (COMMAND_LINE, SETTINGS[key].label)):
        with pytest.raises(ProblemError, match=rf"^{re.escape(label)} must be \w.*[.]$") as caught:
            read_value(SETTINGS[key], value, origin)
        assert (origin in str(caught.value)) == (origin != COMMAND_LINE)
        for word in ("Input should", "pydantic", "type=", "validation"):
            assert word not in str(caught.value)


@pytest.mark.parametrize(
    ("assignment", "words"),
    [
        ("epochs=0", "--epochs must be at least 1, got 0."),
        ("lr=0", "--lr must be above 0, got 0.0."),
        ("lr=.inf", "--lr must be a finite number above 0, got inf."),
        ("budget_seconds=.inf", "--budget-seconds must be a finite number above 0"),
        ("seed=4294967296", "--seed must be at least 0 and below 4294967296"),
        ("weight_decay=-1", "training.weight_decay must be at least 0"),
        ("max_grad_norm=.nan", "training.max_grad_norm must be a finite number"),
        ("val_fraction=1", "data.val_fraction must be at least 0 and below 1"),
        ("train_fraction=0", "data.train_fraction must be above 0 and at most 1"),
        ("workers=257", "data.workers must be at least 0 and at most 256"),
        ("logging_steps=0", "training.logging_steps must be at least 1"),
        ("set_loss_weights=[1, 1]", "training.set_loss_weights must be three numbers"),
    ],
)
def test_ranges(assignment, words):
    config = RunConfig()
    config.override([assignment])
    with pytest.raises(InputError, match=f"^{re.escape(words)}"):
        config.check_ranges()


def test_limits_belong_to_ranges_or_do_not():
    config = RunConfig()
    config.override(
        ["epochs=1", "seed=4294967295", "val_fraction=0", "train_fraction=1", "workers=256", "ema=0", "warmup_steps=0"]
    )
    config.check_ranges()


def test_what_was_assigned_is_checked_as_well():
    config = RunConfig()
    config.training.lr, config.data.workers = "fast", 3
    with pytest.raises(InputError, match=r"^--lr must be a number, got 'fast'[.]$"):
        config.check_ranges()


def test_a_wrong_type_does_not_hide_what_else_is_wrong():
    config = RunConfig()
    with pytest.raises(InputError) as caught:
        config.override(["epochs=0", "lr=fast", "learnrate=1", "ema", "loss=hinge", "val_fraction=2"])
    for words in ("--epochs", "training.lr", "'learnrate'", "no '='", "training.loss", "data.val_fraction"):
        assert words in str(caught.value)
