"""What a GPU computes, against the CPU. Run with `pytest -m gpu tests/test_gpu.py`."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from convlora.methods.registry import METHODS
from convlora.training.run import Interrupted, train
from tests.helpers.direct_experts import use_direct_experts
from tests.helpers.interrupt_at import InterruptAt
from tests.helpers.parity import difference, gradients, small_batch, small_model

pytestmark = pytest.mark.gpu
CPU, GPU = torch.device("cpu"), torch.device("cuda")
# Relative, of whole models and their gradients in single precision: sums in another order through all layers.
NEAR = 1e-3
# Half precision rounds in every layer, and a gate near a tie then chooses another expert: the loss hardly moves, single
# gradients may.
NEAR_IN_BF16 = 1e-2


def assert_near(found, expected):
    apart = difference(found, expected)
    assert apart["loss"] < NEAR, apart
    assert apart["gradient"] < NEAR, apart


@pytest.mark.parametrize("method", METHODS)
def test_loss_and_gradients_of_a_method(method):
    model, batch = small_model(method), small_batch()
    expected = gradients(model, batch, CPU, "fp32")
    assert_near(gradients(model, batch, GPU, "fp32"), expected)
    half = gradients(model, batch, GPU, "bf16")
    assert difference(half, expected)["loss"] < NEAR_IN_BF16
    assert torch.isfinite(half.vector).all()


@pytest.mark.parametrize("form", ["vectors", "blocks", "sdpa", "eager"])
def test_forms_of_the_attention(form):
    batch = small_batch()
    expected = gradients(small_model(attention="eager"), batch, CPU, "fp32")
    assert_near(gradients(small_model(attention=form), batch, GPU, "fp32"), expected)


def test_the_experts_are_as_the_formula_says():
    batch, direct = small_batch(), small_model()
    use_direct_experts(direct)
    assert_near(gradients(small_model(), batch, GPU, "fp32"), gradients(direct, batch, CPU, "fp32"))


@pytest.mark.parametrize("method", ["lora", "conv-lora"])
def test_the_host_never_waits_within_the_encoder(method):
    encoder = small_model(method).to(GPU).base_model.model.vision_encoder
    pixels = small_batch()["pixel_values"].to(GPU)
    encoder(pixels).last_hidden_state.sum().backward()  # makes what is made once
    torch.cuda.set_sync_debug_mode("error")
    try:
        encoder(pixels).last_hidden_state.sum().backward()
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.fixture(scope="module")
def gpu_run(tmp_path_factory, make_config):
    folder = tmp_path_factory.mktemp("gpu") / "run"
    metrics = train(make_config(device=GPU.type), folder)
    return folder, metrics


def test_a_run_uses_the_gpu(gpu_run):
    folder, metrics = gpu_run
    assert metrics["device"] == torch.cuda.get_device_name()
    assert metrics["peak_memory_mb"] > 0
    losses = [json.loads(line)["loss"] for line in (folder / "log.jsonl").read_text().splitlines()]
    assert len(losses) == 6
    assert all(isinstance(loss, float) and loss > 0 for loss in losses)


def test_commands_on_a_gpu_agree_with_a_cpu(gpu_run, blobs, convlora, tmp_path):
    """In single precision, the masks of a run are the same but for pixels on the edge of a class."""
    run, _ = gpu_run
    scores = []
    for device in (GPU.type, "cpu"):
        common = ("--device", device, "--precision", "fp32")
        code, out, told = convlora("evaluate", run, blobs, *common, "--json")
        assert code == 0, told
        scores.append(json.loads(out)["iou"])
        images = blobs / "test" / "images"
        code, _, told = convlora("predict", run, images, "--output", tmp_path / device, *common)
        assert code == 0, told
    assert scores[0] == pytest.approx(scores[1], abs=0.005)
    masks = sorted(path.relative_to(tmp_path / "cpu") for path in (tmp_path / "cpu").rglob("*.png"))
    assert masks
    for mask in masks:
        here, there = (np.asarray(Image.open(tmp_path / device / mask)) for device in (GPU.type, "cpu"))
        assert (here != there).mean() <= 0.005, mask


def test_interrupted_and_resumed_equals_uninterrupted(gpu_run, make_config, tmp_path):
    with pytest.raises(Interrupted):
        train(make_config(device=GPU.type), tmp_path / "run", reporter=InterruptAt(4))
    train(make_config(device=GPU.type), tmp_path / "run", resume=True)
    whole, resumed = (
        load_file(run / "adapter" / "adapter_model.safetensors") for run in (gpu_run[0], tmp_path / "run")
    )
    assert whole.keys() == resumed.keys()
    assert [name for name in whole if not torch.equal(whole[name], resumed[name])] == []
