"""Runs that are killed at any moment end as if nothing had happened."""

import json
import os

import pytest

from tests.helpers import forked, kills

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
PARTS = {"in a step", "in an update", "in an evaluation", "in a checkpoint"}


def kill(make_config, folder, count, seed):
    config = make_config(epochs=2)
    config.data.augmentation = "strong"
    config.method.options = {"num_experts": 4}
    folder.mkdir()
    config.save(folder / "config.yaml")
    out, _ = forked.run(folder / "config.yaml", folder / "runs", count, seed, target=kills.program, timeout=600)
    found = json.loads(out.splitlines()[-1])
    assert found["failures"] == []
    assert found["kills"] >= count
    assert found["moments"].keys() >= PARTS
    return found


def test_killed_runs_go_on_and_end_alike(make_config, tmp_path):
    """Once in each part of a run, and twice at random."""
    kill(make_config, tmp_path / "kills", 6, 0)


@pytest.mark.processes
def test_killed_often(make_config, tmp_path):
    kill(make_config, tmp_path / "kills", 30, 1)


@pytest.mark.slow
def test_killed_many_times(make_config, tmp_path):
    kill(make_config, tmp_path / "kills", 60, 2)
