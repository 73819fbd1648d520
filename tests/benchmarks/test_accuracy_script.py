import json
import sys
from functools import partial

import accuracy
import pytest


@pytest.fixture
def few_images(monkeypatch):
    few = {"num_train": 4, "num_val": 1, "num_test": 1, "size": (64, 64)}
    monkeypatch.setattr(accuracy, "write_task", partial(accuracy.write_task, **few))


@pytest.fixture
def script(tmp_path, monkeypatch, few_images):
    """Runs the script with trainings that take no time, and tells which were made."""
    made = []

    def train(config, output):
        if "stop" in made:
            raise KeyboardInterrupt
        made.append((config.method.name, config.training.seed))
        score = 0.5 + 0.1 * (config.method.name != "unet") + 0.01 * config.training.seed
        scores = {"iou": score}
        return {"test": scores, "val": scores, "steps": 3, "epochs": 1, "best_epoch": 1, "seconds_per_step": 0.1,
                "params": {"trainable": 5}}  # fmt: skip

    monkeypatch.setattr(accuracy, "train", train)

    def run(*arguments):
        made.clear()
        command = ["accuracy.py", "--output", str(tmp_path / "results.jsonl"), *map(str, arguments)]
        monkeypatch.setattr(sys, "argv", command)
        accuracy.main()
        return list(made)

    return run


def test_every_run_is_made_once_and_written_at_once(script, tmp_path, capsys):
    chosen = ("--rows", "12 epochs/drawn cells", "--contenders", "unet", "conv-lora", "--seeds")
    assert script(*chosen, 0) == [("unet", 0), ("conv-lora", 0)]
    assert script(*chosen, 0, 1) == [("unet", 1), ("conv-lora", 1)]
    assert script(*chosen, 0, 1, "--table") == []
    assert "| 12 epochs/drawn cells | conv-lora | 2 | 0.605 (0.600 to 0.610) | +0.100 |" in capsys.readouterr().out
    records = [json.loads(line) for line in (tmp_path / "results.jsonl").read_text().splitlines()]
    assert all("training.epochs=12" in record["settings"] for record in records)
    assert len(records) == 4


def test_other_settings_are_other_runs(script, capsys):
    chosen = ("--rows", "12 epochs/drawn cells", "--contenders", "conv-lora", "--seeds", 0)
    assert len(script(*chosen)) == 1
    assert len(script(*chosen[:-1], 3, "--set", "training.ema=0.9")) == 1
    capsys.readouterr()
    assert len(script(*chosen)) == 0
    assert "| conv-lora | 1 | 0.600 |" in capsys.readouterr().out, "and are not mixed in the table"


def test_a_run_is_made(few_images, tmp_path):
    """By the real `train`, which leaves its configuration alone."""
    settings = [*accuracy.COMMON, "model.image_size=64", "training.max_steps=1"]
    record = accuracy.one_run("drawn cells", "unet", settings, 0, None, tmp_path / "kept" / "run")
    assert record["score"] == "iou"
    assert 0 <= record["test"] <= 1
    assert record["steps"] == 1
    assert (tmp_path / "kept" / "run" / "metrics.json").is_file()


def test_every_row_has_a_name_of_its_own():
    names = [row.name for row in accuracy.rows()]
    assert len(set(names)) == len(names)


def test_photographs_must_be_given(script):
    with pytest.raises(SystemExit, match="--data"):
        script("--rows", "12 epochs/nuclei", "--seeds", 0)
