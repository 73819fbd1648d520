"""Volumes are read slice by slice, in one orientation, and written back as they lie."""

import gzip
import re
import struct

import nibabel
import numpy as np
import pytest
import tifffile
from PIL import Image
from pydicom.uid import JPEG2000Lossless, generate_uid

from convlora.data.checking.check import check_data
from convlora.data.dataset import read_sample
from convlora.data.reading.band_files import read_bands
from convlora.data.reading.bands import BandReading
from convlora.data.reading.images import read_image, read_mask
from convlora.data.reading.volumes import kept
from convlora.data.reading.volumes.kept import Stored
from convlora.data.reading.volumes.nifti import is_own_nifti, write_nifti
from convlora.data.reading.volumes.slices import slices_of
from convlora.data.reading.volumes.slicing import Slicing
from convlora.data.reading.volumes.volume import as_stored
from convlora.data.sources.opening import open_data
from convlora.errors import InputError
from tests.data import volumes_on_disk as on_disk

SHAPE = (5, 6, 4)
ORIENTATIONS = ["RAS", "LPS", "SAL", "PIR", "AIL"]
BY_RANGE = Slicing(value_range=(0.0, 255.0))


def numbered(kind=np.int16):
    return np.arange(np.prod(SHAPE)).reshape(SHAPE).astype(kind)


def seen(path, axis="axial", kind="nifti"):
    volume = Stored(path, kind, axis).open()
    return np.stack([volume.read(index) for index in range(volume.shape[0])]), volume


def expected(values, axis):
    """From (right, front, up) to what a radiologist sees: the right side on the left, the front or the head on top."""
    if axis == "axial":
        return values[::-1, ::-1, :].transpose(2, 1, 0)
    if axis == "coronal":
        return values[::-1, ::-1, ::-1].transpose(1, 2, 0)
    return values[::-1, ::-1, ::-1].transpose(0, 2, 1)


@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
@pytest.mark.parametrize("codes", ORIENTATIONS)
def test_every_orientation_is_seen_alike_and_written_back(tmp_path, codes, ending):
    path = on_disk.write_nifti(tmp_path / f"a{ending}", numbered(), codes)
    for axis, spacing in (("axial", (3.0, 1.1, 0.8)), ("coronal", (1.1, 3.0, 0.8)), ("sagittal", (0.8, 3.0, 1.1))):
        found, volume = seen(path, axis)
        assert np.array_equal(found, expected(numbered(), axis) if axis != "sagittal" else found)
        assert volume.spacing == pytest.approx(spacing)
        stored = as_stored(found, volume.placement)
        assert np.array_equal(stored, np.asarray(nibabel.load(path).dataobj))


def test_sagittal_slices_have_the_head_on_top_and_the_front_on_the_left(tmp_path):
    found, _ = seen(on_disk.write_nifti(tmp_path / "a.nii", numbered(), "PIR"), "sagittal")
    values = numbered()
    assert found[0, 0, 0] == values[-1, -1, -1]  # the right side first
    assert found[1, 0, 0] == values[-2, -1, -1]
    assert found[0, 1, 0] == values[-1, -1, -2]  # down
    assert found[0, 0, 1] == values[-1, -2, -1]  # to the back


@pytest.mark.parametrize("oblique", [False, True])
@pytest.mark.parametrize("codes", ["RAS", "SAL"])
def test_labels_are_written_where_the_volume_lies(tmp_path, codes, oblique):
    path = on_disk.write_nifti(tmp_path / "a.nii.gz", numbered(), codes, oblique)
    found, volume = seen(path)
    write_nifti(as_stored(found.astype(np.uint8), volume.placement), volume.placement, tmp_path / "b.nii.gz")
    one, other = nibabel.load(path), nibabel.load(tmp_path / "b.nii.gz")
    assert np.array_equal(one.affine, other.affine)
    assert one.shape == other.shape
    assert one.header.get_zooms() == other.header.get_zooms()
    assert one.header.get_sform(coded=True)[1] == other.header.get_sform(coded=True)[1]
    assert other.header.get_xyzt_units()[0] == "mm"
    assert other.get_data_dtype() == np.uint8
    assert np.array_equal(np.asarray(one.dataobj), np.asarray(other.dataobj))
    assert is_own_nifti(tmp_path / "b.nii.gz")
    assert not is_own_nifti(path)


