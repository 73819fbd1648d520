"""Reading text files of strangers."""

import tracemalloc

import pytest

from convlora.untrusted import UnreadableError, read_text


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
