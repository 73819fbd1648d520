"""Names that are allowed, and that libraries stumble over."""

from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from convlora.data.reading.images import read_image
from convlora.data.sources.opening import open_data
from convlora.errors import InputError
from convlora.inference.files.passed_over import passed_over
from convlora.inference.files.plan import check_name, collect_images, coordinates_lost, plan
from convlora.models.bundled import absolute
from convlora.paths import are_same_file, expanded


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("USERPROFILE", str(tmp_path / "home"))
    (tmp_path / "home").mkdir()
    return tmp_path


def test_a_tilde_may_begin_a_name(here):
    Image.new("RGB", (4, 4)).save("~draft.png")
    (here / "~data" / "images").mkdir(parents=True)
    Image.new("RGB", (4, 4)).save(here / "~data" / "images" / "a.png")
    assert expanded("~/a") == here / "home" / "a"
    (image,) = collect_images(["~draft.png"])
    assert read_image(image).size == (4, 4)
    assert passed_over(["~data/images"], collect_images(["~data/images"]), here / "out") is None
    assert len(open_data("~data", need_masks=False).splits["all"]) == 1
    assert absolute("~data") == str(here / "~data")
    with pytest.raises(InputError, match="~gone does not exist"):
        open_data("~gone")


def test_names_that_are_too_long_are_bad_input(here):
    long = "x" * 300
    with pytest.raises(InputError, match="no file or folder"):
        collect_images([long])
    with pytest.raises(InputError, match="does not exist"):
        open_data(long)
    assert absolute(long) == long


def test_the_longest_name_leaves_no_room_for_what_stands_beside(here):
    """A mask of its own, or a world file, would have a longer name."""
    image = here / f"{'x' * 251}.tif"
    tifffile.imwrite(image, np.full((5, 6, 3), 7, np.uint8), photometric="rgb")
    assert read_image(image).getpixel((0, 0)) == (7, 7, 7)
    assert coordinates_lost(plan([image], here / "out", with_overlay=False), tiled=False) is None


def test_names_are_measured_as_the_disk_does(here, monkeypatch):
    image = here / f"{chr(0x56FE) * 100}.png"  # of 300 bytes and more
    (job,) = plan([image], here / "out", with_overlay=False)
    with pytest.raises(InputError, match="too long a name"):
        check_name(job)
    monkeypatch.setattr("convlora.inference.files.plan._IN_UTF_16", True)
    check_name(job)
    (job,) = plan([image.with_name("x" * 252 + ".png")], here / "out", with_overlay=False)
    with pytest.raises(InputError, match="too long a name"):
        check_name(job)


def test_a_link_that_leads_to_itself_does_not_stop_the_others(here):
    (here / "images").mkdir()
    (here / "images" / "a.png").symlink_to("a.png")
    Image.new("RGB", (4, 4)).save(here / "images" / "b.png")
    jobs = plan(collect_images(["images"]), here / "out", with_overlay=False)
    assert [job.mask.name for job in jobs] == ["a.png", "b.png"]
    with pytest.raises(InputError, match=r"a\.png cannot be read"):
        read_image(jobs[0].image)


def test_two_names_of_one_file(here, monkeypatch):
    Image.new("RGB", (4, 4)).save("A.PNG")
    (here / "link.png").symlink_to("A.PNG")
    assert are_same_file(here / "A.PNG", here / "link.png")
    assert not are_same_file(here / "A.PNG", here / "gone.png")
    samefile = Path.samefile

    def ignoring_case(one, other):
        return str(one).casefold() == str(other).casefold() or samefile(one, other)

    monkeypatch.setattr(Path, "samefile", ignoring_case)
    with pytest.raises(InputError, match="would replace it"):
        plan([here / "A.PNG"], here, with_overlay=False)