def test_scaled_values_and_metres(tmp_path):
    image = nibabel.Nifti1Image(numbered(), on_disk.affine())
    image.header.set_slope_inter(0.5, -3)
    image.header.set_xyzt_units("meter")
    for name in ("a.nii", "a.nii.gz"):
        image.to_filename(tmp_path / name)
        found, volume = seen(tmp_path / name)
        assert np.allclose(found, expected(nibabel.load(tmp_path / name).get_fdata(), "axial"))
        assert volume.spacing == pytest.approx((3000, 1100, 800))


def test_values_become_intensities_by_the_range_of_the_volume(tmp_path):
    values = numbered()
    stored = Stored(on_disk.write_nifti(tmp_path / "a.nii", values), "nifti", "axial")
    as_seen = expected(values, "axial")
    one = slices_of(stored, stored.facts(), Slicing(), "a")[1]
    stretched = np.rint(as_seen[1] * (255 / values.max()))
    assert np.array_equal(np.asarray(read_image(one, "image"))[..., 0], stretched)
    windowed = slices_of(stored, stored.facts(), Slicing(value_range=(20.0, 60.0)), "a")[1]
    assert np.array_equal(
        np.asarray(read_image(windowed))[..., 2], np.rint((as_seen[1].clip(20, 60) - 20.0) * (255 / 40))
    )
    negative = Stored(on_disk.write_nifti(tmp_path / "b.nii", values - 9), "nifti", "axial")
    with pytest.raises(InputError, match="value_range"):
        read_image(slices_of(negative, negative.facts(), Slicing(), "b")[0])


def test_neighbours_are_channels(tmp_path):
    values = numbered(np.uint8)
    stored = Stored(on_disk.write_nifti(tmp_path / "a.nii.gz", values), "nifti", "axial")
    as_seen = expected(values, "axial")
    found = [np.asarray(read_image(one)) for one in slices_of(stored, stored.facts(), Slicing(neighbours=True), "a")]
    for index, around in enumerate([(0, 0, 1), (0, 1, 2), (1, 2, 3), (2, 3, 3)]):
        assert np.array_equal(found[index], np.stack([as_seen[place] for place in around], -1))


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
def test_channels_are_bands(tmp_path, name):
    """Those of the fourth dimension; each lies as the volume does."""
    values = np.stack([numbered(), 2 * numbered() + 7, 900 - numbered()], -1)
    stored = Stored(on_disk.write_nifti(tmp_path / "train/images" / name, values, "PIR"), "nifti", "coronal")
    each = [expected(values[..., band], "coronal") for band in range(3)]
    one = slices_of(stored, stored.facts(), Slicing("coronal"), "a")[2]
    full = (0.0, 255.0)
    assert np.array_equal(one.values(), np.stack([band[2] for band in each], -1))
    picked = read_bands(one, BandReading((3, 1), 2, ((800.0, 900.0), full), ((0.0, 0.0), (1.0, 1.0))))
    assert np.array_equal(picked.pixels[..., 1], each[0][2])
    assert np.array_equal(picked.pixels[..., 0], np.rint((each[2][2].clip(800, 900) - 800.0) * 2.55))
    for read in (read_image, read_mask):
        with pytest.raises(InputError, match=r"3 channels.*model\.bands=3"):
            read(one)
    with pytest.raises(InputError, match="has 3 bands, but 4"):
        read_bands(one, BandReading(None, 4))
    on_disk.write_nifti(tmp_path / "train/masks" / name, (numbered() > 50).astype(np.uint8))
    for full_check in (True, False):
        report = check_data(open_data(tmp_path), full=full_check)
        assert [problem.kind for problem in report.problems] == ["numpy-bands"]
        assert "model.bands=3" in report.problems[0].message
        assert report.bands == [3]
    own = BandReading(None, 3)
    assert check_data(open_data(tmp_path), full=True, intensity=own).problems == []


