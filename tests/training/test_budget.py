"""Training for a given time, with a clock that tells what the test wants."""

import os
import signal
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file

from convlora.errors import InputError
from convlora.reporting import Silent
from convlora.training import budget, fit
from convlora.training.arguments import MOST_VALIDATIONS, epochs_between_validations, planned_steps
from convlora.training.config import RunConfig
from convlora.training.folder import last_checkpoint
from convlora.training.run import Interrupted, train


class Clock:
    """Goes on by two seconds whenever somebody looks."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        self.now += 2.0
        return self.now


@pytest.fixture
def clock(monkeypatch):
    made = Clock()
    whole = budget.steps_within
    monkeypatch.setattr(fit, "steps_within", lambda seconds, args, **more: whole(seconds, args, clock=made, **more))
    return made


class Listen(Silent):
    def __init__(self, interrupt_at=None):
        self.messages, self.at = [], interrupt_at

    def message(self, text):
        self.messages.append(text)

    def step(self, step, epoch, loss):
        if step == self.at:
            os.kill(os.getpid(), signal.SIGINT)


def weights_of(folder):
    return load_file(folder / "adapter" / "adapter_model.safetensors")


def equal(one, two):
    return one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)


def test_it_is_the_run_of_the_steps_that_fit(make_config, tmp_path, clock, monkeypatch):
    """Also where it was interrupted. In bf16, for which the model is wrapped, once, when it is timed."""
    listen = Listen()
    metrics = train(make_config(budget_seconds=7, precision="bf16"), tmp_path / "time", reporter=listen)
    # Three steps were timed: they began at 2, at 4 it was enough, they ended at 6.
    assert listen.messages[-1] == "A step takes 1.33 s: 5 steps make 7 s of training."
    assert metrics["steps"] == 5
    saved = RunConfig.load(tmp_path / "time" / "config.yaml").training
    assert (saved.budget_seconds, saved.max_steps) == (7, 5)
    train(make_config(max_steps=5, epochs=100, precision="bf16"), tmp_path / "steps")
    assert equal(weights_of(tmp_path / "time"), weights_of(tmp_path / "steps"))

    with pytest.raises(Interrupted):
        train(make_config(budget_seconds=7, precision="bf16"), tmp_path / "run", reporter=Listen(interrupt_at=4))
    monkeypatch.setattr(fit, "steps_within", None)  # would fail if it were called
    assert train(make_config(budget_seconds=7, precision="bf16"), tmp_path / "run", resume=True)["steps"] == 5
    assert equal(weights_of(tmp_path / "run"), weights_of(tmp_path / "steps"))
    with pytest.raises(InputError, match="budget_seconds = 20"):
        train(make_config(budget_seconds=20), tmp_path / "run", resume=True)


@pytest.mark.parametrize(("enough", "steps"), [(10.0, 10), (0.1, budget.FEWEST_STEPS)])
def test_timing_lasts_a_share_of_the_time(enough, steps):
    state = SimpleNamespace(global_step=0, should_training_stop=False)
    pace = budget.Pace(enough, clock=lambda: 100 if state.global_step < 3 else state.global_step - 3)  # slow to start
    while not state.should_training_stop:
        state.global_step += 1
        pace.on_step_end(SimpleNamespace(device=torch.device("cpu")), state, state)
    assert state.global_step == budget.WARM_UP_STEPS + steps
    assert pace.seconds_per_step == 1.0


def test_another_budget_forgets_the_steps_of_the_one_before():
    config = RunConfig()
    config.update({"training": {"max_steps": 7, "budget_seconds": 10}}, origin="the test")
    assert (config.training.budget_seconds, config.training.max_steps) == (10, 7)
    config.update({"training": {"budget_seconds": 10.0}}, origin="the test")
    assert config.training.max_steps == 7
    config.override(["budget_seconds=20"])
    assert (config.training.budget_seconds, config.training.max_steps) == (20, None)


@pytest.mark.parametrize(("steps", "every"), [(1, 1), (3 * MOST_VALIDATIONS, 1), (3 * MOST_VALIDATIONS + 1, 2)])
def test_short_epochs_are_not_all_validated(make_config, steps, every):
    config = make_config(budget_seconds=10, max_steps=steps, epochs=1)
    assert planned_steps(config, 6, 1) == steps, "whatever the epochs"
    assert epochs_between_validations(config, 6, 1) == every
    assert epochs_between_validations(make_config(max_steps=steps, epochs=1000), 6, 1) == 1
    assert epochs_between_validations(make_config(max_steps=steps, epochs=None), 6, 1) == every


def test_interrupted_between_two_validations(make_config, tmp_path, monkeypatch):
    """At the end of an epoch that is not validated."""
    monkeypatch.setattr("convlora.training.arguments.MOST_VALIDATIONS", 2)
    config = {"budget_seconds": 10, "max_steps": 7}  # 3 epochs of 3 steps
    metrics = train(make_config(**config), tmp_path / "whole")
    assert [entry["step"] for entry in metrics["history"]] == [6, 7]
    with pytest.raises(Interrupted):
        train(make_config(**config), tmp_path / "run", reporter=Listen(interrupt_at=3))
    assert last_checkpoint(tmp_path / "run").name == "checkpoint-3"
    assert train(make_config(**config), tmp_path / "run", resume=True)["history"] == metrics["history"]
    assert equal(weights_of(tmp_path / "run"), weights_of(tmp_path / "whole"))


@pytest.mark.parametrize(
    ("other", "words"),
    [
        ("--epochs", "--epochs 3 has no effect with --budget-seconds, which says how long to train"),
        ("--max-steps", "--budget-seconds (here 10) and --max-steps both say how long to train"),
    ],
)
def test_two_lengths_are_one_too_many(convlora, blobs, tmp_path, other, words):
    code, _, told = convlora("train", blobs, "--output", tmp_path / "r", "--budget-seconds", 10, other, 3)
    assert code == 2
    assert words in " ".join(told.split())


@pytest.mark.parametrize("seconds", ["0", "-1", ".inf", ".nan"])
def test_times_that_cannot_be(blobs, tmp_path, make_config, seconds):
    config = make_config()
    config.override([f"budget_seconds={seconds}"])
    with pytest.raises(InputError, match=r"--budget-seconds must be .*above 0"):
        train(config, tmp_path / "run")
