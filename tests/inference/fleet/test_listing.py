"""Images are listed in chunks that stay the same, and names that clash are left out."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from convlora.inference.fleet import listing
from convlora.inference.fleet.listing import chunks
from convlora.inference.fleet.work import Chunk
from tests.inference.fleet.conftest import put


def listed(*given, output="/out", suffixes=("",)):
    return list(chunks([str(one) for one in given], str(output), suffixes))


def touched(folder, names):
    folder.mkdir(exist_ok=True)
    for name in names:
        (folder / name).touch()
    return folder


@pytest.fixture
def by_own_name(monkeypatch):
    """Chunks end where the names of images say so, whatever the folder of the test is called."""
    digest = listing._digest
    monkeypatch.setattr(listing, "_digest", lambda name: digest(Path(name).name))


@pytest.mark.usefixtures("by_own_name")
def test_every_image_is_in_one_chunk(tmp_path):
    folder = touched(tmp_path / "photos", [f"{number:05}.png" for number in range(1000)])
    found = listed(folder)
    images = [image for chunk in found for image, _ in chunk.images]
    assert images == [str(folder / f"{number:05}.png") for number in range(1000)]
    sizes = [len(chunk.images) for chunk in found]
    assert 8 < np.mean(sizes) < 32
    assert max(sizes) <= 64
    assert len({chunk.name for chunk in found}) == len(found)
    assert [chunk.number for chunk in found] == list(range(len(found)))


@pytest.mark.usefixtures("by_own_name")
def test_another_image_changes_one_chunk(tmp_path):
    folder = touched(tmp_path / "photos", [f"{number:05}.png" for number in range(1000)])
    before = {chunk.name: chunk.images for chunk in listed(folder)}
    touched(folder, ["00500b.png"])
    after = {chunk.name: chunk.images for chunk in listed(folder)}
    assert sum(after.get(name) != images for name, images in before.items()) == 1


def test_a_small_folder_is_shared_out(tmp_path):
    folder = touched(tmp_path / "photos", [f"{number}.png" for number in range(20)])
    assert len(listed(folder)) > 8


def test_nothing_is_listed_before_it_is_asked_for(tmp_path):
    folders = [touched(tmp_path / name, [f"{name}.png"]) for name in ("a", "b")]
    lazily = chunks([str(folder) for folder in folders], "/out", ("",))
    assert next(lazily).images == [[str(folders[0] / "a.png"), None]]
    touched(folders[1], ["later.png"])
    assert {image for chunk in lazily for image, _ in chunk.images} == {
        str(folders[1] / "b.png"), str(folders[1] / "later.png"),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("names", "suffixes", "lost"),
    [
        (["a.jpg", "a.png"], [""], "a.png"),
        (["a.jpg", "a_overlay.jpg"], ["", "_overlay"], "a_overlay.jpg"),
        (["a_overlay.jpg", "b.jpg"], ["", "_overlay"], None),
    ],
)
def test_results_of_one_name(tmp_path, names, suffixes, lost):
    folder = touched(tmp_path / "photos", names)
    refused = [one for chunk in listed(folder, suffixes=suffixes) for one in chunk.refused]
    assert [image for image, _ in refused] == ([] if lost is None else [str(folder / lost)])
    assert all("Predict them into different folders." in why for _, why in refused)


def test_results_of_one_name_in_two_folders(tmp_path):
    one, two = (touched(tmp_path / name, ["same.png"]) for name in ("one", "two"))
    found = listed(one, two, one / "same.png")
    assert [image for chunk in found for image, _ in chunk.images] == [str(one / "same.png")]
    assert [image for chunk in found for image, _ in chunk.refused] == [str(two / "same.png")]


def test_what_is_passed_over(tmp_path):
    folder = touched(tmp_path / "photos", ["a.png", "a.pgw", "notes.txt", ".hidden", "shares.json"])
    (folder / "more").mkdir()
    (folder / "out").mkdir()
    (note,) = (note for chunk in listed(folder, output=folder / "out") for note in chunk.notes)
    assert "1 subfolder (such as more)" in note
    assert "1 file of other kinds" in note


def test_nothing_there(tmp_path):
    assert "holds no images" in listed(tmp_path)[-1].fatal


def test_a_chunk_travels_as_text():
    chunk = Chunk(3, "name", [["a", None], ["b", "1:2"]], [["c", "why"]], ["note"], None)
    assert Chunk.of(chunk.text()) == chunk


class TestInAStore:
    def test_folders_files_and_patterns(self, store, bucket, tmp_path):
        Image.new("RGB", (4, 4)).save(tmp_path / "a b.png")
        (tmp_path / "notes.txt").touch()
        for prefix in ("photos", "photos/deeper", "photos/deeper/still", "photos-other"):
            put(store, bucket, tmp_path, prefix)
        root = f"s3://{bucket}/photos"

        def found(*given):
            return [image.removeprefix(root) for chunk in listed(*given) for image, _ in chunk.images]

        assert found(root) == found(root + "/") == found(root + "/a b.png") == found(root + "/*.png") == ["/a b.png"]
        everywhere = [one for chunk in listed(root + "/**/*.png") for one in (*chunk.images, *chunk.refused)]
        assert [one[0].removeprefix(root) for one in everywhere] == [
            "/a b.png", "/deeper/a b.png", "/deeper/still/a b.png",
        ]  # fmt: skip
        assert found(f"s3://{bucket}/photos-*/*.png") == ["-other/a b.png"]
        assert any("1 subfolder (such as deeper)" in note for chunk in listed(root) for note in chunk.notes)

    @pytest.mark.parametrize("place", ["nowhere", "photos/*.gif", "photos/nothing.png"])
    def test_nothing_there(self, store, bucket, tmp_path, place):
        Image.new("RGB", (4, 4)).save(tmp_path / "a.png")
        put(store, bucket, tmp_path, "photos")
        assert "Check the " in listed(f"s3://{bucket}/{place}")[-1].fatal
        assert "Check the " in listed(f"s3://there-is-none/{place}")[-1].fatal


def test_listing_needs_no_pytorch():
    """The process that lists would take a gigabyte and ten seconds for it."""
    import subprocess
    import sys

    code = f"import sys, {listing.__name__}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
