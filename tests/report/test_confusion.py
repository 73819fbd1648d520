import xml.etree.ElementTree as ElementTree

import numpy as np

from convlora.report.confusion import MOST_DRAWN, confusion_plot, read_confusion, write_confusion


def texts(path):
    drawing = ElementTree.fromstring(path.read_text())  # noqa: S314
    return [element.text for element in drawing.iter() if element.tag.endswith("text")]


def test_a_confusion_matrix_shows_shares_of_the_truth(tmp_path):
    names, confusion = ["sky", "a <b>", "never"], np.array([[3, 1, 0], [0, 50, 50], [0, 0, 0]])
    write_confusion(tmp_path, names, confusion)
    rows = (tmp_path / "confusion.csv").read_text().splitlines()
    assert rows[1:] == ["sky,3,1,0", "a <b>,0,50,50", "never,0,0,0"]
    shown = texts(tmp_path / "confusion.svg")
    assert sorted(text for text in shown if text.isdigit()) == ["25", "50", "50", "75"]
    assert shown.count("2 a <b>") == 2
    assert (tmp_path / "confusion.pdf").read_bytes().startswith(b"%PDF")
    assert (read_confusion(tmp_path, 3) == confusion).all()


def test_names_that_no_file_of_this_kind_may_hold(tmp_path):
    """Formulas are calculated by spreadsheets, and an SVG with signs that XML forbids is not shown at all."""
    names = ["=1+1", "a\ufffeb\x0c", "\udcff"]
    write_confusion(tmp_path, names, np.ones((3, 3), int))
    table = (tmp_path / "confusion.csv").read_text().splitlines()
    assert table[0].split(",")[1] == "'=1+1"
    assert table[1] == "'=1+1,1,1,1"
    assert texts(tmp_path / "confusion.svg").count("2 a\ufffdb\ufffd") == 2
    assert read_confusion(tmp_path, 3) is not None


def test_damaged_tables_are_left_aside(tmp_path):
    assert read_confusion(tmp_path, 2) is None
    for text in (
        "",
        "a,b\nx,1,2\n",
        "a,b,c\nx,1,y\nz,1,2\n",
        "a,b,c\nx,-1,2\nz,1,2\n",
        f"a,b,c\nx,{10**30},2\nz,1,2\n",
    ):
        (tmp_path / "confusion.csv").write_text(text)
        assert read_confusion(tmp_path, 2) is None, text


def test_very_many_classes():
    count = 120
    assert "<image" in confusion_plot([str(n) for n in range(count)], np.eye(count, dtype=int)).svg
    count = MOST_DRAWN + 1
    assert confusion_plot([str(n) for n in range(count)], np.eye(count, dtype=int)) is None
