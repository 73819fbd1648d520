import pytest
import torch
from PIL import Image

from convlora.data.classes.class_table import ClassTable
from convlora.data.dataset import SegmentationDataset
from convlora.data.kept import KeptImages
from convlora.data.sources.opening import open_data
from convlora.data.windows import Windows
from tests.data.images_on_disk import write_set

CLASSES = ClassTable(("background", "cell"), 255, ((0, 0), (255, 1)))


@pytest.fixture
def samples(tmp_path):
    write_set(tmp_path / "data", {"train": 4}, values=(0, 0, 255))
    return open_data(tmp_path / "data").splits["train"]


@pytest.fixture
def kept(tmp_path):
    (tmp_path / "kept").mkdir()
    return KeptImages(tmp_path / "kept")


def make(samples, kept=None):
    return SegmentationDataset(samples, CLASSES, (16, 24), "strong", seed=3, kept=kept)


def equal(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


@pytest.mark.parametrize("workers", [0, 2])
def test_later_epochs_are_the_same_without_the_files(samples, kept, workers):
    expected = [make(samples)[key] for key in range(8)]
    dataset = make(samples, kept)
    loader = torch.utils.data.DataLoader(dataset, batch_size=None, sampler=range(4), num_workers=workers)
    assert all(equal(item, one) for item, one in zip(loader, expected[:4], strict=True))
    for sample in samples:
        sample.image.unlink()
        sample.mask.unlink()
    assert all(equal(dataset[key], expected[key]) for key in range(8))
    assert all(dataset[0][key].dtype == expected[0][key].dtype for key in expected[0])


@pytest.mark.parametrize("content", [b"", b"\x93NUMPY", None])
def test_what_is_damaged_is_read_again(samples, kept, content):
    dataset, expected = make(samples, kept), make(samples)[1]
    assert equal(dataset[1], expected)
    (place,) = kept.folder.iterdir()
    place.write_bytes(place.read_bytes()[:-5] if content is None else content)
    assert equal(dataset[1], expected)
    Image.new("RGB", (16, 12)).save(samples[1].image)  # what is kept is whole again
    assert equal(dataset[1], expected)


def test_a_folder_that_cannot_be_written_to_changes_nothing(samples, kept):
    kept.folder.rmdir()
    dataset = make(samples, kept)
    assert equal(dataset[1], make(samples)[1])
    assert not kept.folder.exists()


def test_its_own_files_alone_are_deleted(samples, kept):
    make(samples, kept)[0]
    (kept.folder / "7.npy.1234").touch()  # a process was killed while it wrote
    kept.clear()
    assert not kept.folder.exists()
    kept.folder.mkdir()
    (kept.folder / "notes.txt").touch()
    kept.clear()
    assert [path.name for path in kept.folder.iterdir()] == ["notes.txt"]


def test_windows_are_not_kept(samples, kept):
    with pytest.raises(ValueError, match="none is seen twice"):
        SegmentationDataset(samples, CLASSES, (8, 8), windows=Windows.over(samples, (8, 8)), kept=kept)
