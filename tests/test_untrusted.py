"""Reading text files of strangers."""

import ast
import os
import tracemalloc
from pathlib import Path

import pytest

from convlora import untrusted
from convlora.data.classes.class_table import ClassTable
from convlora.data.reading.images import read_image, read_mask
from convlora.data.reading.stored import content_of
from convlora.data.reading.tiff.header import is_tiff
from convlora.errors import InputError
from convlora.inference.files.plan import is_own_result
from convlora.inference.files.shares import check_shares
from convlora.locking import only_one
from convlora.ordinary import NotOrdinaryError, open_ordinary, ordinary
from convlora.training.checkpoint import load_state
from convlora.untrusted import UnreadableError, parse_json, parse_yaml, read_bytes, read_lines, read_text


def test_memory_is_taken_for_what_is_there_not_for_what_may_be(tmp_path):
    """Where memory is limited, asking for the largest size in advance would fail for the smallest file."""
    path = tmp_path / "a.json"
    path.write_bytes(b"\xef\xbb\xbfa\r\nb")
    tracemalloc.start()
    try:
        assert read_text(path, largest=4 << 30) == "a\nb"
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


def test_the_largest_size_is_read_and_no_more(tmp_path):
    path = tmp_path / "a.json"
    path.write_text("x" * 1000)
    assert len(read_text(path, largest=1000)) == 1000
    with pytest.raises(UnreadableError, match="the most that is read"):
        read_text(path, largest=999)


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("epochs: 1\nlr: 2\nepochs: 3", "'epochs'"),
        ("training:\n  lr: 1\n  seed: 0\n  lr: 1", "'lr'"),
        ("- {1: a, 1.0: b}", "1.0"),
        ("<<: {a: 1}\na: 2", "'a'"),
    ],
)
def test_yaml_with_a_key_twice(text, key):
    with pytest.raises(UnreadableError, match=f"it gives {key} twice; remove one of them"):
        parse_yaml(text)
    assert parse_yaml("a: {b: 1, c: {b: 2}}\nb: []") == {"a": {"b": 1, "c": {"b": 2}}, "b": []}


@pytest.mark.parametrize("text", ['{"a": 1, "b": 2, "a": 1}', '[{"c": {"a": [], "a": {}}}]'])
def test_json_with_a_key_twice(text, monkeypatch):
    with pytest.raises(UnreadableError, match="it gives 'a' twice; remove one of them"):
        parse_json(text)
    assert parse_json('{"a": {"b": 1}, "b": [{"b": 2}, {"b": 3}]}') == {"a": {"b": 1}, "b": [{"b": 2}, {"b": 3}]}
    monkeypatch.setattr(untrusted, "LARGEST", 10)  # large files are not searched
    assert parse_json('{"a": 1, "a": 2}') == {"a": 2}


@pytest.mark.parametrize(("number", "plain"), [("010", "10"), ("-0_7", "-7"), ("00", "0")])
def test_numbers_that_are_not_the_same_to_all_readers(number, plain):
    with pytest.raises(UnreadableError, match=f"it holds {number}, which .* base of 8; write {plain}, or quote it"):
        parse_yaml(f"epochs: {number}")
    assert parse_yaml(f"epochs: '{number}'") == {"epochs": number}


@pytest.mark.parametrize(("text", "value"), [("0", 0), ("-0", 0), ("0x1f", 31), ("1_000", 1000), ("0.5", 0.5)])
def test_numbers_that_are(text, value):
    assert parse_yaml(text) == value


@pytest.fixture
def pipe(tmp_path):
    path = tmp_path / "a.json"
    os.mkfifo(path)
    return path


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="Windows has no pipes in folders")
@pytest.mark.parametrize(
    "read",
    [
        read_text,
        read_bytes,
        read_lines,
        ordinary,
        open_ordinary,
        lambda path: open_ordinary(path, "a"),
        lambda path: open_ordinary(path, "wb"),
        read_image,
        read_mask,
        content_of,
        load_state,
    ],
)
def test_a_pipe_is_refused_where_it_would_be_waited_for(pipe, read):
    with pytest.raises((OSError, InputError), match="it is no ordinary file"):
        read(pipe)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="Windows has no pipes in folders")
def test_a_pipe_that_somebody_reads_is_refused_too(pipe):
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        with pytest.raises(NotOrdinaryError):
            open_ordinary(pipe, "a")
    finally:
        os.close(reader)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="Windows has no pipes in folders")
def test_pipes_in_the_place_of_results(pipe, tmp_path):
    assert not is_own_result(pipe)
    assert not is_tiff(pipe)
    os.mkfifo(tmp_path / "shares.json")
    with pytest.raises(InputError, match="was not made by convlora"):
        check_shares(tmp_path, ClassTable(("a", "b")), ["a"])
    os.mkfifo(tmp_path / ".lock")
    with pytest.raises(InputError, match="is no ordinary file"), only_one(tmp_path):
        pass


# Each opens a file by its name and would wait at a pipe. The files that may do so:
OPENERS = {"open", "read_text", "read_bytes", "safe_open", "load_file", "ZipFile", "PngImageFile", "load_from_json"}
# The first two are the opener and what calls it.
IN_THE_PACKAGE = {
    "convlora/ordinary.py", "convlora/untrusted.py", "convlora/recipes/__init__.py", "convlora/prepare/catalogue.py",
}  # fmt: skip


def test_all_files_are_opened_by_one_opener():
    """What is given to other openers has passed `ordinary`, is a temporary file just written, or holds no path."""
    package = Path(untrusted.__file__).parent
    found = []
    for path in sorted(package.rglob("*.py")):
        place = path.relative_to(package.parent).as_posix()
        if place in IN_THE_PACKAGE:
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func).rpartition(".")[2] in OPENERS:
                call = ast.unparse(node)
                if "ordinary(" not in call and "temporary" not in call and not call.startswith(ALLOWED):
                    found.append(f"{place}: {call}")
    assert found == []


ALLOWED = (
    "os.open(",  # of the lock, which does not wait, and of what is sent to the disk
    "read_text(",  # ours
    "read_bytes(",
    "memory.open(",
    "Image.open(io.BytesIO(",
    "stored.open(",  # of a volume, whose readers open files by `ordinary`
    "job.stored.open(",
    "self.stored.open(",
    "first.stored.open(",
    "open(path, mode, encoding=None if 'b' in mode else 'utf-8', opener=_opener)",  # of `convlora.links`, stricter
    "self._archive.open(",
    "zipfile.ZipFile(file)",  # of an export, opened by `open_ordinary`
)


@pytest.mark.parametrize("text", ["NaN", '{"a": [Infinity]}', "-Infinity"])
def test_json_with_what_is_no_number(text):
    with pytest.raises(UnreadableError, match="which is no number"):
        parse_json(text)


@pytest.mark.parametrize("line", ["[" * 100_000, "9" * 5000, "{", "[1]", "3", '"a"', "\x00", '{"a": NaN}'])
def test_lines_that_are_no_objects_are_left_out(tmp_path, line):
    path = tmp_path / "log.jsonl"
    path.write_text(f'{{"a": 1}}\n{line}\n{{"b": 2}}\n', encoding="utf-8")
    assert read_lines(path) == [{"a": 1}, {"b": 2}]
