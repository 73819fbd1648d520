"""The moving average of the weights, against the formula written out."""

import contextlib
import copy
import json

import peft
import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

from convlora.errors import InputError
from convlora.training.averaging import WeightAverage
from convlora.training.checkpoint import load_state, save_state
from convlora.training.folder import last_checkpoint
from convlora.training.run import Interrupted, train
from convlora.training.sharding import trained_weights
from convlora.training.steps import skip_on_device
from convlora.training.trainer import SegmentationTrainer
from tests.helpers.no_sync import no_sync
from tests.training.test_run import InterruptAt, assert_equal_runs, weights_of


def written_out(weights, decay):
    """The average of a sequence of weights, of which the first are those of the start."""
    average = weights[0].double()
    for number, one in enumerate(weights[1:]):
        keep = min(decay, (1 + number) / (10 + number))
        average = keep * average + (1 - keep) * one.double()
    return average


def small_model():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))
    model[0].requires_grad_(False)
    return model


class Run:
    """Optimizer steps of a small model whose first layer is frozen."""

    def __init__(self, decay=0.3, fused=True):
        self.model = small_model()
        trained = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        self.optimizer = torch.optim.AdamW(trained, lr=0.1, fused=fused)
        self.average = WeightAverage(self.model, self.optimizer, decay)
        self.seen = [self.weight()]

    def weight(self):
        return self.model[2].weight.detach().clone()

    def averaged(self):
        with self.average.in_place():
            return self.weight()

    def backward(self, number):
        self.optimizer.zero_grad()
        pixels = torch.randn(5, 3, generator=torch.Generator().manual_seed(number))
        self.model(pixels).square().sum().backward()

    def step(self, number, skip=None):
        self.backward(number)
        if skip is not None:
            assert skip_on_device(self.optimizer, torch.tensor(float(skip)))
        self.optimizer.step()
        self.seen.append(self.weight())


@pytest.mark.parametrize("decay", [0.05, 0.3, 0.99])
def test_it_is_the_formula(decay):
    run = Run(decay)
    for number in range(8):
        run.step(number)
    torch.testing.assert_close(run.averaged().double(), written_out(run.seen, decay), rtol=1e-5, atol=1e-6)
    assert not torch.equal(run.averaged(), run.weight())


def test_a_step_that_is_skipped_on_the_device_leaves_no_trace():
    one, other = Run(0.5), Run(0.5)
    for number, skip in ((0, False), (7, True), (1, False), (8, True), (9, True), (2, False)):
        one.step(number, skip)
    for number in range(3):
        other.step(number)
    assert torch.equal(one.averaged(), other.averaged())
    assert float(one.average.state_dict()["updates"]) == 3


def test_nor_does_one_that_the_host_skips():
    one, other = Run(fused=False), Run(fused=False)
    for number in range(3):
        one.step(number)
        other.step(number)
        one.optimizer.zero_grad()
        one.optimizer.step()
    assert torch.equal(one.averaged(), other.averaged())


@pytest.mark.parametrize("fused", [True, False])
def test_nor_does_one_that_a_scaler_skips(fused):
    one, other = Run(fused=fused), Run(fused=fused)
    scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
    for number in range(4):
        one.backward(number)
        if number < 3:
            other.step(number)
        for parameter in one.optimizer.param_groups[0]["params"]:
            parameter.grad *= scaler.scale(torch.ones(())) if number < 3 else float("inf")
        scaler.step(one.optimizer)
        scaler.update()
    assert scaler.get_scale() == 2.0, "the last step was skipped"
    torch.testing.assert_close(one.averaged(), other.averaged(), rtol=1e-6, atol=1e-6)
    assert float(one.average.state_dict()["updates"]) == 3


def test_it_makes_no_host_wait():
    run = Run()
    skip = torch.zeros(())
    run.backward(0)
    with no_sync():
        skip_on_device(run.optimizer, skip)
        run.average._after_step(run.optimizer, (), {})
        with run.average.in_place():
            pass


def test_weights_are_exchanged_in_their_places_and_back():
    run = Run()
    for number in range(3):
        run.step(number)
    places = [parameter.data_ptr() for parameter in run.model.parameters()]
    before = copy.deepcopy(run.model.state_dict())
    with contextlib.suppress(ZeroDivisionError), run.average.in_place():
        assert [parameter.data_ptr() for parameter in run.model.parameters()] == places
        assert not torch.equal(run.model[2].weight, before["2.weight"])
        for name in ("0.weight", "1.running_mean", "1.num_batches_tracked"):
            assert torch.equal(run.model.state_dict()[name], before[name]), "frozen weights and buffers stay"
        _ = 1 / 0
    assert all(torch.equal(value, before[name]) for name, value in run.model.state_dict().items())
    assert set(run.average.state_dict()["weights"]) == {"1.weight", "1.bias", "2.weight", "2.bias"}


def test_it_goes_on_from_what_was_saved(tmp_path):
    run, other = Run(), Run()
    for number in range(4):
        run.step(number)
    save_state(tmp_path / "average.safetensors", run.average.state_dict())
    other.model.load_state_dict(run.model.state_dict())
    other.optimizer.load_state_dict(copy.deepcopy(run.optimizer.state_dict()))
    other.average.load_state_dict(load_state(tmp_path / "average.safetensors"))
    for one in (run, other):
        one.step(4)
    assert torch.equal(run.averaged(), other.averaged())


