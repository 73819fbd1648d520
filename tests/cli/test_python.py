"""`convlora.evaluate` and `convlora.predict` return what the commands print with --json."""

import json
import logging

import pytest

import convlora as package
from convlora.errors import InputError


@pytest.fixture
def convlora_json(convlora):
    def call(*arguments):
        code, out, _ = convlora(*arguments, "--json")
        assert code == 0
        return json.loads(out)

    return call


def test_evaluate_returns_what_the_command_prints(convlora_json, trained_run, blobs):
    found = package.evaluate(trained_run, blobs, device="cpu")
    assert found == convlora_json("evaluate", trained_run, blobs, "--device", "cpu")


def test_predict_returns_what_the_command_prints(convlora_json, trained_run, blobs, tmp_path):
    images = blobs / "test" / "images"
    found = package.predict(trained_run, images, tmp_path / "a", overlay=True, device="cpu")
    printed = convlora_json("predict", trained_run, images, "--output", tmp_path / "b", "--overlay", "--device", "cpu")
    names = [sorted(path.name for path in (tmp_path / folder).iterdir()) for folder in "ab"]
    assert names[0] == names[1]
    assert [one["shares"] for one in found["images"]] == [one["shares"] for one in printed["images"]]
    assert found["failed"] == printed["failed"] == []


def test_an_image_that_cannot_be_read_is_reported_not_raised(trained_run, blobs, tmp_path):
    (tmp_path / "bad.png").write_bytes(b"no image")
    good = next((blobs / "test" / "images").iterdir())
    found = package.predict(trained_run, [good, tmp_path / "bad.png"], tmp_path / "out", device="cpu")
    assert [one["image"] for one in found["images"]] == [str(good)]
    assert [one["image"] for one in found["failed"]] == [str(tmp_path / "bad.png")]


def test_an_overlap_without_windows_is_refused(trained_run, blobs, tmp_path):
    with pytest.raises(InputError, match="tile-overlap"):
        package.predict(trained_run, blobs / "test" / "images", tmp_path / "out", tile_overlap=0.5)
    assert not (tmp_path / "out").exists()


def test_messages_are_logged(trained_run, blobs, tmp_path, caplog):
    (tmp_path / "d" / "below").mkdir(parents=True)
    good = next((blobs / "test" / "images").iterdir())
    for place in ("a.png", "below/b.png"):
        (tmp_path / "d" / place).write_bytes(good.read_bytes())
    with caplog.at_level(logging.INFO, logger="convlora"):
        package.predict(trained_run, tmp_path / "d", tmp_path / "out", device="cpu")
    assert any("below" in record.message for record in caplog.records)
