"""Brackets in what users have named are shown as they are, and never taken for markup."""

import io
import shutil

import pytest
from rich.console import Console

from convlora.cli.tables import classes_table, comparison_table, facts_table, scores_table

NAMES = ["x[/bold]", "[red]x", "bg[/b]", "[/]", "a[1]"]


def text(table):
    console = Console(file=io.StringIO(), width=200)
    console.print(table)
    return console.file.getvalue()


@pytest.mark.parametrize("name", NAMES)
def test_scores_and_facts(name):
    scores = {name: {"iou": 0.5, "num_images": 2, "trivial": {name: {"iou": 0.1}}}}
    shown = text(scores_table(scores, title=f"run {name} on data"))
    assert f"run {name} on data" in shown
    assert shown.count(name) == 3
    shown = text(facts_table({f"of {name}": f"folder {name}"}, title=f"about {name}"))
    assert all(f"{word} {name}" in shown for word in ("of", "folder", "about"))
    assert name in text(classes_table({name: {"iou": 0.5, "pixels": 0.25}}))


@pytest.mark.parametrize("name", NAMES)
def test_comparisons(name):
    row = {
        "method": name,
        "train_fraction": 1,
        "mean": {"iou": 0.5},
        "spread": {},
        "difference": {"mean": 0.0, "low": -0.1, "high": 0.1},
        "lr": 1e-3,
        "trainable": 1000,
        "steps": 20,
        "seconds_per_step": 1.0,
        "peak_memory_mb": 100,
    }
    summary = {"score": "iou", "images": 2, "split": "test", "seeds": [0], "reference": name, "rows": [row]}
    shown = text(comparison_table(summary, 1))
    assert f"Differences to {name} with" in shown
    assert shown.count(name) == 2
    assert "[-0.10, +0.10]" in shown


def test_evaluate(convlora, trained_run, blobs, tmp_path):
    run, data = tmp_path / "x[" / "bold]", tmp_path / "y[" / "b]"
    shutil.copytree(trained_run, run)
    shutil.copytree(blobs, data)
    (data / "classes.json").write_text('{"classes": ["bg[/b]", "cell"]}')
    code, out, err = convlora("evaluate", run, data, "--device", "cpu")
    assert code == 0
    assert "the data bg[/b], cell." in err
    assert str(run) in "".join(out.split())
    assert str(data) in "".join(out.split())
