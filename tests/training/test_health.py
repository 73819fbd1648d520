"""Trouble in training: what is skipped, what is said, and what stops a run."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from convlora.data.classes.class_table import ClassTable
from convlora.errors import RunError
from convlora.methods.conv_lora.balance import count_choices, expert_usage
from convlora.metrics import BinaryScores, MultiClassScores
from convlora.models.segmenter import SamForSemanticSegmentation
from convlora.reporting import Silent
from convlora.training.health import Health, constant_answer, likely_cause
from convlora.training.model import build_model
from convlora.training.run import Interrupted, train
from convlora.training.trainer import SegmentationTrainer
from convlora.training.validation import check_settings
from tests.helpers.messages import says
from tests.training.test_run import InterruptAt, weights_of


class Heard(Silent):
    def __init__(self):
        self.messages = []

    def message(self, text):
        self.messages.append(text)


@pytest.fixture
def spoil(monkeypatch):
    """Makes the loss of chosen forward passes in training nan."""

    def arm(steps):
        whole, count = SamForSemanticSegmentation.loss_of, [0]

        def loss_of(self, *args):
            count[0] += 1
            return whole(self, *args) * (float("nan") if count[0] in steps else 1)

        monkeypatch.setattr(SamForSemanticSegmentation, "loss_of", loss_of)

    return arm


def log_of(run):
    return [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]


def test_a_step_without_a_finite_loss_changes_nothing(make_config, tmp_path, spoil):
    spoil({2})
    heard = Heard()
    config = make_config(epochs=1, max_steps=2)
    metrics = train(config, tmp_path / "two", reporter=heard)
    assert metrics["skipped_steps"] == 1
    assert "Warning: The loss of step 2 is not a finite number; the step is skipped." in heard.messages
    one, two = log_of(tmp_path / "two")
    assert one["loss"] is not None
    assert (two["loss"], two["task_loss"]) == (None, None)
    spoil(set())
    # The same run, stopped after its first step: the schedule is that of two steps.
    config = make_config(epochs=1, max_steps=2)
    with pytest.raises(Interrupted, match="after step 1"):
        train(config, tmp_path / "one", reporter=InterruptAt(1))
    after_one = load_file(tmp_path / "one" / "checkpoints" / "checkpoint-1" / "adapter_model.safetensors")
    after_two = load_file(tmp_path / "two" / "checkpoints" / "checkpoint-2" / "adapter_model.safetensors")
    assert [name for name in after_one if not torch.equal(after_one[name], after_two[name])] == []


def test_a_scaler_that_sees_no_clipping_skips_such_a_step_too(make_config, tmp_path, spoil, monkeypatch):
    """As with fp16 on a GPU: the gradients of step 2 of three are nan, and the Trainer does not clip."""
    whole, scalers = SegmentationTrainer.__init__, []

    def with_scaler(self, **settings):
        whole(self, **settings)
        self.precision, self.accelerator.native_amp = "fp16", True
        self.accelerator.state._mixed_precision = "fp16"
        self.accelerator.scaler = torch.amp.GradScaler("cpu", init_scale=8.0)
        scalers.append(self.accelerator.scaler)

    monkeypatch.setattr(SegmentationTrainer, "__init__", with_scaler)
    norms = []
    for max_grad_norm in (1e9, 0.0):
        config = make_config(epochs=1, max_steps=3, max_grad_norm=max_grad_norm)
        spoil({2})
        metrics = train(config, tmp_path / str(max_grad_norm))
        assert metrics["skipped_steps"] == 1
        assert scalers[-1].get_scale() == 4.0, "it saw the step"
        norms.append([line["grad_norm"] for line in log_of(tmp_path / str(max_grad_norm))])
    assert norms[0][0] == pytest.approx(norms[1][0])
    assert norms[0][2] == pytest.approx(norms[1][2])
    assert norms[0][2] < 8


def test_gradients_may_be_at_fault_too(make_config, tmp_path, monkeypatch):
    """A finite loss whose gradient is not."""
    whole = SamForSemanticSegmentation.loss_of

    def loss_of(self, *args):
        weight = next(p for p in self.mask_decoder.parameters() if p.requires_grad)
        return whole(self, *args) + torch.sqrt(weight.sum() * 0)

    monkeypatch.setattr(SamForSemanticSegmentation, "loss_of", loss_of)
    with pytest.raises(RunError, match=r"in 5 steps in a row, up to step 5.*the last good weights are kept"):
        train(make_config(epochs=5), tmp_path / "run")


def test_several_in_a_row_stop_the_run_with_good_weights(make_config, tmp_path, spoil):
    spoil(set(range(2, 99)))
    with pytest.raises(RunError) as caught:
        train(make_config(epochs=9), tmp_path / "run")
    says(caught.value.args[0], "not a finite number", "5 steps", "step 6", tmp_path / "run" / "adapter", "lower --lr")
    assert all(torch.isfinite(value).all() for value in weights_of(tmp_path / "run").values())


def test_a_run_that_is_looked_at_now_and_then_stops_late(make_config, tmp_path, spoil, monkeypatch):
    """As on a GPU: the five steps are known at the end of the epoch of six, whose last is well."""
    monkeypatch.setattr(SegmentationTrainer, "read_every", 10)
    spoil({1, 2, 3, 4, 5})
    heard = Heard()
    with pytest.raises(RunError, match=r"in 5 steps in a row, up to step 5, .*the last good weights are kept"):
        train(make_config(batch_size=1), tmp_path / "run", reporter=heard)
    assert "Warning: The loss of step 1 is not a finite number; the step is skipped." in heard.messages
    assert [(line["step"], line["loss"]) for line in log_of(tmp_path / "run")] == [(step, None) for step in range(1, 5)]
    assert all(torch.isfinite(value).all() for value in weights_of(tmp_path / "run").values())


def test_even_if_no_epoch_was_finished(make_config, tmp_path, spoil):
    spoil(set(range(1, 99)))
    with pytest.raises(RunError, match="up to step 5"):
        train(make_config(epochs=9, batch_size=1), tmp_path / "run")
    assert all(torch.isfinite(value).all() for value in weights_of(tmp_path / "run").values())


def test_weights_that_were_spoiled_are_not_called_good(make_config, tmp_path):
    with pytest.raises(RunError, match=r"no weights are kept, because the last finite step had spoiled them"):
        train(make_config(epochs=9, batch_size=1, lr=1e6), tmp_path / "run")
    assert not (tmp_path / "run" / "adapter").exists()


def test_skipped_steps_are_remembered_by_a_resumed_run(make_config, tmp_path, spoil):
    spoil({1, 2})
    with pytest.raises(Interrupted):
        train(make_config(), tmp_path / "run", reporter=InterruptAt(3))
    spoil(set())
    assert train(make_config(), tmp_path / "run", resume=True)["skipped_steps"] == 2


def test_warnings_are_not_repeated_by_a_resumed_run(make_config, tmp_path):
    def config():
        made = make_config()
        made.method.options = {"gate_noise": False}
        return made

    class Stopped(InterruptAt, Heard):
        def __init__(self):
            InterruptAt.__init__(self, 4)
            Heard.__init__(self)

    heard = Stopped()
    with pytest.raises(Interrupted):
        train(config(), tmp_path / "run", reporter=heard)
    assert sum("the gate sent" in text for text in heard.messages) == 1
    heard = Heard()
    train(config(), tmp_path / "run", resume=True, reporter=heard)
    assert not any("the gate sent" in text for text in heard.messages)


def test_the_usual_norm_is_remembered():
    heard = Heard()
    classes = ClassTable(("background", "crack"))
    before, after = Health(heard, classes, 1.0), Health(heard, classes, 1.0)
    for step in range(12):
        before.look_at_norm(1.0, step)
    after.load_state_dict(json.loads(json.dumps(before.state_dict())))
    after.look_at_norm(150.0, 13)
    assert "have the norm 150, where 1 was usual" in heard.messages[0]


def test_causes():
    assert "fp16" in likely_cause("fp16", 1.0)
    assert "grown to 5e+04" in likely_cause("fp32", 5e4)
    assert likely_cause("bf16", None) == "Try a lower --lr, or --precision fp32."


def binary(answers, truth):
    scores = BinaryScores(structure=False)
    scores.update(np.asarray(answers, dtype=float), np.asarray(truth))
    return scores


def test_constant_answers():
    assert constant_answer(binary([[0.1, 0.2]], [[0, 1]])) == 0
    assert constant_answer(binary([[0.9, 0.9]], [[0, 1]])) == 1
    assert constant_answer(binary([[0.9, 0.2]], [[0, 1]])) is None
    assert constant_answer(binary([[0.1, 0.2]], [[0, 0]])) is None, "which is right"
    scores = MultiClassScores(("a", "b", "c"), boundaries=False)
    scores.update(np.array([[2, 2]]), np.array([[0, 2]]))
    assert constant_answer(scores) == 2


def test_each_trouble_is_said_once_and_in_words():
    heard = Heard()
    health = Health(heard, ClassTable(("background", "crack")), 1.0)
    for epoch in (1, 2):
        health.look_at_answers(binary([[0.1, 0.2]], [[0, 1]]), epoch)
        health.look_at_gate(torch.tensor([1.0, 97.0, 2.0]), epoch)
    health.look_at_gate(torch.tensor([50.0, 50.0]), 3)
    health.look_at_gate(None, 3)
    for step, norm in enumerate([1.0] * 12 + [float("inf"), 150.0, 900.0]):
        health.look_at_norm(norm, step)
    answers, gate, norm = heard.messages
    says(answers, "Warning: ", "epoch 1", "'background'", "higher --lr", "convlora data check")
    says(gate, "Warning: ", "epoch 1", "97%", "expert 1", "method.load_balancing_weight", "method.gate_noise=true")
    says(norm, "Warning: ", "step 13", "150", "clipped to 1", "lower --lr")


def test_a_collapsed_gate_is_noticed_in_training(make_config, tmp_path):
    """Without noise a gate that starts at zero sends everything to the first expert."""
    heard = Heard()
    config = make_config(epochs=1)
    config.method.options = {"gate_noise": False}
    train(config, tmp_path / "run", reporter=heard)
    assert any("the gate sent 100% of the feature maps to expert 0" in text for text in heard.messages)
    heard = Heard()
    train(make_config(epochs=1), tmp_path / "noisy", reporter=heard)
    assert not any("the gate" in text for text in heard.messages)


def test_choices_are_counted_once_even_with_checkpointing(make_config):
    config = make_config()
    check_settings(config)
    model = build_model(config, ClassTable(("a", "b"))).train()
    assert expert_usage(model) is None

    def choices():
        count_choices(model)
        model(pixel_values=torch.randn(3, 3, 64, 64), labels=torch.ones(3, 64, 64, dtype=torch.long)).loss.backward()
        return expert_usage(model).sum()

    plain = choices()
    assert plain > 0
    model.base_model.model.gradient_checkpointing_enable({"use_reentrant": False})
    assert choices() == plain
    model.eval()(pixel_values=torch.randn(3, 3, 64, 64))
    assert expert_usage(model).sum() == plain, "only training is counted"
