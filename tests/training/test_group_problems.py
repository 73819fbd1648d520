"""A check reads groups.csv as cross-validation does."""

import csv
import json
import shutil

import pytest
from typer.testing import CliRunner

from convlora.cli.main import app
from convlora.data.sources.opening import open_data
from convlora.training.group_problems import group_problems


def said_of(folder, rows):
    with (folder / "groups.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("image", "group"), *rows])
    found = group_problems(open_data(folder))
    assert {problem.path for problem in found} <= {str(folder / "groups.csv")}
    return [(problem.severity, problem.message) for problem in found]


@pytest.fixture
def data(blobs, tmp_path):
    return shutil.copytree(blobs, tmp_path / "data")


def images_of(folder):
    source = open_data(folder)
    return {split: [one.image.relative_to(folder).as_posix() for one in some] for split, some in source.splits.items()}


def test_groups_that_keep_to_their_splits_are_right(data):
    assert group_problems(open_data(data)) == []
    rows = [
        (image, f"{split} {place // 2}") for split, some in images_of(data).items() for place, image in enumerate(some)
    ]
    assert said_of(data, rows) == []


def test_what_speaks_against_groups_is_told(data):
    images = images_of(data)
    train, val, test = images["train"], images["val"], images["test"]
    own = [(image, f"{split} {image}") for split, some in images.items() for image in some]
    spread = dict(own) | {train[0]: "one", test[0]: "one", train[1]: "two", val[0]: "two"}
    found = said_of(data, spread.items())
    assert [severity for severity, _ in found] == ["warning", "warning"]
    assert "The group one has images in train and in test. " in found[0][1]
    assert "The group two has images in train and in val. " in found[1][1]
    assert "--folds" in found[1][1]
    ((severity, message),) = said_of(data, own[1:])
    assert severity == "warning"
    assert f"1 of {len(own)} images have no row (the first is {data / own[0][0]})" in message
    everything = {image: "all" if image in train + val else group for image, group in own}
    assert any("holds" in message and "folds" in message for _, message in said_of(data, everything.items()))


def test_a_row_that_names_no_image_is_an_error_of_the_check(data):
    ((severity, message),) = said_of(data, [("gone.png", "one")])
    assert severity == "error"
    assert "groups.csv line 2 names gone.png" in message
    found = CliRunner().invoke(app, ["data", "check", str(data), "--json"])
    assert found.exit_code == 2
    report = json.loads(found.stdout.splitlines()[-1])
    assert [problem["kind"] for problem in report["problems"] if problem["severity"] == "error"] == ["groups"]
