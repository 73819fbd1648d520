"""Whether a GPU computes what a CPU does: loss and gradients of every method and form, replayed steps, resumed runs."""

from __future__ import annotations

import os
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from kinds import trained_parameters
from safetensors.torch import load_file
from tests.helpers.direct_experts import use_direct_experts
from tests.helpers.parity import Gradients, difference, exact_float32, gradients, small_batch, small_model

from convlora.data.synthetic import write_task
from convlora.reporting import Silent
from convlora.training.config import RunConfig
from convlora.training.run import Interrupted, train
from gpu_parts.session import Plan, Task
from gpu_parts.stepping import make_step

CPU = torch.device("cpu")
# Relative to the CPU's single precision. Half precision rounds every layer, so that gates may choose other experts: it
# is reported beside the CPU's own, and only has to be near.
LIMIT = 1e-3
BF16_LOSS, BF16_GRADIENT = 1e-2, 1.0


def tasks(plan: Plan) -> Iterator[Task]:
    """Comparisons of the plan's device with the CPU."""
    for method in plan.methods:
        yield Task(f"method {method}", lambda method=method: of_method(method, plan.device), needs=5)
    for form in ("vectors", "blocks", "sdpa", "eager"):
        yield Task(f"attention {form}", lambda form=form: of_attention(form, plan.device), needs=5)
    for form in ("fast", "direct"):
        yield Task(f"experts {form}", lambda form=form: of_experts(form, plan.device), needs=5)
    for method in ("conv-lora", "lora"):
        yield Task(f"replayed {method}", lambda method=method: replayed(method, plan.device), needs=10)
    yield Task("resumed run", lambda: resumed(plan), needs=40)


def of_method(method: str, device: torch.device) -> dict[str, Any]:
    """A method on the device against the same on the CPU in single precision."""
    model, batch = small_model(method), small_batch()
    expected = gradients(model, batch, CPU, "fp32")
    return {
        "fp32": judged(gradients(model, batch, device, "fp32"), expected),
        "bf16": judged(gradients(model, batch, device, "bf16"), expected, BF16_LOSS, BF16_GRADIENT),
        "bf16 on the CPU": difference(gradients(model, batch, CPU, "bf16"), expected),
    }


def of_attention(form: str, device: torch.device) -> dict[str, Any]:
    """A form of the attention on the device against transformers' eager one on the CPU."""
    batch = small_batch()
    expected = gradients(small_model(attention="eager"), batch, CPU, "fp32")
    return judged(gradients(small_model(attention=form), batch, device, "fp32"), expected)


def of_experts(form: str, device: torch.device) -> dict[str, Any]:
    """A form of the experts on the device against the formula on the CPU."""
    model, direct, batch = small_model(), small_model(), small_batch()
    use_direct_experts(direct)
    if form == "direct":
        use_direct_experts(model)
    return judged(gradients(model, batch, device, "fp32"), gradients(direct, batch, CPU, "fp32"))


def judged(found: Gradients, expected: Gradients, loss: float = LIMIT, gradient: float = LIMIT) -> dict[str, Any]:
    """The differences, and whether they are within limits; what is not a number is not."""
    apart = difference(found, expected)
    return {**apart, "ok": apart["loss"] <= loss and apart["gradient"] <= gradient}


def replayed(method: str, device: torch.device) -> dict[str, Any]:
    """Three optimizer steps of four batches each, replayed by CUDA graphs, against the same steps made eagerly."""
    images = small_batch(batch_size=4)
    batches = [{name: value[i : i + 1].to(device) for name, value in images.items()} for i in range(4)]
    found: dict[str, tuple[list[float], torch.Tensor]] = {}
    with exact_float32():
        for compile in ("none", "auto"):
            model = small_model(method).to(device)
            step = make_step(model, device, "fp32", compile)
            losses = [float(step(batches)) for _ in range(3)]
            weights = [p.detach().double().flatten().cpu() for p in trained_parameters(model)]
            found[compile] = losses, torch.cat(weights)
    losses, weights = found["auto"]
    expected_losses, expected_weights = found["none"]
    apart = {
        "losses": max(abs(a - b) / abs(b) for a, b in zip(losses, expected_losses)),
        "weights": ((weights - expected_weights).norm() / expected_weights.norm()).item(),
    }
    return {**apart, "ok": all(value <= LIMIT for value in apart.values())}


class StopAt(Silent):
    """Interrupts a run after a step, as Ctrl-C would."""

    def __init__(self, stop: int) -> None:
        self.stop = stop

    def step(self, step: int, epoch: float, loss: float | None) -> None:
        """A step is done."""
        if step == self.stop:
            os.kill(os.getpid(), signal.SIGINT)


def resumed(plan: Plan) -> dict[str, Any]:
    """A short run, the same again, and the same interrupted within the second epoch and gone on with.

    Two runs that differ show that the device adds up in another order each time. A resumed run can then be no better.
    """
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        data = write_task("cells", root / "data", num_train=6, num_val=2, num_test=2, size=(64, 64))
        config = RunConfig()
        config.update(
            {
                "data": {"path": str(data), "workers": 0},
                "model": {"source": "tiny", "image_size": min(256, plan.image_size)},
                "training": {"epochs": 2, "batch_size": 1, "grad_accum": 2, "device": plan.device.type},
            },
            origin="the benchmark",
        )
        train(config, root / "whole")
        train(config, root / "again")
        try:
            train(config, root / "resumed", reporter=StopAt(4))
            raise RuntimeError("the run was not interrupted")
        except Interrupted:
            train(config, root / "resumed", resume=True)
        whole, again, resumed = (
            load_file(root / run / "adapter" / "adapter_model.safetensors") for run in ("whole", "again", "resumed")
        )
    result = {"repeated": largest_difference(again, whole), "resumed": largest_difference(resumed, whole)}
    return {**result, "ok": result["resumed"] == 0.0}


def largest_difference(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> float:
    """The largest difference of any weight; 0 only if all are alike to the last bit."""
    if one.keys() != other.keys():
        raise ValueError("the runs saved different weights")
    if all(torch.equal(one[name], other[name]) for name in one):
        return 0.0
    return max((one[name].double() - other[name].double()).abs().max().item() for name in one)
