"""The page, as text and in a real browser."""

import io
import re
import time

import numpy as np
import pytest
from PIL import Image

from tests.serve.chromium import PROGRAM, browsing


def test_the_page_loads_nothing_else(client):
    answer = client.get("/")
    assert answer.headers["content-type"].startswith("text/html")
    page = answer.text
    assert not re.search(r"""(src|href)=["'](?!data:)""", page)
    assert "://" not in page
    assert "url(" not in page
    policy = answer.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert "unsafe-eval" not in policy


def test_names_are_text(served):
    from convlora.serve.limits import Limits
    from convlora.serve.page import page_of

    evil = "</script><script>alert(1)</script>"
    facts = [{**served["late"].facts, "name": name} for name in (evil, "b")]
    page = page_of(facts, Limits())
    assert "alert(1)</script>" not in page
    assert "&lt;/script&gt;" in page


@pytest.fixture
def browser(tmp_path, live):
    if PROGRAM is None:
        pytest.skip("needs Chromium")
    with live() as (address, _), browsing(tmp_path / "profile") as page:
        page.open(f"http://127.0.0.1:{address[1]}/")
        page.run(
            """window.saved = {};
            save = async (blob, card, ending) => {
              saved[card.file.name + ending] = Array.from(new Uint8Array(await blob.arrayBuffer()));
            }; 0"""
        )
        yield page


def saved(page, name):
    page.wait(f"{name!r} in saved")
    return bytes(page.run(f"saved[{name!r}]"))


DONE = "cards.length && cards.every((card) => card.state === 'done' || card.state === 'failed')"


@pytest.mark.processes
def test_in_a_browser(browser, client, photos, tmp_path):
    page, names = browser, ["cells.png", "turned.jpg", "deep.tif", "empty.tif"]
    (tmp_path / "broken.png").write_bytes(b"nothing")
    page.choose_files("#files", *(photos[name] for name in names), tmp_path / "broken.png")
    page.wait(DONE)
    assert page.run("[...document.querySelectorAll('h2')].map((one) => one.textContent)") == [*names, "broken.png"]
    assert "broken.png is not an image" in page.run("document.querySelector('[role=alert]').textContent")
    asked = page.run("performance.getEntriesByType('resource').length")
    for number, name in enumerate(names):
        content = photos[name].read_bytes()
        mask = client.post("/v1/segment?run=conv-lora", content=content).content
        page.run(f"cards[{number}].part.querySelector('.save-mask').click()")
        assert saved(page, f"{name}.png") == mask
        classes = np.asarray(Image.open(io.BytesIO(mask)))
        height, width = classes.shape
        assert page.run(f"[cards[{number}].width, cards[{number}].height]") == [width, height]
        told = page.run(f"[...cards[{number}].part.querySelectorAll('tbody td')].map((one) => one.textContent)")
        share = 100 * (classes == 1).sum() / (classes < 2).sum()
        assert told[1] in (f"{share:.1f}%", f"{share:.3f}%")
    # Another threshold, with the keyboard, and without asking the server again.
    page.run("find('threshold').focus()")
    for _ in range(12):
        page.press("ArrowLeft", 37)
    assert page.run("level") == 116
    content = photos["empty.tif"].read_bytes()
    answer = client.post("/v1/segment?run=conv-lora&format=probability", content=content)
    levels, known = np.asarray(Image.open(io.BytesIO(answer.content))), classes < 2
    expected = np.where(known, levels >= 116, 255)
    page.run("delete saved['empty.tif.png']; cards[3].part.querySelector('.save-mask').click()")
    own = Image.open(io.BytesIO(saved(page, "empty.tif.png")))
    before = Image.open(io.BytesIO(mask))
    assert own.mode == before.mode == "P"
    assert own.getpalette() == before.getpalette()
    assert own.info == before.info
    assert np.array_equal(np.asarray(own), expected)
    assert not np.array_equal(expected, classes)
    assert page.run("performance.getEntriesByType('resource').length") == asked
    # The overlay, with its legend below.
    page.run("cards[0].part.querySelector('.save-overlay').click()")
    overlay = Image.open(io.BytesIO(saved(page, "cells.png_overlay.png")))
    with Image.open(photos["cells.png"]) as photo:
        assert overlay.width >= photo.width
        assert overlay.height > photo.height
    assert [one for one in page.messages if "415" not in one] == []


@pytest.mark.processes
def test_another_run_segments_the_images_again(browser, client, photos):
    page = browser
    page.choose_files("#files", photos["cells.png"])
    page.wait(DONE)
    assert page.run("find('threshold-part').hidden") is False
    page.run("find('run').value = 'town'; find('run').dispatchEvent(new Event('change'))")
    page.wait(f"!busy && cards[0].run.name === 'town' && {DONE}")
    assert page.run("find('threshold-part').hidden") is True
    page.run("cards[0].part.querySelector('.save-mask').click()")
    assert (
        saved(page, "cells.png.png")
        == client.post("/v1/segment?run=town", content=photos["cells.png"].read_bytes()).content
    )
    rows = page.run("[...document.querySelectorAll('tbody th')].map((one) => one.textContent)")
    assert len(rows) > 1
    page.run("document.querySelector('.remove').click()")
    assert page.run("cards.length + document.querySelectorAll('article').length") == 0


@pytest.mark.processes
def test_on_a_phone(browser, photos):
    page = browser
    page.size(360, 640, mobile=True)
    page.choose_files("#files", photos["large.jpg"])
    page.wait(DONE)
    time.sleep(0.2)
    assert page.run("document.documentElement.scrollWidth") <= 360
    names = """[...document.querySelectorAll('input, select, button')].filter((one) => !one.hidden &&
      !(one.labels && one.labels.length) && !one.textContent.trim() && !one.getAttribute('aria-label')).length"""
    assert page.run(names) == 0