class SpreadRun(Run):
    """The same, with the weights spread over processes by FSDP."""

    def __init__(self):
        super().__init__()
        fully_shard(self.model, mesh=init_device_mesh("cpu", (1,)))  # the model is a root: it stays whole after a pass
        trained = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        self.optimizer = torch.optim.AdamW(trained, lr=0.1, fused=True)
        self.average = WeightAverage(self.model, self.optimizer, 0.3)

    def weight(self):
        return trained_weights(self.model)["2.weight"].clone()


@pytest.fixture
def one_process(tmp_path):
    """A group of one process, which FSDP asks for."""
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


@pytest.mark.usefixtures("one_process")
def test_weights_that_are_spread_over_processes(tmp_path):
    """Steps, an exchange between passes, and going on from what was saved are as without."""
    plain, spread, resumed = Run(), SpreadRun(), SpreadRun()
    pixels = torch.randn(5, 3)
    for number in range(3):
        for run in (plain, spread):
            run.step(number, skip=number == 1)
    answers = []
    for run in (plain, spread):
        with run.average.in_place(), torch.no_grad():
            averaged = run.model(pixels)
        answers.append([averaged, run.model(pixels)])
    for one, other in zip(*answers):
        torch.testing.assert_close(one, other)
    assert not torch.allclose(*answers[0])
    state, wanted = spread.average.state_dict(), plain.average.state_dict()
    assert state["updates"] == wanted["updates"] == 2
    for name, value in wanted["weights"].items():
        torch.testing.assert_close(state["weights"][name], value)
    save_state(tmp_path / "average.safetensors", state)
    resumed.average.load_state_dict(load_state(tmp_path / "average.safetensors"))
    torch.testing.assert_close(resumed.averaged(), plain.averaged())
    torch.testing.assert_close(resumed.weight(), resumed.seen[0])


@pytest.fixture(scope="module")
def averaged_run(make_config, tmp_path_factory):
    """A run of one epoch, three steps, and its weights before each of them."""
    folder, seen = tmp_path_factory.mktemp("averaged") / "run", []

    def training_step(self, *given, original=SegmentationTrainer.training_step):
        state = peft.get_peft_model_state_dict(self.model)
        seen.append({name: value.detach().clone() for name, value in state.items()})
        return original(self, *given)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SegmentationTrainer, "training_step", training_step)
        train(make_config(epochs=1, ema=0.15), folder)
    return folder, seen


def test_a_run_keeps_and_validates_the_average(averaged_run):
    folder, seen = averaged_run
    last = load_file(last_checkpoint(folder) / "adapter_model.safetensors")
    kept = weights_of(folder)
    assert kept.keys() == last.keys()
    for name, value in kept.items():
        sequence = [*(weights[name] for weights in seen), last[name]]
        torch.testing.assert_close(value.double(), written_out(sequence, 0.15), rtol=1e-5, atol=1e-7)
    assert any(not torch.equal(value, last[name]) for name, value in kept.items())
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics["history"][0]["iou"] == pytest.approx(metrics["val"]["iou"], abs=1e-6)


def test_the_average_changes_no_step(averaged_run, make_config, tmp_path):
    train(make_config(epochs=1), tmp_path / "plain")
    folder, _ = averaged_run
    logs = [(run / "log.jsonl").read_text().splitlines() for run in (folder, tmp_path / "plain")]
    without_time = [[{**json.loads(line), "seconds": 0} for line in log] for log in logs]
    assert without_time[0] == without_time[1]
    assert not list(last_checkpoint(tmp_path / "plain").glob("averaged*"))
    one, other = (json.loads((run / "metrics.json").read_text())["val"]["mae"] for run in (folder, tmp_path / "plain"))
    assert one != other, "or the test before would see nothing"


def test_interrupted_and_gone_on_with_bit_for_bit(make_config, tmp_path):
    """With everything that a schedule may have; two sittings within an epoch."""
    settings = {"ema": 0.9, "warmup_steps": 2, "lr_decoder": 3e-3, "patience": 9}
    train(make_config(**settings), tmp_path / "undisturbed")
    with pytest.raises(Interrupted):
        train(make_config(**settings), tmp_path / "run", reporter=InterruptAt(4))
    train(make_config(**settings), tmp_path / "run", resume=True)
    assert_equal_runs(tmp_path / "undisturbed", tmp_path / "run")
    last = [load_state(last_checkpoint(tmp_path / run) / "averaged_weights.safetensors") for run in
            ("undisturbed", "run")]  # fmt: skip
    assert last[0]["updates"] == last[1]["updates"] == 6
    assert all(torch.equal(value, last[1]["weights"][name]) for name, value in last[0]["weights"].items())
    with pytest.raises(InputError, match=r"training\.ema = 0\.5 instead of 0\.9"):
        train(make_config(**settings | {"ema": 0.5}), tmp_path / "run", resume=True)
