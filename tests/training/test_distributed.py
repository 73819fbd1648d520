"""Two processes do what one does with the same images per step."""

import json
import os
import subprocess
import sys

import pytest


def run(command, **environment):
    result = subprocess.run(
        command, capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"} | environment, timeout=120
    )
    assert result.returncode == 0, result.stderr[-3000:]
    return result.stdout


def log_of(folder):
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def test_two_processes_equal_one(blobs, tiny_sam_folder, tmp_path):
    shared = ["train", str(blobs), "--model", str(tiny_sam_folder), "--epochs", "2", "--lr", "1e-2", "--device", "cpu",
              "--grad-accum", "1", "--method", "lora", "--json"]  # fmt: skip
    program = [sys.executable, "-m", "convlora.cli.main"]
    run([*program, *shared, "--batch-size", "2", "--output", str(tmp_path / "one")])
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2",
                "-m", "convlora.cli.main"]  # fmt: skip
    out = run([*launcher, *shared, "--batch-size", "1", "--output", str(tmp_path / "two")])
    assert out.count("\n") == 1, "one process writes"
    one, two = log_of(tmp_path / "one"), log_of(tmp_path / "two")
    assert len(one) == len(two) == 6
    for a, b in zip(one, two):
        for key in ("loss", "lr"):
            assert a[key] == pytest.approx(b[key], rel=1e-4)
    metrics = [json.loads((tmp_path / name / "metrics.json").read_text()) for name in ("one", "two")]
    for split in ("val", "test"):
        assert metrics[1][split]["num_images"] == 3, "each image is counted once"
        for name in ("iou", "dice", "mae"):
            assert metrics[0][split][name] == pytest.approx(metrics[1][split][name], abs=1e-3)
        assert metrics[0][split]["trivial"] == metrics[1][split]["trivial"]
