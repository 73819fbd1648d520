"""`shares.json` where several predictions write to one folder."""

import json
import os
import threading

import pytest

from convlora.data.classes.class_table import ClassTable
from convlora.errors import InputError
from convlora.inference.files import shares
from convlora.inference.files.resuming import PRESENCE
from convlora.inference.files.shares import add_shares, check_shares
from convlora.locking import among_others

CLASSES = ClassTable(("background", "leaf"))
OTHERS = ClassTable(("background", "stem"))


def images(folder):
    return json.loads((folder / "shares.json").read_text())["images"]


def test_two_at_the_same_time_lose_nothing(tmp_path, monkeypatch):
    write, threads = shares.write_json, []

    def second(path, value):
        if not threads:  # the first one has read the file; before it writes, another begins
            threads.append(threading.Thread(target=add_shares, args=(tmp_path, CLASSES, {"b": {"leaf": 0.5}})))
            threads[0].start()
            threads[0].join(0.3)
        write(path, value)

    monkeypatch.setattr(shares, "write_json", second)
    add_shares(tmp_path, CLASSES, {"a": {"leaf": 0.25}})
    threads[0].join(30)
    assert images(tmp_path) == {"a": {"leaf": 0.25}, "b": {"leaf": 0.5}}
    assert [path.name for path in tmp_path.iterdir()] == ["shares.json"]


def test_shares_of_other_classes_are_not_dropped_unasked(tmp_path):
    add_shares(tmp_path, CLASSES, {"a": {"leaf": 0.25}, "b": {"leaf": 0.5}})
    check_shares(tmp_path, CLASSES, ["c"])
    check_shares(tmp_path, OTHERS, ["a", "b", "c"])
    with pytest.raises(InputError, match=r"shares of other classes, also for .* such as b\. Choose another --output"):
        check_shares(tmp_path, OTHERS, ["a", "c"])
    add_shares(tmp_path, OTHERS, {"a": {"stem": 1.0}}, ["a", "b", "c"])
    assert images(tmp_path) == {"a": {"stem": 1.0}}


def test_shares_of_other_classes_that_have_come_since_stay(tmp_path):
    check_shares(tmp_path, CLASSES, ["a", "b"])
    add_shares(tmp_path, OTHERS, {"b": {"stem": 0.5}, "c": {"stem": 1.0}})  # of another prediction, which began later
    with pytest.raises(InputError, match=r"shares of other classes, also for .* such as c\."):
        add_shares(tmp_path, CLASSES, {"a": {"leaf": 0.25}}, ["a", "b"])
    assert images(tmp_path).keys() == {"b", "c"}
    add_shares(tmp_path, CLASSES, {"a": {"leaf": 0.25}}, ["a", "b", "c"])  # which were to be made anew
    assert images(tmp_path) == {"a": {"leaf": 0.25}}


@pytest.mark.parametrize("content", ["[]", "{", '{"software": "convlora", "images": {}}', '{"software": "convlora"}'])
def test_what_is_not_ours_is_left_alone(tmp_path, content):
    (tmp_path / "shares.json").write_text(content)
    with pytest.raises(InputError, match="was not made by convlora"):
        add_shares(tmp_path, CLASSES, {"a": {"leaf": 0.25}})
    assert (tmp_path / "shares.json").read_text() == content


def test_links_and_pipes_are_not_ours(tmp_path):
    add_shares(tmp_path / "a", CLASSES, {"a": {"leaf": 0.25}})
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "shares.json").symlink_to(tmp_path / "a" / "shares.json")
    (tmp_path / "c").mkdir()
    os.mkfifo(tmp_path / "c" / "shares.json")
    for name in "bc":
        with pytest.raises(InputError, match="was not made by convlora"):
            check_shares(tmp_path / name, CLASSES, [])


def test_a_prediction_leaves_alone_what_another_is_writing(convlora, trained_run, blobs, tmp_path):
    output = tmp_path / "out"
    image = next((blobs / "test" / "images").iterdir())
    arguments = ["predict", trained_run, image, "--output", output, "--device", "cpu"]
    unfinished = output / f".{image.stem}.unfinished-abc.png"
    with among_others(output, PRESENCE):
        unfinished.write_text("half")
        (output / ".done-1.jsonl").write_text("{}\n")
        assert convlora(*arguments)[0] == 0
        assert unfinished.exists()
        assert (output / ".done-1.jsonl").exists()
    assert convlora(*arguments)[0] == 0
    assert sorted(path.name for path in output.iterdir()) == ["shares.json", f"{image.stem}.png"]
