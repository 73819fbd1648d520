"""CSV files that are not as they should be."""

import shutil

from tests.data.dirty import Case, Data


def only_tables(spoil):
    """Without the layout of folders, so that there is nothing but the table."""

    def both(data: Data) -> None:
        (data.root / "train").rename(data.root / "pool")
        shutil.rmtree(data.root / "val")
        spoil(data)

    return both


HEAD = "image,label\n"
ROWS = [f"pool/images/{index}.png,pool/masks/{index}.png\n" for index in range(4)]


def table(text: str, encoding: str = "utf-8"):
    return lambda data: data.table(text, encoding=encoding)


def with_val(text: str, val: str):
    return lambda data: (data.table(text), data.table(val, "val.csv"))


def outside(data: Data) -> None:
    folder = data.root.parent / "outside"
    shutil.copytree(data.root / "pool", folder)
    data.table(HEAD + "../outside/images/0.png,../outside/masks/0.png\n" + "".join(ROWS[1:]))


def text_as_label(data: Data) -> None:
    (data.root / "a.txt").write_text("0 0.5 0.5")
    data.table(HEAD + ROWS[0] + "pool/images/1.png,a.txt\n" + ROWS[2])


def case_differs(data: Data) -> None:
    data.table(HEAD + ROWS[0] + "pool/Images/1.png,pool/masks/1.png\n")


def same_file(data: Data) -> None:
    (data.root / "link.png").symlink_to(data.root / "pool" / "images" / "1.png")
    data.table(HEAD + ROWS[0] + "link.png,pool/images/1.png\n" + ROWS[2])


