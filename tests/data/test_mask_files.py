import io

import numpy as np
import pytest
from PIL import Image

from convlora.data.checking.facts import Facts, read_values
from convlora.data.checking.mask_files import read_mask_file
from convlora.data.sample import Sample
from tests.data.images_on_disk import noise


def stored(picture, kind, **options):
    stream = io.BytesIO()
    picture.save(stream, kind, **options)
    return stream.getvalue()


class Counting:
    """A stored image that counts how often it is loaded."""

    def __init__(self, content):
        self.content, self.times = content, 0

    def __str__(self):
        return "row 3"

    def load(self):
        self.times += 1
        return self.content


@pytest.mark.parametrize("is_lossy", [False, True])
@pytest.mark.parametrize("frames", [1, 2])
@pytest.mark.parametrize("channels", [3, 4])
def test_loss_in_webp(tmp_path, channels, frames, is_lossy):
    pictures = [Image.fromarray(np.dstack([noise(seed), noise(9)])[..., :channels]) for seed in range(frames)]
    more = {"save_all": True, "append_images": pictures[1:], "icc_profile": b"a profile of odd length"}
    (tmp_path / "a").write_bytes(stored(pictures[0], "WEBP", lossless=not is_lossy, **more))
    assert read_mask_file(tmp_path / "a", ()).is_lossy == is_lossy


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF"])
def test_the_colours_of_the_indices_in_use(tmp_path, kind):
    picture = Image.fromarray(np.resize(np.array([0, 2], np.uint8), (4, 4))).convert("P")
    picture.putpalette([1, 2, 3, 40, 50, 60, 7, 8, 9])
    (tmp_path / "a").write_bytes(stored(picture, kind))
    found = read_mask_file(tmp_path / "a", (0, 2))
    assert (found.is_lossy, found.palette) == (False, {0: (1, 2, 3), 2: (7, 8, 9)})


def test_stored_masks_are_loaded_once():
    mask = Counting(stored(Image.fromarray(np.ones((8, 8), np.uint8)), "JPEG", quality=100))
    fact = Facts("train", Sample(image=mask, mask=mask, name="a"))
    read_values(fact)
    assert (mask.times, dict(fact.values)) == (1, {1: 64})
    assert fact.mask_file.is_lossy


def test_drawn_masks_are_neither():
    mask = Counting(Image.fromarray(np.ones((8, 8), np.uint8)))
    fact = Facts("train", Sample(image=mask, mask=mask, name="a"))
    read_values(fact)
    assert (fact.mask_file.is_lossy, fact.mask_file.palette) == (False, {})