def test_a_data_set_of_volumes(tmp_path):
    values, mask = on_disk.spheres()
    for split, codes in (("train", ("RAS", "LPS", "PIR")), ("test", ("SAL",))):
        for number, code in enumerate(codes):
            folder = tmp_path / split
            on_disk.write_nifti(folder / "images" / f"c{number}.nii", values + number, code)
            on_disk.write_nifti(folder / "masks" / f"c{number}.nii.gz", mask, "RAS")  # stored in another order
    source = open_data(tmp_path, slicing=Slicing(value_range=(-160.0, 240.0)))
    assert source.problems == []
    assert {split: len(samples) for split, samples in source.splits.items()} == {"train": 24, "test": 8}
    report = check_data(source, full=True)
    assert report.problems == []
    assert [len(volumes) for volumes in report.volumes.values()] == [3, 1]
    assert report.volumes["test"][0].spacing == pytest.approx((3.0, 1.1, 0.8))
    train, val = source.train_val(seed=0)
    assert len({sample.image.volume for sample in val}) == 1
    assert len(val) == 8
    assert not {sample.image.volume for sample in val} & {sample.image.volume for sample in train}
    sample = source.splits["test"][3]
    image, labels = read_sample(sample, report.classes)
    assert np.array_equal(labels, expected(mask, "axial")[3])
    assert labels.any()
    bright = np.asarray(image)[..., 0]
    assert bright[labels == 1].mean() > bright[labels == 0].mean() + 50
    assert sample.name == "c0__0004"


def test_one_volume_cannot_be_divided(tmp_path):
    values, mask = on_disk.spheres()
    on_disk.write_nifti(tmp_path / "train/images/a.nii", values)
    on_disk.write_nifti(tmp_path / "train/masks/a.nii", mask)
    with pytest.raises(InputError, match="one volume"):
        open_data(tmp_path).train_val(seed=0)


def problem_of(tmp_path, image, mask, **slicing):
    """The first problem of a good pair beside a bad one."""
    values = on_disk.spheres((6, 7, 3))[0]
    labels = np.indices((6, 7, 3)).sum(0).astype(np.uint8) % 2
    on_disk.write_nifti(tmp_path / "train/images/good.nii", values)
    on_disk.write_nifti(tmp_path / "train/masks/good.nii", labels)
    image(tmp_path / "train/images")
    mask(tmp_path / "train/masks")
    source = open_data(tmp_path, slicing=Slicing(value_range=(-200.0, 200.0), **slicing))
    problems = [*source.problems, *check_data(source, full=True).problems]
    messages = {problem.message for problem in problems if problem.severity == "error"}
    assert all("bad.nii" in message for message in messages), messages
    return sorted(messages)[0]


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda path: on_disk.write_nifti(path, np.zeros((6, 7, 4), np.uint8)), "4x7x6"),
        (lambda path: nibabel.Nifti1Image(np.zeros((6, 7, 3), np.uint8), np.eye(4)).to_filename(path), "elsewhere"),
        (
            lambda path: nibabel.Nifti1Image(np.zeros((6, 7, 3, 2), np.uint8), on_disk.affine()).to_filename(path),
            "2 channels, but a mask",
        ),
        (lambda path: path.write_bytes(b"no volume"), "no NIfTI"),
        (lambda path: path.write_bytes(b""), "no NIfTI"),
        (lambda path: on_disk.write_nifti(path, np.full((6, 7, 3), 0.5, np.float32)), "fractions"),
    ],
)
def test_masks_that_do_not_fit(tmp_path, make, words):
    values = on_disk.spheres((6, 7, 3))[0]
    message = problem_of(
        tmp_path,
        lambda folder: on_disk.write_nifti(folder / "bad.nii", values),
        lambda folder: make(folder / "bad.nii"),
    )
    assert words in message
    assert "masks/bad.nii" in message


