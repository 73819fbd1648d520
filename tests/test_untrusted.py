"""Reading text files of strangers."""

import tracemalloc

import pytest

from convlora import untrusted
from convlora.untrusted import UnreadableError, parse_json, parse_yaml, read_text


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
