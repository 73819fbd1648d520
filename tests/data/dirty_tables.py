"""CSV files that are not as they should be."""

import shutil

from tests.data.dirty import Case, Data, error, refused, warning


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
        [warning("unused-file", "train.csv", "first line", "image", "label")],
    ),
    Case(
        "a table without labels beside folders",
        table("image\npool/images/0.png\n"),
        [warning("unused-file", "train.csv", "first line", "image", "label")],
    ),
    Case(
        "a table in UTF-16 beside folders",
        table(HEAD, "utf-16"),
        [warning("unused-file", "train.csv", "first line", "image", "label")],
    ),
]
CASES = [
    Case(
        "missing columns",
        table("file,mask\na,b\n"),
        [refused("train.csv", "image and label", "found: file, mask")],
    ),
    Case(
        "no label column",
        table("image\npool/images/0.png\n"),
        [refused("train.csv", "label", "found: image")],
    ),
    Case(
        "no header",
        table("".join(ROWS)),
        [refused("train.csv", "image and label", "found: pool/images/0.png, pool/masks/0.png")],
    ),
    Case(
        "empty CSV",
        table(""),
        [refused("train.csv", "image and label", "found: none")],
    ),
    Case(
        "blank CSV",
        table("\n\n"),
        [refused("train.csv", "image and label", "found: none")],
    ),
    Case(
        "header only",
        table(HEAD),
        [refused(".", "no image", "train.csv")],
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
            error("missing-pair", "C:\\data\\0.png", "line 2", "C:\\data\\0.png", "not exist", "train.csv"),
            error("missing-pair", "C:\\data\\0m.png", "line 2", "C:\\data\\0m.png", "not exist", "train.csv"),
        ],
    ),
    Case(
        "UTF-16",
        table(HEAD + "".join(ROWS), "utf-16"),
        [refused("train.csv", "UTF-8")],
    ),
    Case(
        "Latin-1",
        table(HEAD + "bäume.png,m.png\n", "latin-1"),
        [refused("train.csv", "UTF-8")],
    ),
    Case(
        "duplicate row",
        table(HEAD + "".join(ROWS) + ROWS[0]),
        [warning("duplicate-image", "pool/images/0.png", "line 6", "line 2", "again", "train.csv")],
    ),
    Case(
        "one image with two masks",
        table(HEAD + "".join(ROWS) + "pool/images/0.png,pool/masks/1.png\n"),
        [
            warning("duplicate-image", "pool/images/0.png", "line 6", "line 2", "again", "train.csv"),
            warning("shared-mask", "pool/masks/1.png", "2 images", "train.csv"),
        ],
    ),
    Case(
        "a row too short",
        table(HEAD + ROWS[0] + "pool/images/1.png\n" + ROWS[2]),
        [error("missing-pair", "train.csv", "line 3", "no label")],
    ),
    Case("a row too long", table(HEAD + ROWS[0] + ROWS[1].strip() + ",more\n" + ROWS[2]), []),
    Case(
        "a row without image",
        table(HEAD + ROWS[0] + ",pool/masks/1.png\n" + ROWS[2]),
        [error("missing-pair", "train.csv", "line 3", "no image")],
    ),
    Case(
        "an unclosed quote",
        table(HEAD + '"pool/images/0.png,pool/masks/0.png\n' + "".join(ROWS[1:])),
        [refused(".", "line 5", "quote", "train.csv")],
    ),
    Case(
        "a file that is missing",
        table(HEAD + ROWS[0] + "pool/images/9.png,pool/masks/9.png\n" + ROWS[2]),
        [
            error("missing-pair", "pool/images/9.png", "line 3", "pool/images/9.png", "not exist", "train.csv"),
            error("missing-pair", "pool/masks/9.png", "line 3", "pool/masks/9.png", "not exist", "train.csv"),
        ],
    ),
    Case(
        "a folder in a cell",
        table(HEAD + ROWS[0] + "pool/images,pool/masks/1.png\n" + ROWS[2]),
        [error("missing-pair", "pool/images", "line 3", "folder", "train.csv")],
    ),
    Case(
        "a very long cell",
        table(HEAD + ROWS[0] + "x" * 5000 + ".png,pool/masks/1.png\n" + ROWS[2]),
        [
            error(
                "missing-pair",
                "x" * 5000 + ".png",
                "line 3",
                "x" * 200 + "...",
                "not exist",
                "train.csv",
            )
        ],
    ),
    Case(
        "a NUL byte",
        table(HEAD + ROWS[0] + "pool/im\0ages/1.png,pool/masks/1.png\n" + ROWS[2]),
        [
            error(
                "missing-pair", "pool/im\u0000ages/1.png", "line 3", "pool/im\\x00ages/1.png", "not exist", "train.csv"
            )
        ],
    ),
    Case(
        "image and label swapped",
        table("label,image\n" + "".join(ROWS)),
        [
            error(
                "values",
                ".",
                "(0, 53, 197), (0, 90, 237)",
                "JPEG",
            ),
            *[
                warning("duplicate-image", path, "same image", "pool/masks/0.png")
                for path in ("pool/masks/1.png", "pool/masks/2.png", "pool/masks/3.png")
            ],
        ],
    ),
    Case(
        "image as its own label",
        table(HEAD + "".join(f"pool/images/{i}.png,pool/images/{i}.png\n" for i in range(4))),
        [refused(".", "line 2", "image", "label", "train.csv", "pool/images/0.png")],
    ),
    Case(
        "an image as its own label, by another name",
        same_file,
        [error("missing-pair", "link.png", "line 3", "image", "label", "train.csv")],
    ),
    Case(
        "one mask for all images",
        table(HEAD + "".join(f"pool/images/{i}.png,pool/masks/0.png\n" for i in range(4))),
        [warning("shared-mask", "pool/masks/0.png", "4 images", "train.csv")],
    ),
    Case(
        "two masks for two images each",
        table(HEAD + "".join(f"pool/images/{i}.png,pool/masks/{i % 2}.png\n" for i in range(4))),
        [warning("shared-mask", "pool/masks/0.png", "2 images", "1 more", "train.csv")],
    ),
    Case(
        "column twice",
        table("image,label,image\n" + "".join(row.strip() + ",x.png\n" for row in ROWS)),
        [refused("train.csv", "column image", "more than once")],
    ),
    Case("path outside", outside, []),
    Case(
        "path that differs in case",
        case_differs,
        [error("missing-pair", "pool/Images/1.png", "line 3", "pool/Images/1.png", "not exist", "train.csv")],
    ),
    Case(
        "a text file as label",
        text_as_label,
        [error("unreadable", "a.txt", "known format")],
    ),
    Case(
        "same image in train and val",
        with_val(HEAD + "".join(ROWS), HEAD + ROWS[0]),
        [error("duplicate-image", "pool/images/0.png", "in val", "in train", "same image")],
    ),
    Case(
        "validation table broken",
        with_val(HEAD + "".join(ROWS), "a,b\n1,2\n"),
        [refused("val.csv", "image and label", "found: a, b")],
    ),
    Case(
        "validation table empty",
        with_val(HEAD + "".join(ROWS), HEAD),
        [error("empty-split", "val.csv", "no image")],
    ),
    Case(
        "binary file",
        lambda data: (data.root / "train.csv").write_bytes(bytes(range(256))),
        [refused("train.csv", "UTF-8")],
    ),
]
CASES = [*(case._replace(spoil=only_tables(case.spoil)) for case in CASES), *BESIDE_FOLDERS]
