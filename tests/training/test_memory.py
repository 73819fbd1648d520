import pytest
import torch

from convlora.errors import RunError
from convlora.training import memory
from convlora.training.config import RunConfig
from convlora.training.memory import Plan, candidates, choose, plan_memory
from convlora.training.reporting import Silent
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
