"""classes.json in ways that it should not be."""

import numpy as np

from tests.data.dirty import MASKS, Case, Data, error, put, warning

TWO = ["background", "crack"]


def classes(content: object):
    return lambda data: data.classes(content)


def many(count: int, **more: object):
    """A class per pixel, in masks of 16 bits."""

    def spoil(data: Data) -> None:
        data.classes({"classes": [f"species {index}" for index in range(count)], **more})
        values = np.linspace(0, count - 1, 4 * 192).astype(np.uint16).reshape(4, 12, 16)
        for index in range(4):
            put(data.mask(f"{index}.png"), values[index])

    return spoil


def not_utf8(data: Data) -> None:
    (data.root / "classes.json").write_bytes('{"classes": ["Bäume", "x"]}'.encode("latin-1"))


def a_folder(data: Data) -> None:
    (data.root / "classes.json").mkdir()


CASES = [
    Case(
        "empty file",
        classes(""),
        [error("classes-json", "classes.json", "JSON", "line 1, column 1")],
    ),
    Case(
        "cut short",
        classes('{"classes": ["a"'),
        [error("classes-json", "classes.json", "JSON", "line 1, column 17")],
    ),
    Case(
        "not UTF-8",
        not_utf8,
        [error("classes-json", "classes.json", "UTF-8")],
    ),
    Case(
        "comma at the end",
        classes('{"classes": ["background", "crack"],}'),
        [error("classes-json", "classes.json", "JSON", "line 1, column 37")],
    ),
    Case(
        "single quotes",
        classes("{'classes': ['background', 'crack']}"),
        [error("classes-json", "classes.json", "JSON", "line 1, column 2")],
    ),
    Case(
        "brackets without end",
        classes("[" * 100_000),
        [error("classes-json", "classes.json", "JSON")],
    ),
    Case(
        "a list",
        classes(TWO),
        [error("classes-json", "classes.json", '"classes"')],
    ),
    Case(
        "null",
        classes(None),
        [error("classes-json", "classes.json", '"classes"')],
    ),
    Case(
        "another key",
        classes({"names": TWO}),
        [error("classes-json", "classes.json", '"classes"')],
    ),
    Case(
        "names by number",
        classes({"classes": {"0": "background", "1": "crack"}}),
        [error("classes-json", "classes.json", '"classes"')],
    ),
    Case(
        "a number among the names",
        classes({"classes": ["background", 7]}),
        [error("classes-json", "classes.json", '"classes"')],
    ),
    Case(
        "a blank name",
        classes({"classes": ["background", " "]}),
        [error("classes-json", "classes.json", '"classes"')],
    ),
    Case(
        "no names",
        classes({"classes": []}),
        [error("classes-json", "classes.json", "no class", "two")],
    ),
    Case(
        "one name",
        classes({"classes": ["crack"]}),
        [error("classes-json", "classes.json", "1 class", "two")],
    ),
    Case(
        "a name twice",
        classes({"classes": ["background", "crack", "crack"]}),
        [error("classes-json", "classes.json", "'crack'", "more than once")],
    ),
    Case(
        "ignore value as text",
        classes({"classes": TWO, "ignore_index": "255"}),
        [error("classes-json", "classes.json", "\"ignore_index\": '255'")],
    ),
    Case(
        "negative ignore value",
        classes({"classes": TWO, "ignore_index": -1}),
        [error("classes-json", "classes.json", '"ignore_index": -1')],
    ),
    Case(
        "ignore value that is a class",
        classes({"classes": TWO, "ignore_index": 1}),
        [error("classes-json", "classes.json", "1", "'crack'", '"values"')],
    ),
    Case(
        "too few colours",
        classes({"classes": TWO, "colors": [[0, 0, 0]]}),
        [error("classes-json", "classes.json", '"colors"', "2")],
    ),
    Case(
        "no colour",
        classes({"classes": TWO, "colors": [[0, 0, 0], "red"]}),
        [error("classes-json", "classes.json", "'red'")],
    ),
    Case(
        "one colour twice",
        classes({"classes": TWO, "colors": [[0, 0, 0], "#000000"]}),
        [error("classes-json", "classes.json", "[0, 0, 0]", "more than one")],
    ),
    Case(
        "ignored colour of a class",
        classes({"classes": TWO, "colors": [[0, 0, 0], [9, 9, 9]], "ignore_color": [9, 9, 9]}),
        [error("classes-json", "classes.json", '"ignore_color": [9, 9, 9]')],
    ),
    Case(
        "one value twice",
        classes({"classes": TWO, "values": [0, 0]}),
        [error("classes-json", "classes.json", '"values"', "2")],
    ),
    Case(
        "values as text",
        classes({"classes": TWO, "values": ["0", "1"]}),
        [error("classes-json", "classes.json", '"values"', "2")],
    ),
    Case(
        "values of which none occurs",
        classes({"classes": TWO, "values": [5, 6]}),
        [*[error("values", path, "0, 1", "6 crack") for path in MASKS]],
    ),
    Case(
        "ignore value among the values",
        classes({"classes": TWO, "values": [0, 1], "ignore_index": 1}),
        [error("classes-json", "classes.json", "value 1", '"values"', '"ignore_index"')],
    ),
    Case(
        "an unknown key",
        classes({"classes": TWO, "ignore": 9}),
        [error("classes-json", "classes.json", '"ignore"', '"ignore_index"')],
    ),
    Case(
        "a folder",
        a_folder,
        [error("classes-json", "classes.json", "directory")],
    ),
    Case(
        "5,000 classes",
        many(5000, ignore_index=65535),
        [
            warning(
                "absent-class",
                ".",
                "train",
                "species 1, species 2",
                "4,222 other",
            ),
            warning(
                "absent-class",
                ".",
                "val",
                "species 2, species 3",
                "4,988 other",
            ),
        ],
    ),
    Case(
        "5,000 classes without ignore value",
        many(5000),
        [error("classes-json", "classes.json", "5000 classes", "255", '"ignore_index"')],
    ),
    Case(
        "70,000 classes",
        classes({"classes": [f"c{i}" for i in range(70_000)]}),
        [error("classes-json", "classes.json", "70,000 classes", "65,535")],
    ),
]
