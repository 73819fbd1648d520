"""Two processes do what one does with the same images per step."""

import json
import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from convlora.inference.segmenter import Segmenter
from tests.helpers import forked, tolerances
from tests.helpers.fsdp_on_cpu import launched_with, shard_on_cpu
from tests.helpers.interrupted import interrupt_after
from tests.helpers.leaves_no_threads import watch_threads
from tests.helpers.pair import run_pair
from tests.training.test_run import assert_equal_runs


def launch(command, expect=0, **environment):
    result = subprocess.run(
        command, capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"} | environment, timeout=240
    )
    assert (result.returncode == 0) == (expect == 0), result.stderr[-3000:]
    return result.stdout


def log_of(folder):
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


LAUNCHER = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m"]


@pytest.fixture(scope="module")
def arguments(blobs, tiny_sam_folder):
    # Three training steps of two images; three validation images, so that one process has more of them. The gate's
    # noise is drawn anew in each process, which is why it is off where runs are compared.
    return ["train", str(blobs), "--model", str(tiny_sam_folder), "--epochs", "2", "--lr", "1e-2", "--device", "cpu",
            "--set", "method.gate_noise=false", "--set", "method.num_experts=3", "--set", "ema=0.5",
            "--set", "lr_decoder=5e-3", "--set", "lr_detail=1e-3", "--set", "warmup_steps=1", "--json"]  # fmt: skip


@pytest.fixture(scope="module")
def one(arguments, tmp_path_factory):
    """One process that takes the images of a step one after the other, as two processes take them side by side."""
    folder = tmp_path_factory.mktemp("one") / "run"
    forked.run(*arguments, "--batch-size", 1, "--grad-accum", 2, "--output", folder)
    return folder


def test_two_processes_equal_one(arguments, one, tmp_path):
    """The load-balancing loss too: it is that of the images of one process, and its mean over processes is logged."""
    arguments = [*arguments, "--batch-size", "1", "--grad-accum", "1", "--output", tmp_path / "two"]
    told, _ = run_pair(*arguments, prepare=watch_threads)
    assert [out.count("\n") for out, _ in told] == [1, 0], "one process writes"
    compare(one, tmp_path / "two")


@pytest.mark.processes
def test_two_launched_processes_equal_one(arguments, one, tmp_path):
    arguments = [*arguments, "--batch-size", "1", "--grad-accum", "1"]
    out = launch([*LAUNCHER, "tests.helpers.leaves_no_threads", *arguments, "--output", str(tmp_path / "two")])
    assert out.count("\n") == 1, "one process writes"
    compare(one, tmp_path / "two")


@pytest.mark.processes
def test_two_processes_go_on_where_they_were_interrupted(arguments, tmp_path):
    """Bit for bit, each with the noise of its own gates, with a cache that they share and one of them deletes."""
    arguments = [*arguments, "--batch-size", "1", "--grad-accum", "1", "--set", "method.gate_noise=true",
                 "--adapt-last", "1", "--cache"]  # fmt: skip
    undisturbed, stopped = tmp_path / "undisturbed", tmp_path / "stopped"
    run_pair(*arguments, "--output", undisturbed)
    run_pair(*arguments, "--output", stopped, prepare=partial(interrupt_after, 4), expect=1)
    assert len(log_of(stopped)) == 4
    run_pair(*arguments, "--output", stopped, "--resume")
    assert_equal_runs(undisturbed, stopped)
    assert not (stopped / "cache").exists()


@pytest.mark.processes
def test_machines_must_share_the_folder(arguments, tmp_path):
    """Two machines, here on one, with a relative folder that is another one for each."""
    folders = [tmp_path / "0", tmp_path / "1"]
    for folder in folders:
        folder.mkdir()
    told, codes = run_pair(*arguments, "--output", "run", cwd=folders, expect=None)
    assert all(codes)
    for _, err in told:
        assert "Not every process sees the folder run. Give an --output" in " ".join(err.split())


@pytest.fixture
def fsdp(tmp_path):
    """The settings of the documentation."""
    config = tmp_path / "fsdp.yaml"
    documented = Path(__file__).parents[2] / "docs" / "configs" / "fsdp.yaml"
    config.write_text(documented.read_text() + "use_cpu: true\n")
    return config


def test_sharded_over_two_processes_equals_one(arguments, one, fsdp, tmp_path):
    arguments = [*arguments, "--batch-size", "1", "--grad-accum", "1", "--output", tmp_path / "two"]
    run_pair(*arguments, prepare=shard_on_cpu, environment=launched_with(fsdp))
    (checkpoint,) = (tmp_path / "two" / "checkpoints").iterdir()
    assert (checkpoint / "trained_weights.safetensors").is_file(), "or it was not sharded"
    compare(one, tmp_path / "two")


@pytest.mark.processes
def test_launched_and_sharded_it_goes_on_where_it_was_interrupted(arguments, one, fsdp, tmp_path):
    """Within the second epoch; and nothing in it is a pickle."""
    launcher = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", str(fsdp)]
    launcher += ["-m", "tests.helpers.fsdp_on_cpu"]
    arguments = [*arguments, "--batch-size", "1", "--grad-accum", "1", "--output", str(tmp_path / "two")]
    launch([*launcher, *arguments], expect=1, STOP_AT="4")
    checkpoint = tmp_path / "two" / "checkpoints" / "checkpoint-4"
    assert (checkpoint / "trained_weights.safetensors").is_file(), "or it was not sharded"
    assert {path.suffix for path in checkpoint.iterdir()} <= {".safetensors", ".json"}
    _, err = forked.run(*arguments, "--resume", expect=2)
    assert "was saved by 2 processes, and now there would be 1" in " ".join(err.split())
    told, codes = run_pair(*arguments, "--resume", expect=None)
    assert all(codes)
    assert any("was saved with FSDP" in " ".join(err.split()) for _, err in told)
    out = launch([*launcher, *arguments, "--resume"])
    assert out.count("\n") == 1
    compare(one, tmp_path / "two")
    Segmenter.from_run(tmp_path / "two", device="cpu")


def compare(first, second):
    one, two = log_of(first), log_of(second)
    assert len(one) == len(two) == 6
    for a, b in zip(one, two):
        for key in ("loss", "task_loss", "load_balancing_loss", "lr", "grad_norm"):
            assert a[key] == pytest.approx(b[key], rel=tolerances.PROCESSES.rtol), (a, b)
    assert one[0]["load_balancing_loss"] > 0
    weights = [load_file(run / "adapter" / "adapter_model.safetensors") for run in (first, second)]
    assert weights[0].keys() == weights[1].keys()
    for name, weight in weights[0].items():
        # Soft-max ignores what all keys have in common: the gradient of their bias is zero but for rounding, and the
        # optimizer makes steps of ordinary size of it.
        if not name.endswith("k_proj.bias"):
            allowed = tolerances.PROCESSES_WEIGHTS._asdict()
            torch.testing.assert_close(
                weight, weights[1][name], **allowed, msg=lambda text, name=name: f"{name} {text}"
            )
    metrics = [json.loads((run / "metrics.json").read_text()) for run in (first, second)]
    for split in ("val", "test"):
        assert metrics[1][split]["num_images"] == 3, "each image is counted once"
        for name in ("iou", "dice", "mae"):
            allowed = tolerances.PROCESSES_SCORES
            assert metrics[0][split][name] == pytest.approx(metrics[1][split][name], abs=allowed)
        assert metrics[0][split]["trivial"] == metrics[1][split]["trivial"]
