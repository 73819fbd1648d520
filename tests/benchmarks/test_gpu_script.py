"""The command for GPUs, in sizes for a CPU: every part runs, and nothing that is measured gets lost."""

import json
import subprocess
import sys

import pytest
import torch
from gpu_parts.kernels import covered, summary
from gpu_parts.memory import bisect
from gpu_parts.session import Session, Task, Unavailable
from gpu_parts.steps import ratios
from harness import ROOT

PARTS = ["parity", "steps", "kernels", "inference", "attention", "feeding", "memory"]


def test_every_part_runs(tmp_path):
    command = [sys.executable, "benchmarks/gpu.py", "--dry-run", "--output", tmp_path / "gpu.json"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-2000:]
    result = json.loads((tmp_path / "gpu.json").read_text())
    assert list(result["parts"]) == [*PARTS, "ratios"]
    everything = {f"{part}: {name}": one for part in PARTS for name, one in result["parts"][part].items()}
    assert {name: one for name, one in everything.items() if "error" in one} == {}
    skipped = {name for name, one in everything.items() if "skipped" in one}
    assert all("start-up" in name or "values" in name for name in skipped)
    assert result["parts"]["ratios"]
    parity = result["parts"]["parity"]
    assert parity["method conv-lora"]["fp32"]["ok"]
    assert all(
        one["ok"] for name, one in parity.items() if name.startswith(("attention", "experts", "replayed", "resumed"))
    )
    assert "Failed or left out" in done.stdout


def test_what_was_measured_survives_what_comes_after(tmp_path):
    def fail():
        raise RuntimeError("the driver gave up")

    def unavailable():
        raise Unavailable("no graphs here")

    def out_of_memory():
        raise torch.OutOfMemoryError("tried to allocate 3 GiB, and a page of statistics")

    def cut_off():
        raise KeyboardInterrupt

    def tasks():
        yield Task("works", lambda: {"ms": 1.0})
        yield Task("fails", fail)
        yield Task("unavailable", unavailable)
        yield Task("too large", out_of_memory)
        yield Task("too long", lambda: {"ms": 2.0}, needs=1e6)
        yield Task("still works", lambda: {"ms": 3.0})
        yield Task("cut off", cut_off)

    with pytest.raises(KeyboardInterrupt):
        Session(tmp_path / "out" / "gpu.json", budget=100).run("part", tasks())
    results = json.loads((tmp_path / "out" / "gpu.json").read_text())["parts"]["part"]
    assert results["works"] == {"ms": 1.0}
    assert results["fails"] == {"error": "RuntimeError: the driver gave up"}
    assert results["unavailable"] == {"skipped": "no graphs here"}
    assert results["too large"] == {"error": "out of memory"}
    assert results["too long"]["skipped"].endswith("it may take 1000000 s")
    assert results["still works"] == {"ms": 3.0}
    assert "cut off" not in results


def test_kernels_at_the_same_time_are_busy_once():
    def event(category, name, start, length):
        return {"ph": "X", "cat": category, "name": name, "ts": start, "dur": length}

    events = [
        event("kernel", "gemm", 0.0, 1000.0),
        event("kernel", "gelu", 500.0, 1000.0),
        event("gpu_memcpy", "HtoD", 4000.0, 500.0),
        event("cuda_runtime", "cudaLaunchKernel", 0.0, 5.0),
        event("cuda_runtime", "cudaGraphLaunch", 0.0, 5.0),
        event("cuda_runtime", "cudaStreamSynchronize", 0.0, 9000.0),
        event("gpu_user_annotation", "step", 0.0, 9000.0),
        {"ph": "i", "cat": "kernel", "name": "no span", "ts": 1.0},
    ]
    assert summary(events) == {"kernels": 3, "launches": 2, "busy ms": 2.0}
    assert covered([(3.0, 4.0), (0.0, 2.0), (1.0, 1.5)]) == 3.0


@pytest.mark.parametrize("largest", [0, 1, 5, 8, 20])
def test_the_largest_batch_is_found(largest):
    tried = []

    def fits(batch):
        tried.append(batch)
        return batch <= largest

    assert bisect(fits, limit=20) == largest
    assert max(tried) <= 20
    assert len(tried) == len(set(tried)) <= 9


def test_ratios_compare_what_was_made_in_the_same_way():
    results = {
        "vit-b, batch 1, plain Conv-LoRA": {"ms": 100.0, "reserved GiB": 8.0},
        "vit-b, batch 1, Conv-LoRA": {"ms": 50.0, "reserved GiB": 4.0},
        "vit-b, batch 1, Conv-LoRA, graphs": {"ms": 20.0, "reserved GiB": 4.0},
        "vit-b, batch 1, LoRA": {"ms": 40.0, "reserved GiB": 4.0},
        "vit-b, batch 1, LoRA, graphs": {"error": "out of memory"},
        "vit-b, batch 4, Conv-LoRA": {"ms": 50.0},
    }
    assert ratios(results) == {
        "vit-b, batch 1, Conv-LoRA": {
            "time over plain": 0.5, "memory over plain": 0.5, "time over LoRA": 1.25, "memory over LoRA": 1.0,
        },
        "vit-b, batch 1, Conv-LoRA, graphs": {
            "time over plain": 0.2, "memory over plain": 0.5, "time over eager": 0.4, "memory over eager": 1.0,
        },
    }  # fmt: skip
