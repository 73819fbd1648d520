from types import SimpleNamespace

import pytest
import torch

from convlora.errors import InputError, RunError
from convlora.reporting import Silent
from convlora.training import memory
from convlora.training.config import RunConfig, TrainingSettings
from convlora.training.memory import Plan, batches_of, candidates, choose, plan_memory, settle_batches
from convlora.training.run import train


def test_the_fastest_plan_comes_first():
    assert candidates(4) == [
        Plan(4, 1, False), Plan(2, 2, False), Plan(1, 4, False), Plan(4, 1, True), Plan(2, 2, True), Plan(1, 4, True),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("budget", "plan"),
    [
        (100, Plan(4, 1, False)),
        (40, Plan(4, 1, False)),
        (39, Plan(2, 2, False)),
        (10, Plan(1, 4, False)),
        (9, Plan(2, 2, True)),
        (3, Plan(1, 4, True)),
        (2, None),
    ],
)
def test_the_first_that_fits(budget, plan):
    assert choose(4, budget, one_plain=10, one_checkpointed=3) == plan


def test_without_room_to_try_the_plain_step():
    assert choose(2, 100, one_plain=None, one_checkpointed=3) == Plan(2, 1, True)


@pytest.mark.parametrize(
    ("settings", "batches"),
    [
        ({}, (1, 4)),
        ({"batch_size": 2}, (2, 2)),
        ({"batch_size": 3}, (3, 1)),
        ({"batch_size": 8}, (8, 1)),
        ({"grad_accum": 1}, (4, 1)),
        ({"grad_accum": 8}, (1, 8)),
        ({"batch_size": 2, "grad_accum": 8}, (2, 8)),
    ],
)
def test_what_is_left_open_makes_a_step_of_four(settings, batches):
    assert batches_of(TrainingSettings(**settings)) == batches


class Placed(torch.nn.Linear):
    """A model that stays where it is."""

    def __init__(self):
        super().__init__(1, 1)
        self.base_model = SimpleNamespace(model=SimpleNamespace(supports_gradient_checkpointing=True))

    def to(self, device):
        self.device = device
        return self


GPU = torch.device("cuda", 0)


@pytest.mark.parametrize(
    ("settings", "budget", "expected", "trials"),
    [
        ({}, 40, (4, 1, False), [False]),  # as it is, on a GPU that has room: one trial
        ({}, 39, (2, 2, False), [False, True]),
        ({"ema": 0.9}, 40 + 16, (4, 1, False), [False]),  # an average takes 16
        ({"ema": 0.9}, 39 + 16, (2, 2, False), [False, True]),
        ({}, 9, (2, 2, True), [False, True]),
        ({"activation_checkpointing": True}, 12, (4, 1, True), [True]),
        ({"batch_size": 1}, 40, (1, 4, False), []),  # what is asked for wins
        ({"grad_accum": 2}, 9, (2, 2, False), []),
        ({"memory": "auto", "batch_size": 2, "grad_accum": 1}, 9, (2, 1, True), [False, True]),
    ],
)
def test_a_gpu_takes_the_images_of_a_step_at_once_if_they_fit(monkeypatch, settings, budget, expected, trials):
    made = []

    def trial(*args, checkpointing):
        made.append(checkpointing)
        return 3.0 if checkpointing else 10.0

    monkeypatch.setattr(memory, "_trial", trial)
    monkeypatch.setattr(memory, "_free_bytes", lambda device: (budget + 24) / 0.9)  # the optimizer takes 24
    chosen = TrainingSettings(**settings)
    settle_batches(chosen, Placed(), (64, 64), GPU, "bf16", lambda text: None)
    assert (chosen.batch_size, chosen.grad_accum, chosen.activation_checkpointing) == expected
    assert chosen.memory == "given"
    assert made == trials


def test_nothing_is_tried_on_a_cpu_or_with_weights_spread_over_processes(monkeypatch):
    monkeypatch.setattr(memory, "_trial", None)  # would fail if it were called
    chosen = TrainingSettings()
    settle_batches(chosen, Placed(), (64, 64), torch.device("cpu"), "fp32", lambda text: None)
    assert (chosen.batch_size, chosen.grad_accum) == (1, 4)
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    chosen = TrainingSettings()
    settle_batches(chosen, Placed(), (64, 64), GPU, "bf16", lambda text: None)
    assert (chosen.batch_size, chosen.grad_accum) == (1, 4)


