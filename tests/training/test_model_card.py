"""Names of classes on a page that the Hub shows."""

import pytest
import yaml

from convlora.training.config import RunConfig
from convlora.training.model_card import model_card


def test_names_are_no_markup():
    names = ["background", "<script>alert(1)</script>", "[click](javascript:x)", "a|b", "![x](http://y/z.png)"]
    card = model_card(RunConfig(), names)
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in card
    assert "<script" not in card
    assert r"\[click\](javascript:x), a\|b, !\[x\](http://y/z.png)." in card
    assert yaml.safe_load(card.split("---")[1])["library_name"] == "peft"


def test_ordinary_names_stay_as_they_are():
    assert "Segments leaf_rust (old) from background." in model_card(RunConfig(), ["background", "leaf_rust (old)"])


def test_it_says_how_volumes_became_images():
    config = RunConfig()
    assert "volumes" not in model_card(config, ["background", "x"])
    config.update({"data": {"value_range": [-160, 240], "neighbours": True, "axis": "coronal"}})
    told = "coronal slices of volumes, values from -160 (black) to 240 (white), the slices before and after as red"
    assert f"- Input: {told}" in model_card(config, ["background", "x"])


@pytest.mark.parametrize(
    ("window", "size", "told"),
    [
        (256, 256, "Windows of 256 pixels at the images' own resolution."),
        (480, [320, 480], "Windows of 320 x 480 pixels at the images' own resolution."),
        (512, 256, "Windows of 512 pixels at the images' own resolution, resized to 256."),
    ],
)
def test_windows_that_are_seen_as_they_are_are_not_called_resized(window, size, told):
    config = RunConfig()
    config.update({"data": {"window": window}, "model": {"image_size": size}})
    assert f"- {told} It predicts" in model_card(config, ["background", "x"])