def patched(content, offset, kind, *values):
    return content[:offset] + struct.pack(kind, *values) + content[offset + struct.calcsize(kind) :]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda raw: gzip.compress(raw)[:-200], "damaged or cut short"),
        (lambda raw: gzip.compress(raw[:-50]), "cut short"),
        (lambda raw: gzip.compress(patched(raw, 40, "<8h", 3, 32767, 32767, 32767, 1, 1, 1, 1)), "too large|memory"),
        (lambda raw: gzip.compress(patched(raw, 40, "<8h", 3, 3000, 3000, 100, 1, 1, 1, 1)), "promises"),
        (lambda raw: gzip.compress(patched(raw, 40, "<8h", 3, 0, 5, 5, 1, 1, 1, 1)), "no volume"),
        (lambda raw: gzip.compress(patched(raw, 40, "<8h", 3, -5, 5, 5, 1, 1, 1, 1)), "no volume|damaged"),
        (lambda raw: gzip.compress(patched(raw, 40, "<8h", 5, 3, 3, 3, 1, 3, 1, 1)), "5 dimensions"),
        (lambda raw: gzip.compress(patched(raw, 40, "<8h", 4, 3, 3, 3, 2000, 1, 1, 1)), "at most 1024 channels"),
        (lambda raw: gzip.compress(patched(raw, 40, "<8h", 4, 900, 900, 1, 1000, 1, 1, 1)), "promises"),
        (lambda raw: gzip.compress(patched(raw, 108, "<f", 1e9)), "damaged"),
        (lambda raw: gzip.compress(patched(raw, 70, "<h", 128)), "colours"),
        (lambda raw: gzip.compress(patched(raw, 70, "<h", 77)), "damaged"),
        (lambda raw: gzip.compress(patched(raw, 344, "4s", b"ni1\0")), "another file"),
        (lambda raw: gzip.compress(patched(raw, 280, "<12f", *[float("nan")] * 12)), "affine"),
        (lambda raw: gzip.compress(b"\0" * (1 << 20)), "no NIfTI"),
        (lambda raw: raw, "damaged or cut short"),
    ],
)
def test_hostile_files_are_refused_before_memory_is_taken(tmp_path, change, words):
    raw = nibabel.Nifti1Image(np.random.default_rng(0).integers(0, 99, (9, 9, 9), np.int16), np.eye(4)).to_bytes()
    path = tmp_path / "a.nii.gz"
    path.write_bytes(change(raw))
    with pytest.raises(InputError, match=words) as caught:
        seen(path)
    assert str(path) in str(caught.value)


def test_little_is_kept_in_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(kept, "MOST_BYTES", 3 * numbered().nbytes)
    for index in range(6):
        seen(on_disk.write_nifti(tmp_path / f"{index}.nii.gz", numbered()))
    assert sum(volume.nbytes for _, volume in kept._KEPT._volumes.values()) <= kept.MOST_BYTES
    path = on_disk.write_nifti(tmp_path / "5.nii.gz", numbered() + 1000)  # a file that is replaced is read again
    assert seen(path)[0].min() == 1000


def test_a_dicom_series_lies_where_its_files_say(tmp_path):
    values = np.random.default_rng(0).integers(0, 3000, (4, 5, 6))
    folder = on_disk.write_dicom(tmp_path / "scan", values)
    found, volume = seen(folder, kind="dicom")
    assert np.array_equal(found, values - 1024.0)  # rows to the back, columns to the left, slices up
    assert volume.spacing == pytest.approx((2.5, 1.5, 0.75))
    # The voxel of slice 2, row 3 and column 4 in millimetres left, back and up, by part 3, C.7.6.2.1.1 of the standard.
    lps = np.array([-20 + 4 * 0.75, -30 + 3 * 1.5, 100 + 2 * 2.5])
    assert volume.placement.affine @ [4, 3, 2, 1] == pytest.approx([-lps[0], -lps[1], lps[2], 1])
    write_nifti(as_stored(found.astype(np.uint16), volume.placement), volume.placement, tmp_path / "b.nii.gz")
    again, other = seen(tmp_path / "b.nii.gz")
    assert np.array_equal(again, found.astype(np.uint16))
    assert other.spacing == pytest.approx(volume.spacing)
    assert b"Nobody" not in gzip.decompress((tmp_path / "b.nii.gz").read_bytes())


def test_a_series_and_its_mask_in_another_orientation(tmp_path):
    values = np.random.default_rng(0).integers(0, 3000, (4, 5, 6))
    folder = on_disk.write_dicom(tmp_path / "train/images/scan.1", values)
    placement = Stored(folder, "dicom", "axial").facts().placement
    mask = nibabel.Nifti1Image((values > 1500).astype(np.uint8).transpose(2, 1, 0), placement.affine)
    (tmp_path / "train/masks").mkdir()
    nibabel.as_closest_canonical(mask).to_filename(tmp_path / "train/masks/scan.1.nii.gz")
    source = open_data(tmp_path)
    assert source.problems == []
    for index, sample in enumerate(source.splits["train"]):
        assert np.array_equal(read_mask(sample.mask), values[index] > 1500)