BESIDE_FOLDERS = [
    Case(
        "a table of something else beside folders",
        table("epoch,loss\n1,0.5\n"),
        [
            "warning: DATA/train.csv is not used, because its first line does not name the columns image "
            "and label in UTF-8. Correct it, or remove the file.",
        ],
    ),
    Case(
        "a table without labels beside folders",
        table("image\npool/images/0.png\n"),
        [
            "warning: DATA/train.csv is not used, because its first line does not name the columns image "
            "and label in UTF-8. Correct it, or remove the file.",
        ],
    ),
    Case(
        "a table in UTF-16 beside folders",
        table(HEAD, "utf-16"),
        [
            "warning: DATA/train.csv is not used, because its first line does not name the columns image "
            "and label in UTF-8. Correct it, or remove the file.",
        ],
    ),
]
CASES = [
    Case(
        "missing columns",
        table("file,mask\na,b\n"),
        [
            "refused: DATA/train.csv lacks the columns image and label (found: file, mask). Its first line "
            "must be image,label.",
        ],
    ),
    Case(
        "no label column",
        table("image\npool/images/0.png\n"),
        [
            "refused: DATA/train.csv lacks the column label (found: image). Its first line must be image,label.",
        ],
    ),
    Case(
        "no header",
        table("".join(ROWS)),
        [
            "refused: DATA/train.csv lacks the columns image and label (found: pool/images/0.png, "
            "pool/masks/0.png). Its first line must be image,label.",
        ],
    ),
    Case(
        "empty CSV",
        table(""),
        [
            "refused: DATA/train.csv lacks the columns image and label (found: none). Its first line must "
            "be image,label.",
        ],
    ),
    Case(
        "blank CSV",
        table("\n\n"),
        [
            "refused: DATA/train.csv lacks the columns image and label (found: none). Its first line must "
            "be image,label.",
        ],
    ),
    Case(
        "header only",
        table(HEAD),
        [
            "refused: DATA holds no usable sample. DATA/train.csv lists no image. Add rows below its first line.",
        ],
    ),
    Case("byte order mark", table(HEAD + "".join(ROWS), "utf-8-sig"), []),
    Case("semicolons", table((HEAD + "".join(ROWS)).replace(",", ";")), []),
    Case(
        "quotes",
        table('"image","label"\n' + "".join('"' + row.strip().replace(",", '","') + '"\n' for row in ROWS)),
        [],
    ),
    Case("Windows paths and line ends", table((HEAD + "".join(ROWS)).replace("/", "\\").replace("\n", "\r\n")), []),
    Case("old Macintosh line ends", table((HEAD + "".join(ROWS)).replace("\n", "\r")), []),
    Case(
        "paths of another computer",
        table(HEAD + "C:\\data\\0.png,C:\\data\\0m.png\n" + ROWS[1] + ROWS[2]),
        [
            "error: DATA/train.csv line 2 names DATA/C:\\data\\0.png, which does not exist. Paths are "
            "relative to the CSV file or absolute.",
            "error: DATA/train.csv line 2 names DATA/C:\\data\\0m.png, which does not exist. Paths are "
            "relative to the CSV file or absolute.",
        ],
    ),
    Case(
        "UTF-16",
        table(HEAD + "".join(ROWS), "utf-16"),
        [
            "refused: DATA/train.csv is not UTF-8 text. Save it as CSV in UTF-8.",
        ],
    ),
    Case(
        "Latin-1",
        table(HEAD + "bäume.png,m.png\n", "latin-1"),
        [
            "refused: DATA/train.csv is not UTF-8 text. Save it as CSV in UTF-8.",
        ],
    ),
    Case(
        "duplicate row",
        table(HEAD + "".join(ROWS) + ROWS[0]),
        [
            "warning: DATA/train.csv line 6 lists DATA/pool/images/0.png again (first in line 2). Remove "
            "one of the two rows.",
        ],
    ),
    Case(
        "one image with two masks",
        table(HEAD + "".join(ROWS) + "pool/images/0.png,pool/masks/1.png\n"),
        [
            "warning: DATA/train.csv line 6 lists DATA/pool/images/0.png again (first in line 2). Remove "
            "one of the two rows.",
            "warning: DATA/train.csv gives the mask DATA/pool/masks/1.png to 2 images. Give each image its own mask.",
        ],
    ),
    Case(
        "a row too short",
        table(HEAD + ROWS[0] + "pool/images/1.png\n" + ROWS[2]),
        [
            "error: DATA/train.csv line 3 has no label. Fill it in or remove the row.",
        ],
    ),
    Case("a row too long", table(HEAD + ROWS[0] + ROWS[1].strip() + ",more\n" + ROWS[2]), []),
    Case(
        "a row without image",
        table(HEAD + ROWS[0] + ",pool/masks/1.png\n" + ROWS[2]),
        [
            "error: DATA/train.csv line 3 has no image. Fill it in or remove the row.",
        ],
    ),
    Case(
        "an unclosed quote",
        table(HEAD + '"pool/images/0.png,pool/masks/0.png\n' + "".join(ROWS[1:])),
        [
            "refused: DATA holds no usable sample. DATA/train.csv line 5 ends a cell that goes over several "
            "lines. Close the quote, or remove it.",
        ],
    ),
    Case(
        "a file that is missing",
        table(HEAD + ROWS[0] + "pool/images/9.png,pool/masks/9.png\n" + ROWS[2]),
        [
            "error: DATA/train.csv line 3 names DATA/pool/images/9.png, which does not exist. Paths are "
            "relative to the CSV file or absolute.",
            "error: DATA/train.csv line 3 names DATA/pool/masks/9.png, which does not exist. Paths are "
            "relative to the CSV file or absolute.",
        ],
    ),
    Case(
        "a folder in a cell",
        table(HEAD + ROWS[0] + "pool/images,pool/masks/1.png\n" + ROWS[2]),
        [
            "error: DATA/train.csv line 3 names DATA/pool/images, which is a folder. Name a file.",
        ],
    ),
    Case(
        "a very long cell",
        table(HEAD + ROWS[0] + "x" * 5000 + ".png,pool/masks/1.png\n" + ROWS[2]),
        [
            f"error: DATA/train.csv line 3 names DATA/{'x' * 200}..., which does not exist. Paths are relative to the "
            "CSV file or absolute."
        ],
    ),
    Case(
        "a NUL byte",
        table(HEAD + ROWS[0] + "pool/im\0ages/1.png,pool/masks/1.png\n" + ROWS[2]),
        [
            "error: DATA/train.csv line 3 names DATA/pool/im\\x00ages/1.png, which does not exist. Paths are "
            "relative to the CSV file or absolute.",
        ],
    ),
    Case(
        "image and label swapped",
        table("label,image\n" + "".join(ROWS)),
        [
            "error: The masks of DATA are in colour (the colours (0, 53, 197), (0, 90, 237), (0, 177, 137), "
            "(1, 27, 135), (1, 43, 139), (1, 96, 7), (1, 144, 96), (1, 195, 232), (2, 108, 79), (2, 223, "
            "59), ...). They look like JPEG-compressed colours; save the masks as PNG with one colour per "
            "class.",
            "warning: DATA/pool/masks/1.png is the same image as DATA/pool/masks/0.png. Remove one of them "
            "unless it is meant to count twice.",
            "warning: DATA/pool/masks/2.png is the same image as DATA/pool/masks/0.png. Remove one of them "
            "unless it is meant to count twice.",
            "warning: DATA/pool/masks/3.png is the same image as DATA/pool/masks/0.png. Remove one of them "
            "unless it is meant to count twice.",
        ],
    ),
    Case(
        "image as its own label",
        table(HEAD + "".join(f"pool/images/{i}.png,pool/images/{i}.png\n" for i in range(4))),
        [
            "refused: DATA holds no usable sample. DATA/train.csv line 2 names DATA/pool/images/0.png as image and as "
            "label. Name its mask as label.",
        ],
    ),
    Case(
        "an image as its own label, by another name",
        same_file,
        [
            "error: DATA/train.csv line 3 names DATA/link.png as image and as label. Name its mask as label.",
        ],
    ),
    Case(
        "one mask for all images",
        table(HEAD + "".join(f"pool/images/{i}.png,pool/masks/0.png\n" for i in range(4))),
        [
            "warning: DATA/train.csv gives the mask DATA/pool/masks/0.png to 4 images. Give each image its own mask.",
        ],
    ),
    Case(
        "two masks for two images each",
        table(HEAD + "".join(f"pool/images/{i}.png,pool/masks/{i % 2}.png\n" for i in range(4))),
        [
            "warning: DATA/train.csv gives the mask DATA/pool/masks/0.png to 2 images (and 1 more mask to several). "
            "Give each image its own mask.",
        ],
    ),
    Case(
        "column twice",
        table("image,label,image\n" + "".join(row.strip() + ",x.png\n" for row in ROWS)),
        [
            "refused: DATA/train.csv has the column image more than once. Keep one of them.",
        ],
    ),
    Case("path outside", outside, []),
    Case(
        "path that differs in case",
        case_differs,
        [
            "error: DATA/train.csv line 3 names DATA/pool/Images/1.png, which does not exist. Paths are "
            "relative to the CSV file or absolute.",
        ],
    ),
    Case(
        "a text file as label",
        text_as_label,
        [
            "error: DATA/a.txt is not an image in a known format. Use PNG, JPEG, TIFF, BMP or WebP.",
        ],
    ),
    Case(
        "same image in train and val",
        with_val(HEAD + "".join(ROWS), HEAD + ROWS[0]),
        [
            "error: DATA/pool/images/0.png in val is the same image as DATA/pool/images/0.png in train, so "
            "scores would be too good. Remove one of them.",
        ],
    ),
    Case(
        "validation table broken",
        with_val(HEAD + "".join(ROWS), "a,b\n1,2\n"),
        [
            "refused: DATA/val.csv lacks the columns image and label (found: a, b). Its first line must be "
            "image,label.",
        ],
    ),
    Case(
        "validation table empty",
        with_val(HEAD + "".join(ROWS), HEAD),
        [
            "error: DATA/val.csv lists no image. Add rows below its first line.",
        ],
    ),
    Case(
        "binary file",
        lambda data: (data.root / "train.csv").write_bytes(bytes(range(256))),
        [
            "refused: DATA/train.csv is not UTF-8 text. Save it as CSV in UTF-8.",
        ],
    ),
]
CASES = [*(case._replace(spoil=only_tables(case.spoil)) for case in CASES), *BESIDE_FOLDERS]
