"""The operations that are dispatched, which are what small layers cost on a GPU."""

import json
import subprocess
import sys

import torch
from harness import ROOT

from tests.helpers.count_operations import CountOperations

# An adapted layer, forward and backward. Fewer are always welcome; what needs more must be worth it.
MOST = {"lora": 11, "conv-lora": 60, "conv-lora (cpu)": 60}


def test_views_are_not_counted():
    x = torch.ones(2, 3, requires_grad=True)
    with CountOperations() as counter:
        y = x.view(3, 2).t().detach()[0].unsqueeze(0)
        y.add_(1)
        (2 * x).sum().backward()
    # The backward pass begins with ones, expands them without a copy, and multiplies.
    assert counter.names == ["add_", "mul", "sum", "ones_like", "mul"]


def test_the_benchmark_counts_layer_encoder_and_step():
    command = [sys.executable, "benchmarks/operations.py", "--image-size", "128", "--json"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    counts = json.loads(done.stdout.splitlines()[-1])
    assert list(counts) == ["layer", "encoder", "step"]
    for row in counts.values():
        assert list(row) == ["lora", "conv-lora", "conv-lora (cpu)", "plain"]
    for kind, most in MOST.items():
        assert 0 < counts["layer"][kind] <= most
        assert counts["layer"][kind] < counts["encoder"][kind] < counts["step"][kind]
