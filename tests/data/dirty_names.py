"""Names, links and folders that are not as they should be."""

import os
import shutil
import unicodedata

from tests.data.dirty import Case, Data, noise, put, save, stripes


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
        [
            "error: DATA/train/images/1.png has no mask. Add DATA/train/masks/1.png or remove the image.",
        ],
    ),
    Case(
        "no image",
        lambda data: data.image().unlink(),
        [
            "error: DATA/train/masks/1.png has no image. Add an image of that stem to DATA/train/images or "
            "remove the mask.",
        ],
    ),
    Case(
        "no masks at all",
        emptied("train/masks"),
        [
            "error: DATA/train/images/0.png has no mask. Add DATA/train/masks/0.png or remove the image.",
            "error: DATA/train/images/1.png has no mask. Add DATA/train/masks/1.png or remove the image.",
            "error: DATA/train/images/2.png has no mask. Add DATA/train/masks/2.png or remove the image.",
            "error: DATA/train/images/3.png has no mask. Add DATA/train/masks/3.png or remove the image.",
        ],
    ),
    Case(
        "no images at all",
        emptied("train/images"),
        [
            "error: DATA/train/masks/0.png has no image. Add an image of that stem to DATA/train/images or "
            "remove the mask.",
            "error: DATA/train/masks/1.png has no image. Add an image of that stem to DATA/train/images or "
            "remove the mask.",
            "error: DATA/train/masks/2.png has no image. Add an image of that stem to DATA/train/images or "
            "remove the mask.",
            "error: DATA/train/masks/3.png has no image. Add an image of that stem to DATA/train/images or "
            "remove the mask.",
        ],
    ),
    Case(
        "no files in the validation split",
        lambda data: (emptied("val/images")(data), emptied("val/masks")(data)),
        [
            "error: The split 'val' of DATA is empty. Add samples to it.",
        ],
    ),
    Case(
        "no masks folder",
        without("train/masks"),
        [
            "refused: DATA/train has no folder called masks. Add one mask per image there, of the same stem.",
        ],
    ),
    Case(
        "no images folder",
        without("train/images"),
        [
            "error: DATA/train has no folder called images. Add one.",
        ],
    ),
    Case(
        "no images folder in val",
        without("val/images"),
        [
            "error: DATA/val has no folder called images. Add one.",
        ],
    ),
    Case(
        "no masks folder in val",
        without("val/masks"),
        [
            "refused: DATA/val has no folder called masks. Add one mask per image there, of the same stem.",
        ],
    ),
    Case(
        "no folders but the root",
        without("train", "val"),
        [
            "refused: DATA has no data set layout that is known. Expected {train,val,test}/{images,masks}/, "
            "or images/ and masks/, or train.csv with columns image,label, or COCO annotations, or a saved "
            "Hugging Face data set.",
        ],
    ),
    Case("no train split", without("train"), []),
    Case(
        "masks folder of another name",
        all_moved("masks", "labels"),
        [
            "refused: DATA/train has no folder called masks. Rename DATA/train/labels to masks.",
        ],
    ),
    Case(
        "images folder of another name",
        all_moved("images", "imgs"),
        [
            "refused: DATA has no data set layout that is known. Rename DATA/train/imgs to images.",
        ],
    ),
    Case(
        "capital letters",
        all_moved("images", "Images"),
        [
            "refused: DATA has no data set layout that is known. Rename DATA/train/Images to images.",
        ],
    ),
    Case(
        "capital letters in the name of the masks",
        all_moved("masks", "Masks"),
        [
            "refused: DATA/train has no folder called masks. Rename DATA/train/Masks to masks.",
        ],
    ),
    Case(
        "capital letters in one split",
        moved("val/images", "val/IMAGES"),
        [
            "error: DATA/val has no folder called images. Rename DATA/val/IMAGES to images.",
        ],
    ),
    Case(
        "capital letters without splits",
        undivided_in_capitals,
        [
            "refused: DATA has no data set layout that is known. Rename DATA/Images to images.",
        ],
    ),
    Case(
        "splits of other names",
        splits_called({"train": "Train", "val": "Validation"}),
        [
            "refused: DATA has no data set layout that is known. Rename DATA/Train to train, and the other splits "
            "likewise (train, val, test).",
        ],
    ),
    Case(
        "images above splits",
        kinds_above_splits,
        [
            "refused: DATA has no data set layout that is known. Move DATA/images/train to "
            "DATA/train/images, DATA/masks/train to DATA/train/masks, and the other splits likewise.",
        ],
    ),
    Case(
        "split of another name",
        moved("val", "valid"),
        [
            "warning: DATA/valid is not used. Rename it to val if it is the val split.",
        ],
    ),
    Case("one sample", one_sample, []),
    Case(
        "a file in the place of the masks",
        a_file_as("train/masks"),
        [
            "refused: DATA/train has no folder called masks. Add one mask per image there, of the same stem.",
        ],
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
            "error: DATA/train/images/\\xff.png has a name that is not UTF-8. Rename the file.",
            "error: DATA/train/masks/\\xff.png has a name that is not UTF-8. Rename the file.",
        ],
    ),
    Case(
        "name that is not UTF-8 and has no ending",
        lambda data: data.image().rename(os.fsdecode(os.fsencode(data.image().parent) + b"/\xff")),
        [
            "warning: DATA/train/images/\\xff is in a format that is not read (no ending). Save as PNG, JPEG, TIFF, "
            "BMP or WebP, with that ending.",
            "error: DATA/train/masks/1.png has no image. Add an image of that stem to DATA/train/images or "
            "remove the mask.",
        ],
    ),
    Case("accents written in two ways", composed, []),
    Case("names that differ in case", lambda data: data.image().rename(data.image("1.PNG")), []),
    Case(
        "stems that differ in case",
        lambda data: (renamed("a")(data), data.image("a.png").rename(data.image("A.png"))),
        [
            "error: DATA/train/images/A.png has no mask. Rename DATA/train/masks/a.png to A.png if that is its mask.",
        ],
    ),
    Case(
        "masks with an ending",
        with_endings,
        [
            "refused: DATA holds no usable sample. DATA/train/images/0.png has no mask. Rename "
            "DATA/train/masks/0_mask.png to 0.png if that is its mask.",
        ],
    ),
    Case("link", linked(lambda data, aside: aside), []),
    Case(
        "dangling link",
        linked(lambda data, aside: data.root / "gone.png"),
        [
            "error: DATA/train/images/1.png is a link to DATA/gone.png, where there is no file. Put the "
            "file there, or remove the link.",
            "error: DATA/train/masks/1.png has no image. Add an image of that stem to DATA/train/images or "
            "remove the mask.",
        ],
    ),
    Case(
        "link to itself",
        linked(lambda data, aside: data.image()),
        [
            "error: DATA/train/images/1.png is a link to DATA/train/images/1.png, where there is no file. "
            "Put the file there, or remove the link.",
            "error: DATA/train/masks/1.png has no image. Add an image of that stem to DATA/train/images or "
            "remove the mask.",
        ],
    ),
    Case(
        "link to a folder",
        linked(lambda data, aside: data.root / "val"),
        [
            "warning: DATA/train/images/1.png is a folder and is not used. Move its files into "
            "DATA/train/images, or list them in a CSV file.",
            "error: DATA/train/masks/1.png has no image. Add an image of that stem to DATA/train/images or "
            "remove the mask.",
        ],
    ),
    Case(
        "dangling link as mask",
        lambda data: (data.mask().unlink(), data.mask().symlink_to(data.root / "gone.png")),
        [
            "error: DATA/train/masks/1.png is a link to DATA/gone.png, where there is no file. Put the file "
            "there, or remove the link.",
            "error: DATA/train/images/1.png has no mask. Add DATA/train/masks/1.png or remove the image.",
        ],
    ),
    Case("linked folder", linked_folder, []),
    Case(
        "loop of folders",
        loop_of_folders,
        [
            "warning: DATA/train/images/again is a folder and is not used. Move its files into "
            "DATA/train/images, or list them in a CSV file.",
        ],
    ),
    Case(
        "folder in the place of an image",
        folder_as_image,
        [
            "warning: DATA/train/images/1.png is a folder and is not used. Move its files into "
            "DATA/train/images, or list them in a CSV file.",
            "error: DATA/train/masks/1.png has no image. Add an image of that stem to DATA/train/images or "
            "remove the mask.",
        ],
    ),
    Case(
        "folder named like an image",
        extra_folder_as_image,
        [
            "warning: DATA/train/images/9.png is a folder and is not used. Move its files into "
            "DATA/train/images, or list them in a CSV file.",
        ],
    ),
    Case(
        "pipe named like an image",
        lambda data: os.mkfifo(data.image("9.png")),
        [
            "error: DATA/train/images/9.png is no regular file. Remove it.",
        ],
    ),
    Case(
        "nested folders",
        nested,
        [
            "warning: DATA/train/images/site is a folder and is not used. Move its files into "
            "DATA/train/images, or list them in a CSV file.",
            "warning: DATA/train/masks/site is a folder and is not used. Move its files into "
            "DATA/train/masks, or list them in a CSV file.",
        ],
    ),
    Case("hidden files", litter, []),
    Case(
        "formats that are not read",
        other_formats,
        [
            "warning: DATA/train/images/1.gif and 1 other file there are in a format that is not read (.gif, "
            ".heic). Save as PNG, JPEG, TIFF, BMP or WebP.",
            "error: DATA/train/masks/1.png has no image. Add an image of that stem to DATA/train/images or "
            "remove the mask.",
            "error: DATA/train/masks/2.png has no image. Add an image of that stem to DATA/train/images or "
            "remove the mask.",
        ],
    ),
    Case(
        "images of endings that are not read",
        with_suffix("images", ".svs"),
        [
            "refused: DATA holds no usable sample. DATA/train/images/0.svs and 3 other files there are in a format "
            "that is not read (.svs). Save as PNG, JPEG, TIFF, BMP or WebP.",
        ],
    ),
    Case(
        "images of an ending that nobody knows",
        with_suffix("images", ".xyz"),
        [
            "refused: DATA holds no usable sample. DATA/train/images/0.xyz and 3 other files there are in a format "
            "that is not read (.xyz). Save as PNG, JPEG, TIFF, BMP or WebP.",
        ],
    ),
    Case(
        "masks without ending",
        with_suffix("masks", ""),
        [
            "refused: DATA holds no usable sample. DATA/train/masks/0 and 3 other files there are in a format "
            "that is not read (no ending). Save as PNG, JPEG, TIFF, BMP or WebP, with that ending.",
        ],
    ),
    Case(
        "one image without ending",
        lambda data: data.image().rename(data.image("1")),
        [
            "warning: DATA/train/images/1 is in a format that is not read (no ending). Save as PNG, JPEG, TIFF, BMP "
            "or WebP, with that ending.",
            "error: DATA/train/masks/1.png has no image. Add an image of that stem to DATA/train/images or "
            "remove the mask.",
        ],
    ),
    Case(
        "two images of one stem",
        same_stem,
        [
            "error: DATA/train/images/1.png and 1.jpg in the same folder share a stem. Keep one of them.",
        ],
    ),
    Case(
        "two masks of one stem",
        same_stem_masks,
        [
            "error: DATA/train/masks/1.tif and 1.png in the same folder share a stem. Keep one of them.",
        ],
    ),
    Case(
        "one image twice",
        copied(("0.png", "train"), ("1.png", "train")),
        [
            "warning: DATA/train/images/1.png is the same image as DATA/train/images/0.png. Remove one of "
            "them unless it is meant to count twice.",
        ],
    ),
    Case(
        "one image in two splits",
        copied(("0.png", "train"), ("0.png", "val")),
        [
            "error: DATA/val/images/0.png in val is the same image as DATA/train/images/0.png in train, so "
            "scores would be too good. Remove one of them.",
        ],
    ),
    Case(
        "test images without masks",
        unlabelled_test,
        [
            "warning: DATA/test has no folder called masks. Add one mask per image there, of the same stem. "
            "The split is left out.",
        ],
    ),
]