def test_memory_is_measured_on_cpus_and_cuda_only():
    with pytest.raises(InputError, match="cannot measure what a step takes on the device 'mps'"):
        settle_batches(
            TrainingSettings(memory="auto"), Placed(), (64, 64), torch.device("mps"), "fp32", lambda text: None
        )


def test_a_trial_that_runs_out_of_memory_in_a_library_of_cuda(monkeypatch):
    from convlora.methods.registry import apply_method
    from convlora.models import SamForSemanticSegmentation
    from convlora.models.layer_names import sam_layers
    from tests.helpers.models import tiny_sam

    model = apply_method(
        SamForSemanticSegmentation.from_sam(tiny_sam()),
        "decoder",
        {},
        targets=sam_layers,
        modules_to_save=["mask_decoder"],
    )

    def fail(*args, **kwargs):
        raise RuntimeError(fail.message)

    monkeypatch.setattr(model, "forward", fail)
    fail.message = "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"
    assert memory._trial(model, (64, 64), torch.device("cpu"), "fp32", checkpointing=True) is None
    fail.message = "shape mismatch"
    with pytest.raises(RuntimeError, match="shape mismatch"):
        memory._trial(model, (64, 64), torch.device("cpu"), "fp32", checkpointing=True)


class Listen(Silent):
    def __init__(self):
        self.messages = []

    def message(self, text):
        self.messages.append(text)


@pytest.mark.parametrize(("free", "checkpointing"), [(1e12, False), (None, True)])
def test_a_run_says_what_it_picked_and_writes_it_down(make_config, tmp_path, monkeypatch, free, checkpointing):
    # The trial steps of a tiny model are too small to be measured: they are given sizes.
    sizes = {True: 2e8, False: 9e8}
    monkeypatch.setattr(memory, "_trial", lambda *args, checkpointing: sizes[checkpointing])
    monkeypatch.setattr(memory, "_free_bytes", lambda device: free or 1.4e9)
    listen = Listen()
    train(make_config(max_steps=1, memory="auto", batch_size=4), tmp_path / "run", reporter=listen)
    picked = [text for text in listen.messages if text.startswith("Memory:")]
    assert len(picked) == 1
    saved = RunConfig.load(tmp_path / "run" / "config.yaml").training
    assert saved.batch_size * saved.grad_accum == 4
    assert saved.activation_checkpointing is checkpointing
    assert saved.memory == "given", "the run is repeated as it was"


def test_a_trial_measures_and_leaves_no_trace(make_config, tmp_path):
    settings = {"max_steps": 1, "batch_size": 4}
    train(make_config(**settings), tmp_path / "given")
    listen = Listen()
    train(make_config(memory="auto", **settings), tmp_path / "auto", reporter=listen)
    assert "Memory: batch size 4, 1 batches per step, without checkpointing." in listen.messages
    from safetensors.torch import load_file

    one, two = (load_file(tmp_path / name / "adapter" / "adapter_model.safetensors") for name in ("given", "auto"))
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_too_little_memory_is_said(make_config, tmp_path, monkeypatch):
    monkeypatch.setattr(memory, "_free_bytes", lambda device: 1e5)
    with pytest.raises(RunError, match="Lower --image-size"):
        train(make_config(memory="auto"), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_larger_image_takes_more():
    from convlora.methods.registry import apply_method
    from convlora.models import SamForSemanticSegmentation
    from convlora.models.layer_names import sam_layers
    from tests.helpers.models import tiny_sam

    taken = []
    for size in (256, 512):
        base = SamForSemanticSegmentation.from_sam(tiny_sam(), image_size=size)
        model = apply_method(base, "lora", {}, targets=sam_layers, modules_to_save=["mask_decoder"])
        taken.append(memory._trial(model, (size, size), torch.device("cpu"), "fp32", checkpointing=False))
        assert not model.base_model.model.is_activation_checkpointing
        assert all(p.grad is None for p in model.parameters())
    assert taken[1] > taken[0] > 0
    assert plan_memory(model, (512, 512), 2, torch.device("cpu"), "fp32", lambda text: None).batch_size >= 1
