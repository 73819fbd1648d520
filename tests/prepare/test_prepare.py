import dataclasses
import hashlib
import json
import os
import stat
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from convlora.data.checking.check import check_data
from convlora.data.sources.opening import open_data
from convlora.errors import InputError
from convlora.prepare import pairs
from convlora.prepare.catalogue import RemoteFile, find_entry, read_catalogue
from convlora.prepare.prepare import RECORD, prepare
from convlora.recipes import recipe_names
from tests.prepare.conftest import half, isic, mask_file, picture, tables, zipped


def entry_for(name, site, files):
    """The entry with the addresses of a local server, and the checksums of what lies there."""
    site.files |= files
    remote = tuple(
        RemoteFile(f"{site.url}/{file}", f"sha256:{hashlib.sha256(content).hexdigest()}")
        for file, content in files.items()
    )
    return dataclasses.replace(find_entry(name), files=remote, counts={})


def leaf(site, files=None):
    return entry_for("leaf", site, {"leaf.zip": zipped(tables() if files is None else files)})


def masks(folder, split):
    return [np.asarray(Image.open(path)) for path in sorted((folder / split / "masks").iterdir())]


def written(root):
    return {path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()}


def test_every_recipe_has_data():
    assert set(read_catalogue()) == set(recipe_names())


def test_the_catalogue_is_complete():
    for entry in read_catalogue().values():
        assert entry.homepage.startswith("https://")
        assert entry.licence.endswith(".")
        assert entry.tables != bool(entry.layout)
        assert all(file.url.startswith("https://") and file.name for file in entry.files)
        for file in entry.files:
            kind, _, value = (file.checksum or f"sha256:{'0' * 64}").partition(":")
            assert len(value) == {"md5": 32, "sha256": 64}[kind]
        assert entry.masks in ("binary", "index", "means")
        assert len(entry.means) == (len(entry.classes) if entry.masks == "means" else 0)


def test_an_archive_with_tables(site, tmp_path):
    made = prepare(leaf(site), tmp_path / "data")
    assert made.counts == {"train": 3, "val": 1, "test": 2}
    assert made.notes == ()
    source = open_data(tmp_path / "data")
    report = check_data(source, full=True)
    assert not report.errors
    assert report.classes.names == ("background", "disease")
    assert (tmp_path / "data/train/images/1.jpg").read_bytes() == picture("train1")
    assert all(np.array_equal(mask, half()) for mask in masks(tmp_path / "data", "train"))
    assert written(tmp_path) == {f"data/{name}" for name in written(tmp_path / "data")}  # no archive is left
    record = json.loads((tmp_path / "data" / RECORD).read_text())
    assert record["files"][0]["sha256"] == hashlib.sha256(site.files["leaf.zip"]).hexdigest()


def test_test_sets_that_are_scored_apart(site, tmp_path):
    files = tables("polyp", tests=("_Kvasir", "_CVC-ClinicDB"))
    made = prepare(entry_for("polyp", site, {"polyp.zip": zipped(files)}), tmp_path / "data")
    assert made.counts["test"] == 4
    assert len(open_data(tmp_path / "data").split("test")) == 4
    for part in ("Kvasir", "CVC-ClinicDB"):
        alone = open_data(tmp_path / f"data/test_{part}.csv")
        assert [sample.image.name for sample in alone.split("all")] == [f"{part}_0.jpg", f"{part}_1.jpg"]


def test_several_archives(site, tmp_path):
    made = prepare(entry_for("isic2017", site, isic()), tmp_path / "data")
    assert made.counts == {"train": 3, "val": 1, "test": 2}
    assert not check_data(open_data(tmp_path / "data"), full=True).errors
    assert len(list((tmp_path / "data/train/images").iterdir())) == 3  # superpixels are no images


def test_sbu(site, tmp_path):
    files = {}
    for folder, count in (("SBUTrain4KRecoveredSmall", 3), ("SBU-Test", 2)):
        for index in range(count):
            files[f"SBU-shadow/{folder}/ShadowImages/lssd{index}.jpg"] = picture(index)
            files[f"SBU-shadow/{folder}/ShadowMasks/lssd{index}.png"] = mask_file(half())
    files["SBU-shadow/SBUTrain4KRecoveredSmall/ShadowImages/alone.jpg"] = picture(7)
    files["__MACOSX/SBU-shadow/SBU-Test/ShadowImages/._lssd0.jpg"] = b"junk"
    entry = dataclasses.replace(entry_for("sbu-shadow", site, {"s.zip": zipped(files)}), counts={"train": 4, "test": 2})
    made = prepare(entry, tmp_path / "data")
    assert made.counts == {"train": 3, "test": 2}
    assert made.notes == (
        "1 images or table rows without an image or a mask were left out.",
        "The split train has 3 pairs; 4 are known of it.",
    )