def mixed(folder):
    on_disk.write_dicom(folder, np.zeros((3, 4, 4)))
    other = on_disk.write_dicom(folder.parent / "other", np.zeros((1, 4, 4)), series=generate_uid())
    next(other.iterdir()).rename(folder / "z.dcm")


def cut(folder):
    on_disk.write_dicom(folder, np.zeros((3, 4, 4)))
    path = folder / "im000.dcm"
    path.write_bytes(path.read_bytes()[:-9])


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (mixed, "2 DICOM series"),
        (lambda folder: on_disk.write_dicom(folder, np.zeros((5, 4, 4)), skip=(2,)), "not evenly spaced"),
        (lambda folder: on_disk.write_dicom(folder, np.zeros((3, 4, 4)), step=0), "not evenly spaced"),
        (lambda folder: on_disk.write_dicom(folder, np.zeros((1, 4, 4))), "one DICOM file"),
        (cut, "damaged or cut short"),
    ],
)
def test_series_that_are_no_volume(tmp_path, make, words):
    make(tmp_path / "scan")
    with pytest.raises(InputError, match=words):
        seen(tmp_path / "scan", kind="dicom")


def test_a_compression_without_a_decoder_is_named(tmp_path, monkeypatch):
    from pydicom import pixels

    folder = on_disk.write_dicom(tmp_path / "scan", np.zeros((3, 4, 4)))
    for path in folder.iterdir():
        content = path.read_bytes()
        old = b"1.2.840.10008.1.2.1\0"
        assert content.count(old) == 1
        # The new name is longer by four bytes, as are the lengths of it and of its group.
        content = content.replace(struct.pack("<H", 20) + old, struct.pack("<H", 22) + JPEG2000Lossless.encode())
        path.write_bytes(patched(content, 140, "<I", struct.unpack_from("<I", content, 140)[0] + 2))

    class Missing:
        is_available = False

    monkeypatch.setattr(pixels, "get_decoder", lambda syntax: Missing())
    with pytest.raises(InputError, match=r"JPEG 2000.*decoder"):
        seen(folder, kind="dicom")


@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
def test_pages_are_slices(tmp_path, kind):
    values = np.random.default_rng(0).integers(0, np.iinfo(kind).max, (3, 6, 7)).astype(kind)
    (tmp_path / "train/images").mkdir(parents=True)
    (tmp_path / "train/masks").mkdir()
    tifffile.imwrite(tmp_path / "train/images/a.tif", values, photometric="minisblack", compression="zlib")
    tifffile.imwrite(tmp_path / "train/masks/a.tif", (values > 99).astype(np.uint8), photometric="minisblack")
    first = open_data(tmp_path)
    assert len(first.splits["train"]) == 1
    assert any("data.pages=slices" in problem.message for problem in check_data(first, full=True).problems)
    samples = open_data(tmp_path, slicing=Slicing(pages="slices")).splits["train"]
    assert len(samples) == 3
    for index, sample in enumerate(samples):
        alone = Image.fromarray(values[index])
        assert np.array_equal(np.asarray(read_image(sample.image)), np.asarray(read_image(alone)))
        assert np.array_equal(read_mask(sample.mask), values[index] > 99)


def test_pages_of_several_sizes_are_refused(tmp_path):
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        for size in ((4, 5), (5, 4)):
            file.write(np.zeros(size, np.uint8), photometric="minisblack")
    with pytest.raises(InputError, match=r"Page 2 of .*a\.tif is 4x5"):
        seen(tmp_path / "a.tif", kind="stack")


def test_without_the_extra_a_message_says_how_to_get_it(tmp_path, monkeypatch):
    path = on_disk.write_nifti(tmp_path / "a.nii", numbered())
    monkeypatch.setitem(__import__("sys").modules, "nibabel", None)
    with pytest.raises(InputError, match=re.escape("pip install 'convlora[volumes]'")):
        Stored(path, "nifti", "axial").facts()


@pytest.mark.parametrize("given", [[2, 1], [1, 1], ["a", 2], [1], 5])
def test_ranges_that_make_no_sense(given):
    with pytest.raises(InputError, match="value_range"):
        Slicing.of({"value_range": given})
