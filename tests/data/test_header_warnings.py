import numpy as np
import pytest
import tifffile
from PIL import Image

from convlora.data.checking.check import check_data
from convlora.data.sources.opening import open_data
from tests.data.images_on_disk import noise, save, write_set


def turned(root, orientations, height=12, width=12, mask_orientation=None):
    """A data set whose masks were drawn on the stored pixels, all of them or those of images on their side."""
    for number, orientation in enumerate(orientations):
        exif = Image.Exif()
        exif[274] = orientation
        save(root / "train" / "images" / f"{number}.jpg", noise(number, height, width), exif=exif)
        mask = np.resize(np.array([0, 1], np.uint8), (height, width))
        if orientation in (5, 6, 7, 8) and mask_orientation is None:
            mask = mask.T.copy()
        own = {} if mask_orientation is None else {"tiffinfo": {274: mask_orientation}}
        save(root / "train" / "masks" / f"{number}.{'png' if not own else 'tif'}", mask, **own)
    return root


def kinds(root, full=True):
    return [problem.kind for problem in check_data(open_data(root), full=full).problems]


@pytest.mark.parametrize("full", [True, False])
@pytest.mark.parametrize(
    ("orientations", "width", "warned"),
    [
        ([1, 1, 6], 12, True),  # square
        ([1, 3, 1], 16, True),
        ([1, 2, 1], 16, True),
        ([1, 1, 1], 16, False),
        ([6, 1, 1], 16, False),
        ([6, 3, 1], 16, False),  # the size of the first shows that its mask is upright, so the second will be too
    ],
)
def test_turns_that_sizes_do_not_confirm(tmp_path, orientations, width, warned, full):
    assert ("turned-image" in kinds(turned(tmp_path, orientations, width=width), full)) == warned


def test_masks_that_are_turned_like_their_images(tmp_path):
    assert "turned-image" not in kinds(turned(tmp_path / "a", [3, 3], mask_orientation=3))
    assert "turned-image" in kinds(turned(tmp_path / "b", [3, 3], mask_orientation=1))


@pytest.mark.parametrize("full", [True, False])
def test_pages_are_seen_in_the_headers(tmp_path, full):
    root = write_set(tmp_path, {"train": 3})
    (root / "train/images/0.png").unlink()
    tifffile.imwrite(root / "train/images/0.tif", np.stack([noise(1)[..., 0]] * 5), photometric="minisblack")
    assert kinds(root, full) == ["unused-pages"]


def spread(root, shares, names=None):
    """Masks 0/255 of 10 x 10 pixels, each with a share of white."""
    for number, share in enumerate(shares):
        save(root / "train" / "images" / f"{number}.png", noise(number, 10, 10))
        mask = np.where(np.arange(100) < 100 * share, 255, 0).astype(np.uint8).reshape(10, 10)
        save(root / "train" / "masks" / f"{number}.png", mask)
    if names:
        (root / "classes.json").write_text(names)
    return root


@pytest.mark.parametrize("full", [True, False])
@pytest.mark.parametrize(
    ("shares", "warned"),
    [
        ([0.95, 0.98, 0.97], True),
        ([0.85, 0.9, 0.8], False),
        ([0.05, 0.1, 0.95], True),
        ([0.4, 0.5, 0.95], False),
        ([0.05, 0.1, 0.0], False),
    ],
)
def test_masks_that_are_probably_inverted(tmp_path, shares, warned, full):
    assert kinds(spread(tmp_path, shares), full) == ["inverted-masks"] * warned


def test_what_classes_json_names_is_meant(tmp_path):
    assert kinds(spread(tmp_path, [0.95, 0.98], '{"classes": ["sky", "ground"]}')) == []
    report = check_data(open_data(spread(tmp_path, [0.95], '{"classes": ["a", "b"], "values": [255, 0]}')), full=True)
    assert report.class_pixels["train"] == [193, 7]
    assert report.problems == []
