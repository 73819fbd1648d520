"""An optimizer step makes the host wait for nothing, so that the device is never idle."""

import contextlib

import pytest
import torch

from convlora.data.synthetic import write_task
from convlora.losses import mask_classification
from convlora.training import run
from convlora.training.config import RunConfig
from convlora.training.run import train
from convlora.training.trainer import SegmentationTrainer
from tests.helpers.no_sync import no_sync

TASKS = {  # head, method, batches per step, copies that the host waits for
    "conv-lora": ("auto", "conv-lora", 2, 0),
    "lora": ("auto", "lora", 1, 0),
    "classes per pixel": ("per-pixel", "conv-lora", 1, 0),
    "mask classification": ("mask-classification", "conv-lora", 1, 1),
}


@pytest.fixture(scope="module")
def town(tmp_path_factory):
    return write_task("town", tmp_path_factory.mktemp("town"), num_train=6, num_val=1, num_test=1, size=(64, 80))


@pytest.fixture
def make(blobs, town, tiny_sam_folder, monkeypatch):
    monkeypatch.setattr(SegmentationTrainer, "read_every", 10)
    monkeypatch.setattr(run, "finish", lambda made, fit, images: {"skipped_steps": fit.trainer.account.skipped_steps})

    def config_of(task, device):
        head, method, grad_accum, _ = TASKS[task]
        config = RunConfig()
        settings = {"epochs": 1, "batch_size": 2 // grad_accum, "grad_accum": grad_accum, "device": device, "ema": 0.9}
        data = {"path": str(blobs if head == "auto" else town)}
        model = {"source": str(tiny_sam_folder), "head": head}
        config.update({"data": data, "model": model, "training": settings}, origin="the test")
        config.method.name = method
        return config

    return config_of


def watch_second_step(monkeypatch, watch, reading):
    """Runs the second of three steps in a context, all that comes after reading its images or, on request, that too."""
    stack = contextlib.ExitStack()
    seen = []

    def begin(self):
        if self.state.global_step == 1 and not seen:
            seen.append(stack.enter_context(watch()))

    def training_step(self, *given, original=SegmentationTrainer.training_step):
        begin(self)
        return original(self, *given)

    def after_step(self, *given, original=SegmentationTrainer._maybe_log_save_evaluate, **named):
        original(self, *given, **named)
        stack.close()
        if reading:
            begin(self)

    monkeypatch.setattr(SegmentationTrainer, "training_step", training_step)
    monkeypatch.setattr(SegmentationTrainer, "_maybe_log_save_evaluate", after_step)
    return seen


@pytest.mark.parametrize("task", TASKS)
def test_a_step_does_not_wait_for_the_device(make, monkeypatch, tmp_path, task):
    copies = TASKS[task][-1]
    seen = watch_second_step(monkeypatch, lambda: no_sync(copies), reading=False)
    train(make(task, "cpu"), tmp_path / "run")
    assert [one.made for one in seen] == [copies]


def test_nor_does_one_that_is_skipped(make, monkeypatch, tmp_path):
    lost = []
    watch_second_step(monkeypatch, no_sync, reading=False)
    compute_loss = SegmentationTrainer.compute_loss

    def spoiled(self, *given, **named):
        lost.append(self.state.global_step)
        return compute_loss(self, *given, **named) * (float("nan") if self.state.global_step == 1 else 1.0)

    monkeypatch.setattr(SegmentationTrainer, "compute_loss", spoiled)
    assert train(make("lora", "cpu"), tmp_path / "run") == {"skipped_steps": 1}
    assert lost == [0, 1, 2]


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
@pytest.mark.parametrize("task", TASKS)
def test_a_step_on_a_gpu_does_not_wait(make, monkeypatch, tmp_path, task, precision):
    """PyTorch itself looks, from the reading of the images on."""
    copies = []

    @contextlib.contextmanager
    def watch(mode="error"):
        before = torch.cuda.get_sync_debug_mode()
        torch.cuda.set_sync_debug_mode(mode)
        try:
            yield
        finally:
            torch.cuda.set_sync_debug_mode(before)

    def to_host(values, original=mask_classification._to_host):
        copies.append(torch.cuda.get_sync_debug_mode())
        with watch("default"):
            return original(values)

    monkeypatch.setattr(mask_classification, "_to_host", to_host)
    seen = watch_second_step(monkeypatch, watch, reading=True)
    config = make(task, "cuda")
    config.training.precision = precision
    config.data.workers = 0
    assert train(config, tmp_path / "run") == {"skipped_steps": 0}
    assert len(seen) == 1
    assert sum(mode == 2 for mode in copies) == TASKS[task][-1]
