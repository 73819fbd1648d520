"""Slices without foreground are left out, and those of a volume stay together."""

from dataclasses import dataclass

import pytest

from convlora.data.classes.class_table import ClassTable
from convlora.data.reading.volumes.kept import Stored
from convlora.data.reading.volumes.slices import VolumeSlice
from convlora.data.reading.volumes.slicing import Slicing
from convlora.data.sample import Sample
from convlora.errors import InputError
from convlora.training.shares import shares_of
from convlora.training.slices import leave_out_empty

BINARY = ClassTable(("background", "foreground"))


def volume(name, tmp_path, number):
    stored = Stored(tmp_path / f"{name}.nii", "nifti", "axial")
    slices = [VolumeSlice(stored, index, (number, 4, 4), Slicing(), name) for index in range(number)]
    return [Sample(one, one, f"{name}_{one.index}") for one in slices]


@dataclass
class Left:
    """What is left of twenty slices, four of which have foreground."""

    samples: list
    shown: list
    told: list

    def __call__(self, share, classes=BINARY, values=None, seed=0):
        known = {id(one): {0: 9, 1: 3} if one in self.shown else {0: 16, 255: 4} for one in self.samples}
        return leave_out_empty(self.samples, share, classes, values=values or known, seed=seed, tell=self.told.append)


@pytest.fixture
def left(tmp_path):
    samples = volume("a", tmp_path, 20)
    return Left(samples, samples[3:7], [])


def test_a_share_of_what_is_left_has_foreground(left):
    for share, number in ((1, 4), (0.5, 8), (0.4, 10), (0.25, 16), (0.2, 20), (0.1, 20)):
        found = left(share)
        assert len(found) == number
        assert [one for one in found if one in left.shown] == left.shown
        assert found == sorted(found, key=left.samples.index)
    assert left.told[1] == (
        "12 of 20 training slices are left out, because they have no foreground (data.foreground_share=0.5). "
        "4 slices with foreground and 4 without are trained on."
    )
    assert "none is left out" in left.told[-1]
    assert left(0.5) == left(0.5) != left(0.5, seed=1)
    assert all(one in left(0.25) for one in left(0.5))


def test_images_stay_and_masks_without_foreground_are_an_error(left, tmp_path):
    photo = Sample(tmp_path / "a.png", tmp_path / "b.png", "a")
    left.samples.append(photo)
    assert photo in left(1)
    left.shown = []
    with pytest.raises(InputError, match="None of the 20 training slices"):
        left(1)
    several = ClassTable(("a", "b", "c"))  # each class is foreground where none is the background
    assert len(left(1, several)) == 21


def test_a_volume_is_scored_by_one_process(tmp_path):
    photos = [Sample(tmp_path / f"{number}.png", None, str(number)) for number in range(5)]
    assert shares_of(photos, 2) == [photos[::2], photos[1::2]]
    a, b, c = (volume(name, tmp_path, number) for name, number in (("a", 3), ("b", 2), ("c", 4)))
    assert shares_of([*a, *b, *c], 2) == [[*a, *c], b]
    assert shares_of(a, 2) == [a, []]
