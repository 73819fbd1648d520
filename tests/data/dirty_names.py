"""Names, links and folders that are not as they should be."""

import os
import shutil
import unicodedata

from tests.data.dirty import Case, Data, error, noise, put, refused, save, stripes, warning


def renamed(name: str):
    """Both files of a pair under another name."""

    def spoil(data: Data) -> None:
        data.image().rename(data.image(f"{name}.png"))
        data.mask().rename(data.mask(f"{name}.png"))

    return spoil


def without(*folders: str):
    def spoil(data: Data) -> None:
        for folder in folders:
            shutil.rmtree(data.root / folder)

    return spoil


def emptied(folder: str):
    def spoil(data: Data) -> None:
        for path in (data.root / folder).iterdir():
            path.unlink()

    return spoil


def litter(data: Data) -> None:
    for name in (".DS_Store", "._1.png", "Thumbs.db", "desktop.ini", ".hidden.png", "notes.txt"):
        data.image(name).write_bytes(b"x")
        data.mask(name).write_bytes(b"x")
    (data.root / "__MACOSX").mkdir()
    (data.root / ".ipynb_checkpoints").mkdir()
    (data.root / "train" / "images" / ".ipynb_checkpoints").mkdir()


def moved(path: str, target: str):
    def spoil(data: Data) -> None:
        (data.root / target).parent.mkdir(parents=True, exist_ok=True)
        (data.root / path).rename(data.root / target)

    return spoil


def all_moved(source: str, target: str):
    def spoil(data: Data) -> None:
        for folder in data.root.glob(f"*/{source}"):
            folder.rename(folder.with_name("moving"))
            (folder.parent / target).parent.mkdir(parents=True, exist_ok=True)
            (folder.parent / "moving").rename(folder.parent / target)

    return spoil


def splits_called(names: dict[str, str]):
    def spoil(data: Data) -> None:
        for old, new in names.items():
            (data.root / old).rename(data.root / new)

    return spoil


def kinds_above_splits(data: Data) -> None:
    for split in ("train", "val"):
        for kind in ("images", "masks"):
            moved(f"{split}/{kind}", f"{kind}/{split}")(data)
    without("train", "val")(data)


def with_endings(data: Data) -> None:
    for path in sorted(data.root.glob("*/masks/*")):
        path.rename(path.with_name(f"{path.stem}_mask.png"))


def linked(target):
    """The image becomes a link."""

    def spoil(data: Data) -> None:
        path = data.image()
        aside = data.root / "aside.png"
        path.rename(aside)
        path.symlink_to(target(data, aside))

    return spoil


def linked_folder(data: Data) -> None:
    (data.root / "train" / "images").rename(data.root / "elsewhere")
    (data.root / "train" / "images").symlink_to(data.root / "elsewhere")


def loop_of_folders(data: Data) -> None:
    (data.root / "train" / "images" / "again").symlink_to(data.root / "train" / "images")


def folder_as_image(data: Data) -> None:
    data.image().unlink()
    data.image().mkdir()


def extra_folder_as_image(data: Data) -> None:
    data.image("9.png").mkdir()


def nested(data: Data) -> None:
    for kind in ("images", "masks"):
        folder = data.root / "train" / kind / "site"
        folder.mkdir()
        (folder.parent / "1.png").rename(folder / "1.png")


def same_stem(data: Data) -> None:
    put(data.image("1.jpg"), noise(77))


def same_stem_masks(data: Data) -> None:
    put(data.mask("1.tif"), stripes(0, 1))


def composed(data: Data) -> None:
    """One program wrote the accent as part of the letter, another as a sign of its own."""
    data.image().rename(data.image(unicodedata.normalize("NFC", "é.png")))
    data.mask().rename(data.mask(unicodedata.normalize("NFD", "é.png")))


def not_utf8(data: Data) -> None:
    for path in (data.image(), data.mask()):
        path.rename(os.fsdecode(os.fsencode(path.parent) + b"/\xff.png"))


def copied(source: tuple[str, str], target: tuple[str, str]):
    def spoil(data: Data) -> None:
        shutil.copy(data.image(*source), data.image(*target))

    return spoil


def other_formats(data: Data) -> None:
    data.image().rename(data.image("1.gif"))
    data.image("2.png").rename(data.image("2.HEIC"))


def a_file_as(folder: str):
    def spoil(data: Data) -> None:
        shutil.rmtree(data.root / folder)
        (data.root / folder).write_text("x")

    return spoil


def with_suffix(kind: str, suffix: str):
    def spoil(data: Data) -> None:
        for path in sorted(data.root.glob(f"*/{kind}/*")):
            path.rename(path.with_suffix(suffix))

    return spoil


def undivided_in_capitals(data: Data) -> None:
    for kind in ("images", "masks"):
        moved(f"train/{kind}", kind.capitalize())(data)
    without("train", "val")(data)


