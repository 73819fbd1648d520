"""Runs whose passes are recorded, by a stand-in for CUDA graphs."""

import json

import pytest
import torch
from safetensors.torch import load_file

from convlora.models.replay import CannotRecordError, Repeater
from convlora.reporting import Silent
from convlora.training import fit
from convlora.training.passes import choose_recorder
from convlora.training.run import Interrupted, train
from tests.helpers.interrupt_at import InterruptAt

CPU, GPU = torch.device("cpu"), torch.device("cuda")


@pytest.fixture
def made(monkeypatch):
    """The passes of each run made in the test, all recorded."""
    passes = []
    original = fit.Passes

    def keep(*args, **kwargs):
        passes.append(original(*args, **kwargs))
        return passes[-1]

    monkeypatch.setattr(fit, "Passes", keep)
    monkeypatch.setattr(fit, "choose_recorder", lambda *args, **kwargs: Repeater())
    return passes


def losses_of(folder):
    return [json.loads(line)["loss"] for line in (folder / "log.jsonl").read_text().splitlines()]


def weights_of(folder):
    return load_file(folder / "adapter" / "adapter_model.safetensors")


@pytest.mark.parametrize(("grad_accum", "replayed", "ordinary"), [(1, 2, 2), (4, 2, 2)])
def test_a_recorded_run_equals_an_ordinary_one(
    make_config, tmp_path, made, monkeypatch, grad_accum, replayed, ordinary
):
    """Of six images in batches of four, the last two of each epoch make a batch that was not recorded."""
    settings = {"batch_size": 4, "grad_accum": grad_accum}
    train(make_config(**settings), tmp_path / "recorded")
    assert [(one.replayed, one.ordinary) for one in made] == [(2, 2)]
    monkeypatch.setattr(fit, "choose_recorder", lambda *args, **kwargs: None)
    train(make_config(**settings), tmp_path / "ordinary")
    assert made[1].replayed == 0
    assert losses_of(tmp_path / "recorded") == pytest.approx(losses_of(tmp_path / "ordinary"), rel=1e-5)
    one, two = weights_of(tmp_path / "recorded"), weights_of(tmp_path / "ordinary")
    for name, weight in one.items():
        torch.testing.assert_close(weight, two[name], rtol=1e-3, atol=1e-4, msg=name)


def test_a_recorded_run_resumes_bit_for_bit(make_config, tmp_path, made):
    train(make_config(), tmp_path / "whole")
    with pytest.raises(Interrupted):
        train(make_config(), tmp_path / "resumed", reporter=InterruptAt(4))
    train(make_config(), tmp_path / "resumed", resume=True)
    assert all(one.replayed for one in made)
    one, two = weights_of(tmp_path / "whole"), weights_of(tmp_path / "resumed")
    assert [name for name in one if not torch.equal(one[name], two[name])] == []
    assert losses_of(tmp_path / "whole") == losses_of(tmp_path / "resumed")


def test_what_cannot_be_recorded_is_trained_all_the_same_and_said_once(make_config, tmp_path, made, monkeypatch):
    class Refusing(Repeater):
        def record(self, work):
            raise CannotRecordError("not today")

    class Listening(Silent):
        said: list[str] = []  # noqa: RUF012

        def message(self, text):
            self.said.append(text)

    monkeypatch.setattr(fit, "choose_recorder", lambda *args, **kwargs: Refusing())
    train(make_config(), tmp_path / "run", reporter=Listening())
    assert [text for text in Listening.said if "not today" in text] != []
    assert len([text for text in Listening.said if "recorded" in text]) == 1
    assert (made[0].replayed, made[0].ordinary) == (0, 6)


@pytest.mark.parametrize("problem", [{"processes": 2}, {"checkpointing": True}, {"cache": True}])
def test_what_forbids_recording_is_said(problem):
    said = []
    settings = {"processes": 1, "checkpointing": False, "cache": False} | problem
    assert choose_recorder("auto", GPU, **settings, tell=said.append) is None
    assert len(said) == 1


def test_nothing_is_recorded_on_a_cpu_or_where_it_is_not_wanted():
    said = []
    settings = {"processes": 1, "checkpointing": False, "cache": False, "tell": said.append}
    assert choose_recorder("auto", CPU, **settings) is None
    assert choose_recorder("none", GPU, **settings) is None
    assert said == []
