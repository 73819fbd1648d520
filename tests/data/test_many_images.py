"""What checking many images reads and keeps does not depend on more than their number, and no file is left open."""

import os

import psutil
import pytest
from PIL import Image

from convlora.data.checking import facts
from convlora.data.checking.check import MASKS_SAMPLED, check_data
from convlora.data.sources.opening import open_data
from tests.data.images_on_disk import write_set

MANY = 10_000


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Ten thousand names of the same ten images, which are written once."""
    root = write_set(tmp_path_factory.mktemp("many") / "data", {"train": 10}, values=(0, 1))
    for number in range(10, MANY):
        for kind in ("images", "masks"):
            os.link(root / "train" / kind / f"{number % 10}.png", root / "train" / kind / f"{number}.png")
    return root


@pytest.fixture
def count(monkeypatch):
    """Counts the calls of functions that read, by name, and the most files that were open at once."""
    calls = {"most open": 0}

    def watch(owner, name):
        whole = getattr(owner, name)
        calls[name] = 0

        def counted(*arguments, **options):
            calls[name] += 1
            if calls[name] % 500 == 0:
                calls["most open"] = max(calls["most open"], psutil.Process().num_fds())
            return whole(*arguments, **options)

        monkeypatch.setattr(owner, name, counted)

    for name in ("read_header", "read_mask", "read_seen", "read_image"):
        watch(facts, name)
    watch(Image, "open")
    return calls


def test_before_training_headers_are_read_and_few_masks(data, count):
    before = psutil.Process().num_fds()
    report = check_data(open_data(data), full=False)
    assert report.errors == []
    assert report.counts == {"train": MANY}
    assert (count["read_mask"], count["read_seen"], count["read_image"]) == (MASKS_SAMPLED, 0, 0)
    assert count["read_header"] <= 2 * MANY + MASKS_SAMPLED
    assert count["open"] <= 2 * MANY + 4 * MASKS_SAMPLED
    assert count["most open"] <= before + 20


def test_a_full_check_decodes_each_file_once(data, count, monkeypatch):
    before = psutil.Process().num_fds()
    report = check_data(open_data(data), full=True)
    assert report.errors == []
    assert (count["read_mask"], count["read_seen"], count["read_image"]) == (MANY, MANY, 0)
    assert report.class_pixels["train"][0] > 0
    assert len(report.problems) <= MANY, "each copy is said once, not with every other copy"
    assert count["most open"] <= before + 20