def one_sample(data: Data) -> None:
    without("val")(data)
    for name in ("1.png", "2.png", "3.png"):
        data.image(name).unlink()
        data.mask(name).unlink()


def unlabelled_test(data: Data) -> None:
    save(data.image("0.png", "test"), noise(9))


CASES = [
    Case(
        "no mask",
        lambda data: data.mask().unlink(),
        [error("missing-pair", "train/images/1.png", "no mask", "Add", "train/masks/1.png")],
    ),
    Case(
        "no image",
        lambda data: data.image().unlink(),
        [error("missing-pair", "train/masks/1.png", "no image", "train/images")],
    ),
    Case(
        "no masks at all",
        emptied("train/masks"),
        [
            error("missing-pair", "train/images/0.png", "no mask", "Add", "train/masks/0.png"),
            error("missing-pair", "train/images/1.png", "no mask", "Add", "train/masks/1.png"),
            error("missing-pair", "train/images/2.png", "no mask", "Add", "train/masks/2.png"),
            error("missing-pair", "train/images/3.png", "no mask", "Add", "train/masks/3.png"),
        ],
    ),
    Case(
        "no images at all",
        emptied("train/images"),
        [
            *[
                error("missing-pair", path, "no image", "train/images")
                for path in ("train/masks/0.png", "train/masks/1.png", "train/masks/2.png", "train/masks/3.png")
            ]
        ],
    ),
    Case(
        "no files in the validation split",
        lambda data: (emptied("val/images")(data), emptied("val/masks")(data)),
        [error("empty-split", ".", "val", "empty")],
    ),
    Case(
        "no masks folder",
        without("train/masks"),
        [refused("train", "masks", "Add")],
    ),
    Case(
        "no images folder",
        without("train/images"),
        [error("empty-split", "train", "images", "Add")],
    ),
    Case(
        "no images folder in val",
        without("val/images"),
        [error("empty-split", "val", "images", "Add")],
    ),
    Case(
        "no masks folder in val",
        without("val/masks"),
        [refused("val", "masks", "Add")],
    ),
    Case(
        "no folders but the root",
        without("train", "val"),
        [refused(".", "{train,val,test}/{images,masks}/", "train.csv", "COCO")],
    ),
    Case("no train split", without("train"), []),
    Case(
        "masks folder of another name",
        all_moved("masks", "labels"),
        [refused("train", "masks", "Rename", "to masks", "train/labels")],
    ),
    Case(
        "images folder of another name",
        all_moved("images", "imgs"),
        [refused(".", "Rename", "to images", "train/imgs")],
    ),
    Case(
        "capital letters",
        all_moved("images", "Images"),
        [refused(".", "Rename", "to images", "train/Images")],
    ),
    Case(
        "capital letters in the name of the masks",
        all_moved("masks", "Masks"),
        [refused("train", "masks", "Rename", "to masks", "train/Masks")],
    ),
    Case(
        "capital letters in one split",
        moved("val/images", "val/IMAGES"),
        [error("empty-split", "val", "images", "Rename", "to images", "val/IMAGES")],
    ),
    Case(
        "capital letters without splits",
        undivided_in_capitals,
        [refused(".", "Rename", "to images", "Images")],
    ),
    Case(
        "splits of other names",
        splits_called({"train": "Train", "val": "Validation"}),
        [refused(".", "Rename", "to train", "Train")],
    ),
    Case(
        "images above splits",
        kinds_above_splits,
        [refused(".", "DATA/images/train to DATA/train/images", "DATA/masks/train to DATA/train/masks")],
    ),
    Case(
        "split of another name",
        moved("val", "valid"),
        [warning("unused-folder", "valid", "Rename", "val")],
    ),
    Case("one sample", one_sample, []),
    Case(
        "a file in the place of the masks",
        a_file_as("train/masks"),
        [refused("train", "masks", "Add")],
    ),
    Case("a file in the place of a split", a_file_as("val"), []),
    Case("unicode", renamed("Bäume 日本 🌳"), []),
    Case("spaces", renamed("  a b "), []),
    Case("percent and other signs", renamed("100%_{x}[bold]$HOME'\"#&"), []),
    Case("leading dash", renamed("--output"), []),
    Case("dots", renamed("a.b.c"), []),
    Case("very long name", renamed("n" * 251), []),
    Case("line break in a name", renamed("a\nb"), []),
    Case(
        "name that is not UTF-8",
        not_utf8,
        [
            error("unreadable", "train/images/\\xff.png", "UTF-8", "Rename"),
            error("unreadable", "train/masks/\\xff.png", "UTF-8", "Rename"),
        ],
    ),
    Case(
        "name that is not UTF-8 and has no ending",
        lambda data: data.image().rename(os.fsdecode(os.fsencode(data.image().parent) + b"/\xff")),
        [
            warning("unused-file", "train/images/\\xff", "no ending"),
            error("missing-pair", "train/masks/1.png", "no image", "train/images"),
        ],
    ),
    Case("accents written in two ways", composed, []),
    Case("names that differ in case", lambda data: data.image().rename(data.image("1.PNG")), []),
    Case(
        "stems that differ in case",
        lambda data: (renamed("a")(data), data.image("a.png").rename(data.image("A.png"))),
        [error("missing-pair", "train/images/A.png", "no mask", "Rename", "to A.png", "train/masks/a.png")],
    ),
    Case(
        "masks with an ending",
        with_endings,
        [refused(".", "Rename", "to 0.png", "train/images/0.png", "train/masks/0_mask.png")],
    ),
    Case("link", linked(lambda data, aside: aside), []),
    Case(
        "dangling link",
        linked(lambda data, aside: data.root / "gone.png"),
        [
            error("unreadable", "train/images/1.png", "link", "gone.png"),
            error("missing-pair", "train/masks/1.png", "no image", "train/images"),
        ],
    ),
    Case(
        "link to itself",
        linked(lambda data, aside: data.image()),
        [
            error("unreadable", "train/images/1.png", "link"),
            error("missing-pair", "train/masks/1.png", "no image", "train/images"),
        ],
    ),
    Case(
        "link to a folder",
        linked(lambda data, aside: data.root / "val"),
        [
            warning("unused-folder", "train/images/1.png", "folder", "Move"),
            error("missing-pair", "train/masks/1.png", "no image", "train/images"),
        ],
    ),
    Case(
        "dangling link as mask",
        lambda data: (data.mask().unlink(), data.mask().symlink_to(data.root / "gone.png")),
        [
            error("unreadable", "train/masks/1.png", "link", "gone.png"),
            error("missing-pair", "train/images/1.png", "no mask", "Add", "train/masks/1.png"),
        ],
    ),
    Case("linked folder", linked_folder, []),
    Case(
        "loop of folders",
        loop_of_folders,
        [warning("unused-folder", "train/images/again", "folder", "Move")],
    ),
    Case(
        "folder in the place of an image",
        folder_as_image,
        [
            warning("unused-folder", "train/images/1.png", "folder", "Move"),
            error("missing-pair", "train/masks/1.png", "no image", "train/images"),
        ],
    ),
    Case(
        "folder named like an image",
        extra_folder_as_image,
        [warning("unused-folder", "train/images/9.png", "folder", "Move")],
    ),
    Case(
        "pipe named like an image",
        lambda data: os.mkfifo(data.image("9.png")),
        [error("unreadable", "train/images/9.png", "regular file")],
    ),
    Case(
        "nested folders",
        nested,
        [
            warning("unused-folder", "train/images/site", "folder", "Move"),
            warning("unused-folder", "train/masks/site", "folder", "Move"),
        ],
    ),
    Case("hidden files", litter, []),
    Case(
        "formats that are not read",
        other_formats,
        [
            warning("unused-file", "train/images/1.gif", "1 other", ".gif, .heic"),
            error("missing-pair", "train/masks/1.png", "no image", "train/images"),
            error("missing-pair", "train/masks/2.png", "no image", "train/images"),
        ],
    ),
    Case(
        "images of endings that are not read",
        with_suffix("images", ".svs"),
        [refused(".", "3 other", ".svs", "train/images/0.svs")],
    ),
    Case(
        "images of an ending that nobody knows",
        with_suffix("images", ".xyz"),
        [refused(".", "3 other", ".xyz", "train/images/0.xyz")],
    ),
    Case(
        "masks without ending",
        with_suffix("masks", ""),
        [refused(".", "3 other", "no ending", "train/masks/0")],
    ),
    Case(
        "one image without ending",
        lambda data: data.image().rename(data.image("1")),
        [
            warning("unused-file", "train/images/1", "no ending"),
            error("missing-pair", "train/masks/1.png", "no image", "train/images"),
        ],
    ),
    Case(
        "two images of one stem",
        same_stem,
        [error("duplicate-stem", "train/images/1.png", "1.jpg", "stem")],
    ),
    Case(
        "two masks of one stem",
        same_stem_masks,
        [error("duplicate-stem", "train/masks/1.tif", "1.png", "stem")],
    ),
    Case(
        "one image twice",
        copied(("0.png", "train"), ("1.png", "train")),
        [warning("duplicate-image", "train/images/1.png", "same image", "train/images/0.png")],
    ),
    Case(
        "one image in two splits",
        copied(("0.png", "train"), ("0.png", "val")),
        [error("duplicate-image", "val/images/0.png", "in val", "in train", "same image", "train/images/0.png")],
    ),
    Case(
        "test images without masks",
        unlabelled_test,
        [warning("missing-pair", "test", "masks", "left out")],
    ),
]
