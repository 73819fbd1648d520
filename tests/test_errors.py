import pytest

from convlora.errors import cell, printable, shown, shown_list


def test_what_files_hold_is_quoted_readably():
    assert shown("image, größe") == "image, größe"
    assert shown("a\x00b\nc") == r"a\x00b\nc"
    assert shown("x" * 200) == "x" * 200
    assert shown("x" * 300) == "x" * 200 + "..."
    assert shown("\n" * 300) == r"\n" * 100 + "..."
    assert shown_list(["a", "b"]) == "a, b"
    assert shown_list(["ab"] * 1020) == "ab, " * 19 + "ab and 1,000 more"
    assert len(shown_list(["x" * 1000] * 1000)) < 1500


@pytest.mark.parametrize(
    ("text", "printed"),
    [
        ("größe 葉 \u200d\U0001f33f\nnext", None),
        ("\x1b[2J\x1b]0;title\x07", r"\x1b[2J\x1b]0;title\x07"),
        ("\x9b31m\r\x08", r"\x9b31m\r\x08"),
        ("gpj\u202egnp", r"gpj\u202egnp"),
        ("bytes \udcff", r"bytes \udcff"),
        ("a\u2028b", r"a\u2028b"),
    ],
)
def test_names_move_nothing_on_a_terminal(text, printed):
    assert printable(text) == (text if printed is None else printed)


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@SUM(A1)", "=cmd|'/C calc'!A0"])
def test_a_cell_is_no_formula(text):
    assert cell(text) == "'" + text


@pytest.mark.parametrize("text", ["leaf", "a=b", "a-b", "'x", ""])
def test_a_cell_is_else_as_it_is(text):
    assert cell(text) == text
