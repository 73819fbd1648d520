import re
import subprocess
import sys
import warnings
import xml.etree.ElementTree as ElementTree

import pytest

from convlora.report.figures import COLOURS, drawable
from convlora.report.plots import MOST_POINTS, Mark, line_plot, point_plot, short, smoothed

SVG = "{http://www.w3.org/2000/svg}"


def parsed(drawing):
    return ElementTree.fromstring(drawing.inline())  # noqa: S314


def texts(drawing):
    return [element.text for element in parsed(drawing).iter(f"{SVG}text")]


def line_paths(drawing):
    """The paths of lines in our colours, as (colour, dashes)."""
    styles = [path.get("style", "") for path in parsed(drawing).iter(f"{SVG}path")]
    found = []
    for style in styles:
        colour = re.search(r"stroke: (#\w+)", style)
        if colour and colour[1] in COLOURS and "fill: none" in style:
            dashes = re.search(r"stroke-dasharray: ([\d., ]+)", style)
            found.append((colour[1], dashes[1] if dashes else ""))
    return found


@pytest.mark.parametrize(
    "points", [[(0, 1)], [(0, 0.2), (10, 0.21)], [(1, float("nan")), (2, 5.0)], [(0, 0), (1e6, 1e9)]]
)
def test_lines_are_drawn_whatever_their_range(points):
    assert "epoch" in texts(line_plot({"a": points, "b": points}, title="t", x_label="epoch"))


def test_nothing_to_draw():
    assert line_plot({"a": []}, title="t", x_label="x") is None
    assert line_plot({"a": [(0, float("nan"))]}, title="t", x_label="x") is None
    assert point_plot({"a": (float("nan"), 1)}, title="t", x_label="x", y_label="y") is None


def test_lines_are_named_and_look_different():
    names = [f"method {number}" for number in range(9)]
    drawing = line_plot({name: [(0, n), (1, 0)] for n, name in enumerate(names)}, title="t", x_label="x")
    assert set(names) <= set(texts(drawing))
    assert len(set(line_paths(drawing))) == 9


def test_the_best_epoch_is_marked():
    lines = {"IoU": [(1, 0.1), (2, 0.5), (3, 0.3)]}
    assert "best: epoch 2" in texts(line_plot(lines, title="t", x_label="x", mark=Mark(2, "best: epoch 2")))


def test_points_and_lines_of_the_same_names_have_the_same_colours():
    values = {"a": 1.0, "b": 3.0, "c": 2.0}
    lines = line_plot({name: [(0, value), (1, value)] for name, value in values.items()}, title="t", x_label="x")
    points = point_plot({n: (1.0, v) for n, v in values.items()}, title="t", x_label="x", y_label="y")
    assert list(dict.fromkeys(colour for colour, _ in line_paths(lines)))[:3] == list(COLOURS[:3])
    drawn = points.inline()
    assert all(colour in drawn for colour in COLOURS[:3])


def test_many_points_are_numbered():
    points = {f"method {n}": (100.0 * (n + 1), 0.5 + n / 1000) for n in range(12)} | {"far": (5e6, 0.1)}
    drawing = point_plot(points, title="t", x_label="x", y_label="y", x_log=True)
    shown = texts(drawing)
    assert {str(number) for number in range(1, 14)} <= set(shown)
    assert not any(text.startswith("method") for text in shown)
    heights = [float(text) for text in shown if re.fullmatch(r"0\.\d+", text)]
    assert min(heights) > 0.4, "the point far below does not press the others together"


def test_long_lines_are_thinned_out():
    few, many = (line_plot({"a": [(n, n % 7) for n in range(size)]}, title="t", x_label="x") for size in (400, 90_000))
    assert len(many.svg) < 2 * len(few.svg)
    assert len(few.svg) > 10 * MOST_POINTS


@pytest.mark.parametrize("name", ["<b>", "$x_1$ $\\frac$", "a\ufffeb\x0c", "\udcff", "道路", "\u202egnp", "x" * 500])
def test_names_of_any_kind(name, tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        drawing = line_plot({name: [(0, 1), (1, 2)], "b": [(0, 1)]}, title=name, x_label=name)
        drawing.save(tmp_path / "plot")
    assert parsed(drawing).get("aria-label")
    assert (tmp_path / "plot.svg").read_text().startswith("<?xml")
    assert (tmp_path / "plot.pdf").read_bytes().startswith(b"%PDF")
    assert drawable(name) in texts(drawing), "also in the legend of two"


def test_files_are_the_same_each_time(tmp_path):
    for name in ("one", "two"):
        line_plot({"a": [(0, 1), (1, 2)]}, title="t", x_label="x").save(tmp_path / name)
    for suffix in ("svg", "pdf"):
        assert (tmp_path / f"one.{suffix}").read_bytes() == (tmp_path / f"two.{suffix}").read_bytes()


def test_figures_of_one_page_share_no_name():
    ids = [
        set(re.findall(r' id="([^"]+)"', line_plot({"a": [(0, n), (1, 2)]}, title=f"t{n}", x_label="x").inline()))
        for n in range(2)
    ]
    assert ids[0]
    assert not ids[0] & ids[1]


def test_the_settings_of_the_user_do_not_matter(tmp_path):
    import matplotlib

    drawing = line_plot({"a": [(0, 1), (1, 2)]}, title="t", x_label="x").svg
    with matplotlib.rc_context({"font.size": 40, "svg.fonttype": "path", "axes.facecolor": "black"}):
        assert line_plot({"a": [(0, 1), (1, 2)]}, title="t", x_label="x").svg == drawing
        assert matplotlib.rcParams["font.size"] == 40


def test_nothing_loads_matplotlib_until_something_is_drawn():
    code = (
        "import sys, convlora, convlora.cli.main, convlora.training.run\n"
        "import convlora.comparison.page, convlora.quickstart\n"
        "sys.exit('matplotlib' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_smoothing_is_the_mean_of_the_last_values():
    assert smoothed([1, 2, 3, 4], 2) == [1, 1.5, 2.5, 3.5]


def test_short_numbers():
    assert [short(number) for number in (0.5, 200_000, 1_234_567, 5e9)] == ["0.5", "200k", "1.23M", "5G"]
