import re
from html.parser import HTMLParser

import pytest
from jinja2 import UndefinedError
from PIL import Image

from convlora.report.pages import embedded, write_page

HOSTILE = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "a\x1b[2Jb",
    "a\ufffeb\x0c",
    "\udcff",
    "\u202egnp.exe",
]


class Tags(HTMLParser):
    """What a browser makes of a page."""

    def __init__(self, text):
        super().__init__()
        self.names, self.attributes = set(), {}
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.names.add(tag)
        for name, value in attrs:
            self.attributes.setdefault(name, []).append(value)


def page(path, names):
    return write_page(
        path,
        "compare.html",
        title=names[0],
        verdict=names,
        split="test",
        images=4,
        seeds=1,
        length="as long",
        label="IoU",
        reference=names[1],
        header=["method", *names],
        tables=[(1, [["m", *names]])],
        trivial=[(names[1], 0.5)],
        plots={"curves": [], "costs": [], "fractions": []},
        numbered=names,
        pictures=(names, [[embedded(Image.new("RGB", (900, 300)))] * len(names)]),
        all_scores=[["method"], *([name] for name in names)],
        published=[["test images", *names]],
        caveat="",
        units="photographs",
    )


def test_a_page_holds_everything_and_escapes_what_it_is_given(tmp_path):
    text = page(tmp_path / "page.html", HOSTILE).read_text(encoding="utf-8")
    tags = Tags(text)
    assert "img" in tags.names
    assert "script" not in tags.names
    assert not [name for name in tags.attributes if name.startswith("on")]
    assert all(address.startswith("data:image/jpeg;base64,") for address in tags.attributes["src"])
    assert "href" not in tags.attributes
    assert HOSTILE[1] in tags.attributes["alt"]
    assert text.count("data:image/jpeg;base64,") == len(HOSTILE)
    assert any("default-src 'none'" in value for value in tags.attributes["content"])
    assert not re.search("[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\u202e]", text)


def test_nothing_is_left_out_silently(tmp_path):
    with pytest.raises(UndefinedError):
        write_page(tmp_path / "page.html", "compare.html", title="t")
    assert not list(tmp_path.iterdir())


def test_pictures_are_shrunk():
    small, large = (len(embedded(Image.effect_noise((side, side), 50))) for side in (320, 3000))
    assert large < 1.5 * small