def transparent(masks_folder, mask, parts=("",)):
    files = {}
    for split in ("train", "validation", "test"):
        for part in parts if split != "train" else ("",):
            files[f"T/{split}/{part}images/{split}{part.strip('/')}.jpg"] = picture(1)
            files[f"T/{split}/{part}{masks_folder}/{split}{part.strip('/')}_mask.png"] = mask_file(mask)
    return files


def test_by_hand_from_an_archive_or_its_folder(tmp_path):
    indices = half(11)
    archive = tmp_path / "Trans10K_cls12.zip"
    archive.write_bytes(zipped(transparent("masks_12", indices)))
    made = prepare(find_entry("trans10k-v2"), tmp_path / "a", given=archive)
    assert made.counts == {"train": 1, "val": 1, "test": 1}
    assert any("No checksum is known for Trans10K_cls12.zip" in note for note in made.notes)
    assert archive.is_file()
    with zipfile.ZipFile(archive) as opened:
        opened.extractall(tmp_path / "unpacked")
    prepare(find_entry("trans10k-v2"), tmp_path / "b", given=tmp_path / "unpacked")
    assert written(tmp_path / "a") == written(tmp_path / "b")
    assert np.array_equal(masks(tmp_path / "b", "val")[0], indices)


def test_masks_in_the_colours_of_things_and_stuff(tmp_path):
    colours = np.zeros((12, 16, 3), dtype=np.uint8)
    colours[:4], colours[8:] = (255, 0, 0), (255, 255, 255)
    archive = tmp_path / "t.zip"
    archive.write_bytes(zipped(transparent("masks", colours, parts=("easy/", "hard/"))))
    made = prepare(find_entry("trans10k-v1"), tmp_path / "data", given=archive)
    assert made.counts == {"train": 1, "val": 2, "test": 2}
    expected = np.repeat([1, 0, 2], 4)[:, None].repeat(16, axis=1)
    assert np.array_equal(masks(tmp_path / "data", "test")[0], expected)
    colours[0, 0] = (10, 20, 30)
    archive.write_bytes(zipped(transparent("masks", colours)))
    with pytest.raises(InputError, match=r"train_mask.png has the mean value 20, which stands for none"):
        prepare(find_entry("trans10k-v1"), tmp_path / "other", given=archive)
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize(("foreground", "form"), [(255, "PNG"), (255, "JPEG"), (38, "PNG"), (1, "PNG")])
def test_binary_masks_come_in_all_forms(site, tmp_path, foreground, form):
    prepare(leaf(site, tables(foreground=foreground, mask_form=form)), tmp_path / "data")
    expected = half() if foreground > 8 else half() * 0  # a grey of 1 cannot be told from noise of compression
    assert all(np.array_equal(mask, expected) for mask in masks(tmp_path / "data", "train"))


