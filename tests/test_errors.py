from convlora.errors import shown, shown_list


def test_what_files_hold_is_quoted_readably():
    assert shown("image, größe") == "image, größe"
    assert shown("a\x00b\nc") == r"a\x00b\nc"
    assert shown("x" * 200) == "x" * 200
    assert shown("x" * 300) == "x" * 200 + "..."
    assert shown("\n" * 300) == r"\n" * 100 + "..."
    assert shown_list(["a", "b"]) == "a, b"
    assert shown_list(["ab"] * 1020) == "ab, " * 19 + "ab and 1,000 more"
    assert len(shown_list(["x" * 1000] * 1000)) < 1500
