import itertools
import re
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest
from PIL import Image

from convlora.report.confusion import write_confusion
from convlora.report.page import Page
from convlora.report.plots import line_plot, point_plot, smoothed


def test_a_page_needs_nothing_outside_it_and_escapes_what_it_is_given(tmp_path):
    page = Page("<script>alert(1)</script>")
    page.text("a < b")
    page.table(["", "x"], [["<i>", "1"]])
    page.code("a && b")
    page.pictures(["one", "two"], [[Image.new("RGB", (900, 300)), Image.new("L", (10, 10))]])
    page.svg(line_plot({"<name>": [(0, 1), (1, 2)]}, title="<title>", x_label="<x>"))
    page.write(tmp_path / "page.html")
    text = (tmp_path / "page.html").read_text()
    assert "<script" not in text
    assert "<i>" not in text
    assert "&lt;title&gt;" in text
    assert text.count("data:image/jpeg;base64,") == 2
    assert not re.findall(r'(?:src|href)="(?!data:)', text)


@pytest.mark.parametrize(
    "points", [[(0, 1)], [(0, 0.2), (10, 0.21)], [(1, float("nan")), (2, 5.0)], [(0, 0), (1e6, 1e9)]]
)
def test_lines_stay_inside_the_drawing(points):
    drawing = ElementTree.fromstring(line_plot({"a": points, "b": points}, title="t", x_label="x"))  # noqa: S314
    lines = drawing.findall("polyline")
    assert len(lines) == 2
    for line in lines:
        for pair in line.get("points").split():
            x, y = map(float, pair.split(","))
            assert 0 <= x <= 440
            assert 0 <= y <= 260


def test_lines_are_named_below_and_look_different():
    names = [f"method {number}" for number in range(9)]
    lines = {name: [(0, number), (1, 0)] for number, name in enumerate(names)}
    drawing = ElementTree.fromstring(line_plot(lines, title="t", x_label="x"))  # noqa: S314
    looks = [(line.get("stroke"), line.get("stroke-dasharray")) for line in drawing.findall("polyline")]
    assert len(set(looks)) == 9
    below = [text for text in drawing.findall("text") if text.text in names]
    assert [text.text for text in below] == names
    assert all(260 < float(text.get("y")) < float(drawing.get("height")) for text in below)
    samples = [line for line in drawing.findall("path") if line.get("stroke-width") == "2"]
    assert [(line.get("stroke"), line.get("stroke-dasharray")) for line in samples] == looks


def test_points_and_lines_of_the_same_names_have_the_same_colours():
    values = {"a": 1.0, "b": 3.0, "c": 2.0}
    points = point_plot({name: (1.0, value) for name, value in values.items()}, title="t", x_label="x")
    lines = line_plot({name: [(0, value), (1, value)] for name, value in values.items()}, title="t", x_label="x")
    colours = [line.get("stroke") for line in ElementTree.fromstring(lines).findall("polyline")]  # noqa: S314
    texts = ElementTree.fromstring(points).findall("text")  # noqa: S314
    assert {text.text: text.get("fill") for text in texts if text.text in values} == dict(zip(values, colours))


def test_nothing_to_draw():
    assert "nothing to draw" in line_plot({"a": []}, title="t", x_label="x")


def test_smoothing_is_the_mean_of_the_last_values():
    assert smoothed([1, 2, 3, 4], 2) == [1, 1.5, 2.5, 3.5]


def test_a_confusion_matrix_shows_shares_of_the_truth(tmp_path):
    names = ["sky", "a <b>", "never"]
    write_confusion(tmp_path, names, np.array([[3, 1, 0], [0, 50, 50], [0, 0, 0]]))
    rows = (tmp_path / "confusion.csv").read_text().splitlines()
    assert rows[1:] == ["sky,3,1,0", "a <b>,0,50,50", "never,0,0,0"]
    drawing = ElementTree.fromstring((tmp_path / "confusion.svg").read_text())  # noqa: S314
    texts = [element.text for element in drawing.iter() if element.tag.endswith("text")]
    assert sorted(text for text in texts if text.isdigit()) == ["25", "50", "50", "75"]
    assert texts.count("a <b>") == 2


def test_many_points_are_numbered_and_named_beside_the_plot():
    points = {f"method {n}": (100.0 + n, 0.5 + n / 1000) for n in range(12)} | {"far <away>": (5e6, 0.1)}
    drawing = point_plot(points, title="t", x_label="x", spread={"method 1": 0.001})
    assert drawing.count("<circle") == 13
    assert drawing.count('fill="#fff"') == 1, "one lies outside and is a ring"
    assert "13 far &lt;away&gt; (5M, 0.1)" in drawing
    assert "1 method 11</text>" in drawing
    names = [float(y) for y in re.findall(r'<text x="454" y="([\d.]+)"', drawing)]
    assert len(names) == 13
    assert all(b - a == 12 for a, b in itertools.pairwise(names))


def test_many_pictures_have_their_own_captions(tmp_path):
    page = Page("t")
    page.pictures([f"m{n}" for n in range(9)], [[Image.new("RGB", (4, 4))] * 9])
    page.write(tmp_path / "page.html")
    text = (tmp_path / "page.html").read_text()
    assert text.count("<figcaption>") == 9
    assert "repeat(9, 1fr)" not in text


def test_names_that_no_file_of_this_kind_may_hold(tmp_path):
    """Formulas are calculated by spreadsheets, and an SVG with signs that XML forbids is not shown at all."""
    names = ["=1+1", "a\ufffeb\x0c", "\udcff"]
    write_confusion(tmp_path, names, np.ones((3, 3), int))
    table = (tmp_path / "confusion.csv").read_text().splitlines()
    assert table[0].split(",")[1] == "'=1+1"
    assert table[1] == "'=1+1,1,1,1"
    drawing = ElementTree.fromstring((tmp_path / "confusion.svg").read_text())  # noqa: S314
    texts = [element.text for element in drawing.iter() if element.tag.endswith("text")]
    assert texts.count("a\ufffdb\ufffd") == 2
    ElementTree.fromstring(line_plot({names[1]: [(0, 1)]}, title=names[1], x_label=names[2]))  # noqa: S314
    page = Page(names[2])
    page.text(names[1])
    page.write(tmp_path / "page.html")