def test_an_interrupted_transfer_leaves_no_data_set(site, tmp_path, monkeypatch):
    entry = leaf(site)
    site.cut_after = [len(site.files["leaf.zip"]) // 2]

    def interrupted(seconds):
        raise KeyboardInterrupt

    monkeypatch.setattr("pooch.core.time.sleep", interrupted)
    with pytest.raises(KeyboardInterrupt):
        prepare(entry, tmp_path / "data")
    assert not (tmp_path / "data").exists()
    prepare(entry, tmp_path / "data")
    assert not (tmp_path / "data.download").exists()


def test_what_is_there_stays(site, tmp_path):
    entry = leaf(site)
    prepare(entry, tmp_path / "data")
    before = len(site.asked)
    again = prepare(entry, tmp_path / "data")
    assert again.again
    assert again.counts == {"train": 3, "val": 1, "test": 2}
    assert len(site.asked) == before
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/notes.txt").write_text("dear")
    for folder in (tmp_path / "mine", tmp_path / "data"):
        with pytest.raises(InputError, match=r"holds something else\. Choose another --output"):
            prepare(dataclasses.replace(entry, name="camo"), folder)
    assert (tmp_path / "mine/notes.txt").read_text() == "dear"


def test_a_mirror(site, tmp_path):
    entry = leaf(site)
    site.files["far/leaf.zip"] = site.files.pop("leaf.zip")
    prepare(entry, tmp_path / "data", mirror=f"{site.url}/far/")
    assert open_data(tmp_path / "data").splits.keys() == {"train", "val", "test"}


def bad(site, tmp_path, content):
    entry = entry_for("leaf", site, {"leaf.zip": content})
    with pytest.raises(InputError) as caught:
        prepare(entry, tmp_path / "data")
    assert not (tmp_path / "data").exists()
    assert not any(path.name.startswith(".data") for path in tmp_path.iterdir())
    return str(caught.value)


def test_broken_archives(site, tmp_path):
    whole = zipped(tables())
    assert "is a damaged or incomplete zip archive" in bad(site, tmp_path, whole[: len(whole) // 2])
    page = bad(site, tmp_path / "b", b"<!DOCTYPE html><html>Please log in</html>")
    assert "is a web page and no archive" in page
    assert "is no zip archive" in bad(site, tmp_path / "c", b"")
    flipped = bytearray(whole)
    flipped[whole.index(b"train/images/0.jpg") + 200] ^= 0xFF
    assert "is damaged" in bad(site, tmp_path / "d", bytes(flipped))


def test_an_archive_that_is_none_is_fetched_anew(site, tmp_path):
    """Without a checksum there is nothing to tell it by before it is opened."""
    entry = leaf(site)
    whole = site.files["leaf.zip"]
    entry = dataclasses.replace(entry, files=(RemoteFile(f"{site.url}/leaf.zip"),))
    site.files["leaf.zip"] = b"<!doctype html>log in"
    with pytest.raises(InputError, match="is a web page"):
        prepare(entry, tmp_path / "data")
    site.files["leaf.zip"] = whole
    assert prepare(entry, tmp_path / "data").counts["train"] == 3


def test_not_into_the_folder_one_is_in(site, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="--output is the folder you are in"):
        prepare(leaf(site), Path())
    assert prepare(leaf(site), Path("data")).folder == tmp_path / "data"


def test_archives_without_what_is_needed(site, tmp_path):
    files = tables()
    assert "hold no pair of image and mask for train and test" in bad(site, tmp_path, zipped({"readme.txt": b"x"}))
    lacking = {name: content for name, content in files.items() if "/test/gt" not in name}
    assert "hold no pair of image and mask for test" in bad(site, tmp_path / "b", zipped(lacking))
    name = "leaf_disease_segmentation/train.csv"
    assert "is not a table with the columns" in bad(site, tmp_path / "c", zipped(files | {name: b"a,b\n1,2\n"}))
    assert "is not a table with the columns" in bad(site, tmp_path / "d", zipped(files | {name: b"\xff\xfe\x00"}))
    image = "leaf_disease_segmentation/train/images/0.jpg"
    assert "train/images/0.jpg is a web page, not an image" in bad(
        site, tmp_path / "e", zipped(files | {image: b"<html>"})
    )


def test_names_cannot_lead_out_of_the_folder(site, tmp_path):
    files = {name.replace("leaf_disease_segmentation/", "x/../../../"): content for name, content in tables().items()}
    files["../../evil.txt"] = files["/etc/evil.txt"] = b"evil"
    prepare(entry_for("leaf", site, {"leaf.zip": zipped(files)}), tmp_path / "a" / "b" / "data")
    assert {name.split("/")[3] for name in written(tmp_path)} == {"train", "val", "test", "classes.json", RECORD}
    rows = tables()
    rows["leaf_disease_segmentation/train.csv"] = b"image,label\n/etc/passwd,../../../../etc/passwd\n"
    assert "hold no pair of image and mask for train" in bad(site, tmp_path / "t", zipped(rows))


def test_strange_names_become_harmless(site, tmp_path):
    files = tables()
    rows = ["image,label"]
    for name in ("a b?.jpg", "ä:ö.jpg", "A_B_.jpg", "..hidden.jpg", "x" * 180 + ".jpg"):
        files[f"leaf_disease_segmentation/odd/{name}"] = picture(1)
        rows.append(f"odd/{name},train/gt/0.png")
    files["leaf_disease_segmentation/train.csv"] = "\n".join(rows).encode()
    prepare(leaf(site, files), tmp_path / "data")
    found = sorted(path.name for path in (tmp_path / "data/train/images").iterdir())
    assert found == sorted(["a_b_.jpg", "ä_ö.jpg", "A_B__2.jpg", "hidden.jpg", "x" * 100 + ".jpg"])


def test_links_in_archives_are_not_followed(tmp_path):
    member = zipfile.ZipInfo("leaf_disease_segmentation/train/images/0.jpg")
    member.external_attr = (stat.S_IFLNK | 0o777) << 16
    files = {name: content for name, content in tables().items() if name != member.filename}
    path = tmp_path / "links.zip"
    path.write_bytes(zipped(files))
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(member, "/etc/passwd")
    entry = dataclasses.replace(find_entry("leaf"), files=())
    made = prepare(entry, tmp_path / "data", given=path)
    assert made.counts["train"] == 2


@pytest.mark.skipif(not hasattr(os, "symlink"), reason="needs links")
def test_links_in_folders_may_not_lead_outside(tmp_path):
    root = tmp_path / "unpacked"
    for name, content in tables().items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    secret = tmp_path / "secret.jpg"
    secret.write_bytes(picture(9))
    image = root / "leaf_disease_segmentation/train/images/0.jpg"
    image.unlink()
    image.symlink_to(secret)
    (root / "loop").symlink_to(root, target_is_directory=True)
    made = prepare(dataclasses.replace(find_entry("leaf"), files=()), tmp_path / "data", given=root)
    assert made.counts["train"] == 2


def test_bombs_are_not_unpacked(site, tmp_path, monkeypatch):
    monkeypatch.setattr("convlora.prepare.bundles.LARGEST_MEMBER", 1 << 16)
    files = tables() | {"leaf_disease_segmentation/train/images/0.jpg": b"\0" * (1 << 20)}
    assert "would take 1 MB" in bad(site, tmp_path, zipped(files))
    # A member that claims to be small.
    lying = bytearray(zipped(files))
    at = lying.rindex(b"leaf_disease_segmentation/train/images/0.jpg")
    lying[at - 46 + 24 : at - 46 + 28] = struct.pack("<I", 100)
    assert "is damaged" in bad(site, tmp_path / "b", bytes(lying))
    large = zipped(tables() | {"leaf_disease_segmentation/train.csv": b"image,label\n" + b"x" * (1 << 17)})
    assert "would take" in bad(site, tmp_path / "c", large)
    monkeypatch.setattr("convlora.prepare.pairs._LARGEST_TABLE", 1 << 14)
    rows = zipped(tables() | {"leaf_disease_segmentation/train.csv": b"image,label\n" + b"x,y\n" * (1 << 13)})
    assert "train.csv has 0 MB. No such table is read." in bad(site, tmp_path / "d", rows)


def test_what_no_image_can_need_is_not_read(site, tmp_path):
    files = {"leaf_disease_segmentation/train/images/0.jpg": picture("train0") + b"\0" * (130 << 20)}
    assert "would take 130 MB. No such image is read." in bad(site, tmp_path, zipped(tables() | files))


def padded(number):
    """A large image that compresses to nothing, named in the table with several masks."""
    files = tables()
    rows = ["image,label"]
    for index in range(number):
        files[f"leaf_disease_segmentation/train/gt/m{index}.png"] = mask_file(half())
        rows.append(f"train/images/0.jpg,train/gt/m{index}.png")
    files["leaf_disease_segmentation/train/images/0.jpg"] = picture("train0") + b"\0" * (1 << 20)
    files["leaf_disease_segmentation/train.csv"] = "\n".join(rows).encode()
    return files


def test_a_small_archive_cannot_fill_the_disk(site, tmp_path, monkeypatch):
    monkeypatch.setattr("convlora.prepare.bundles._ALWAYS_READ", 5 << 20)
    told = bad(site, tmp_path, zipped(padded(12)))
    assert "leaf.zip has 0.0 MB, but more than 5 MB would be read from it. It is not to be trusted" in told
    prepare(leaf(site, padded(2)), tmp_path / "few")
    for name, content in padded(50).items():
        (tmp_path / "unpacked" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "unpacked" / name).write_bytes(content)
    entry = dataclasses.replace(find_entry("leaf"), files=())
    with pytest.raises(InputError, match=r"unpacked has 1\.0 MB, but more than 25 MB would be read from it"):
        prepare(entry, tmp_path / "other", given=tmp_path / "unpacked")


def test_a_pair_that_is_listed_again_is_taken_once(site, tmp_path):
    files = tables()
    rows = b"image,label\n" + b"train/images/0.jpg,train/gt/0.png\ntrain/./images/0.jpg,train/gt/0.png\n" * 50
    files["leaf_disease_segmentation/train.csv"] = rows + b"train/images/0.jpg,train/gt/1.png\n"
    made = prepare(leaf(site, files), tmp_path / "data")
    assert made.counts["train"] == 2
    assert made.notes == ("99 table rows that name a pair for the second time were left out.",)


def test_long_names_of_parts(site, tmp_path):
    """They become part of the names of files, which are limited in bytes."""
    files = tables()
    parts = ["a" * 300 + "1", "a" * 300 + "2", "ä" * 300, "B", "b"]
    del files["leaf_disease_segmentation/test.csv"]
    for index, part in enumerate(parts):
        image, mask = f"{index}/{'ä' * 100}.jpg", f"{index}/mask.png"
        files[f"leaf_disease_segmentation/{image}"], files[f"leaf_disease_segmentation/{mask}"] = (
            picture(1),
            mask_file(half()),
        )
        files[f"leaf_disease_segmentation/test_{part}.csv"] = f"image,label\n{image},{mask}\n".encode()
    prepare(leaf(site, files), tmp_path / "data")
    assert len(open_data(tmp_path / "data").split("test")) == 5
    apart = [open_data(path).split("all") for path in sorted((tmp_path / "data").glob("test_*.csv"))]
    assert [len(samples) for samples in apart] == [1] * 5
    assert len({sample.image for samples in apart for sample in samples}) == 5


class Names:
    """A bundle of which only the names are asked for."""

    def __init__(self, names):
        self._names = names

    def names(self):
        return self._names


def test_files_are_found_by_the_end_of_their_paths():
    rng = np.random.default_rng(0)
    names = {"/".join(rng.choice(["a", "b", "ba", "c"], rng.integers(1, 5))) for _ in range(60)}
    files = pairs._Files([Names(sorted(names))])
    for wanted in [*names, *("/".join(rng.choice(["a", "b", "c"], rng.integers(1, 4))) for _ in range(200))]:
        ends = [name for name in names if f"/{name}".endswith(f"/{wanted}")]
        expected = wanted if wanted in names else ends[0] if len(ends) == 1 else None
        found = files.find(wanted)
        assert (found and found.name) == expected


def test_many_files_of_the_same_name_take_no_time():
    """Were each compared with every other, this would take many minutes."""
    number, names = 40_000, []
    for folder in ("Training", "Validation", "Test_v2"):
        names.append(f"ISIC-2017_{folder}_Part1_GroundTruth/ISIC_0_segmentation.png")
        names += [f"{index}/ISIC-2017_{folder}_Data/ISIC_0.jpg" for index in range(number)]
    names += [f"{index}/ISIC_0_segmentation.png" for index in range(number)]
    found = pairs.find_pairs(find_entry("isic2017"), [Names(names)])
    assert len({(pair.split, pair.stem) for pair in found.pairs}) == 3 * number
    assert found.pairs[1].stem == "ISIC_0_2"


def test_encrypted_archives(site, tmp_path):
    content = bytearray(zipped(tables()))
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        at = content.find(signature)
        while at >= 0:
            content[at + offset] |= 1
            at = content.find(signature, at + 4)
    assert "is encrypted" in bad(site, tmp_path, bytes(content))


def test_what_was_fetched_by_hand_is_checked(site, tmp_path):
    archives = isic()
    entry = entry_for("isic2017", site, archives)
    folder = tmp_path / "given"
    folder.mkdir()
    first, *others = archives
    (folder / first).write_bytes(archives[first])
    with pytest.raises(InputError, match=r"lacks .*GroundTruth\.zip"):
        prepare(entry, tmp_path / "data", given=folder)
    with pytest.raises(InputError, match="consists of 6 files"):
        prepare(entry, tmp_path / "data", given=folder / first)
    for name in others:
        (folder / name).write_bytes(archives[name])
    (folder / first).write_bytes(archives[first] + b"x")
    with pytest.raises(InputError, match=r"but .* was expected: it is damaged, or not ISIC"):
        prepare(entry, tmp_path / "data", given=folder)
    (folder / first).write_bytes(archives[first])
    assert prepare(entry, tmp_path / "data", given=folder).counts["train"] == 3
    assert len(list(folder.iterdir())) == 6
    assert site.asked == []


def test_by_hand_only(tmp_path):
    with pytest.raises(InputError, match=r"fetch it from https://.* with --from"):
        prepare(find_entry("trans10k-v1"), tmp_path / "data")
    with pytest.raises(InputError, match="does not exist"):
        prepare(find_entry("trans10k-v1"), tmp_path / "data", given=tmp_path / "none.zip")
