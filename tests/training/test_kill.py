"""Runs that are killed at any moment end as if nothing had happened."""

import json
import os
import subprocess
import sys

import pytest


def kill(make_config, folder, kills, seed):
    config = make_config(epochs=3)
    config.data.augmentation = "strong"
    config.method.options = {"num_experts": 4}
    folder.mkdir()
    config.save(folder / "config.yaml")
    result = subprocess.run(
        [sys.executable, "-m", "tests.helpers.kills", folder / "config.yaml", folder / "runs", str(kills), str(seed)],
        capture_output=True, text=True, timeout=600, env=os.environ | {"OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert result.returncode == 0, result.stderr[-3000:]
    found = json.loads(result.stdout.splitlines()[-1])
    assert found["failures"] == []
    assert found["kills"] >= kills
    assert {"in a step", "in an update", "in an evaluation", "in a checkpoint"} <= found["moments"].keys()
    return found


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_killed_runs_go_on_and_end_alike(make_config, tmp_path):
    kill(make_config, tmp_path / "kills", 30, 0)


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_killed_many_times(make_config, tmp_path):
    kill(make_config, tmp_path / "kills", 60, 1)
