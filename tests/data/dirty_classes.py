"""classes.json in ways that it should not be."""

import numpy as np

from tests.data.dirty import Case, Data, put

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
        [
            "error: DATA/classes.json is not valid JSON: it goes wrong in line 1, column 1. It should look "
            'like {"classes": ["background", "crack"], "ignore_index": 255}.',
        ],
    ),
    Case(
        "cut short",
        classes('{"classes": ["a"'),
        [
            "error: DATA/classes.json is not valid JSON: it goes wrong in line 1, column 17. It should look "
            'like {"classes": ["background", "crack"], "ignore_index": 255}.',
        ],
    ),
    Case(
        "not UTF-8",
        not_utf8,
        [
            "error: DATA/classes.json is not UTF-8 text. Save it in UTF-8.",
        ],
    ),
    Case(
        "comma at the end",
        classes('{"classes": ["background", "crack"],}'),
        [
            "error: DATA/classes.json is not valid JSON: it goes wrong in line 1, column 37. It should look "
            'like {"classes": ["background", "crack"], "ignore_index": 255}.',
        ],
    ),
    Case(
        "single quotes",
        classes("{'classes': ['background', 'crack']}"),
        [
            "error: DATA/classes.json is not valid JSON: it goes wrong in line 1, column 2. It should look "
            'like {"classes": ["background", "crack"], "ignore_index": 255}.',
        ],
    ),
    Case(
        "brackets without end",
        classes("[" * 100_000),
        [
            'error: DATA/classes.json is not valid JSON. It should look like {"classes": ["background", '
            '"crack"], "ignore_index": 255}.',
        ],
    ),
    Case(
        "a list",
        classes(TWO),
        [
            'error: DATA/classes.json has no list of names called "classes". It should look like '
            '{"classes": ["background", "crack"], "ignore_index": 255}.',
        ],
    ),
    Case(
        "null",
        classes(None),
        [
            'error: DATA/classes.json has no list of names called "classes". It should look like '
            '{"classes": ["background", "crack"], "ignore_index": 255}.',
        ],
    ),
    Case(
        "another key",
        classes({"names": TWO}),
        [
            'error: DATA/classes.json has no list of names called "classes". It should look like '
            '{"classes": ["background", "crack"], "ignore_index": 255}.',
        ],
    ),
    Case(
        "names by number",
        classes({"classes": {"0": "background", "1": "crack"}}),
        [
            'error: DATA/classes.json has no list of names called "classes". It should look like '
            '{"classes": ["background", "crack"], "ignore_index": 255}.',
        ],
    ),
    Case(
        "a number among the names",
        classes({"classes": ["background", 7]}),
        [
            'error: DATA/classes.json has no list of names called "classes". It should look like '
            '{"classes": ["background", "crack"], "ignore_index": 255}.',
        ],
    ),
    Case(
        "a blank name",
        classes({"classes": ["background", " "]}),
        [
            'error: DATA/classes.json has no list of names called "classes". It should look like '
            '{"classes": ["background", "crack"], "ignore_index": 255}.',
        ],
    ),
    Case(
        "no names",
        classes({"classes": []}),
        [
            "error: DATA/classes.json names no class; name at least two, background included.",
        ],
    ),
    Case(
        "one name",
        classes({"classes": ["crack"]}),
        [
            "error: DATA/classes.json names 1 class; name at least two, background included.",
        ],
    ),
    Case(
        "a name twice",
        classes({"classes": ["background", "crack", "crack"]}),
        [
            "error: DATA/classes.json names the class 'crack' more than once. Give each class its own name.",
        ],
    ),
    Case(
        "ignore value as text",
        classes({"classes": TWO, "ignore_index": "255"}),
        [
            "error: DATA/classes.json has \"ignore_index\": '255'; it must be a whole number from 0 to 65535, or "
            "a list of them.",
        ],
    ),
    Case(
        "negative ignore value",
        classes({"classes": TWO, "ignore_index": -1}),
        [
            'error: DATA/classes.json has "ignore_index": -1; it must be a whole number from 0 to 65535, or a '
            "list of them.",
        ],
    ),
    Case(
        "ignore value that is a class",
        classes({"classes": TWO, "ignore_index": 1}),
        [
            "error: DATA/classes.json ignores the value 1, which is also that of the class 'crack'. State a value "
            'for each class that is none of the ignored ones, such as "values": [0, 2].',
        ],
    ),
    Case(
        "too few colours",
        classes({"classes": TWO, "colors": [[0, 0, 0]]}),
        [
            'error: DATA/classes.json has "colors" that are not a list of 2 colours, one per class.',
        ],
    ),
    Case(
        "no colour",
        classes({"classes": TWO, "colors": [[0, 0, 0], "red"]}),
        [
            "error: DATA/classes.json has the colour 'red'; write [R, G, B] of 0 to 255, or \"#rrggbb\".",
        ],
    ),
    Case(
        "one colour twice",
        classes({"classes": TWO, "colors": [[0, 0, 0], "#000000"]}),
        [
            "error: DATA/classes.json gives the colour [0, 0, 0] to more than one class. Give each its own.",
        ],
    ),
    Case(
        "ignored colour of a class",
        classes({"classes": TWO, "colors": [[0, 0, 0], [9, 9, 9]], "ignore_color": [9, 9, 9]}),
        [
            'error: DATA/classes.json has "ignore_color": [9, 9, 9], which is also the colour of a class.',
        ],
    ),
    Case(
        "one value twice",
        classes({"classes": TWO, "values": [0, 0]}),
        [
            'error: DATA/classes.json has "values" that are not 2 different whole numbers, one per class.',
        ],
    ),
    Case(
        "values as text",
        classes({"classes": TWO, "values": ["0", "1"]}),
        [
            'error: DATA/classes.json has "values" that are not 2 different whole numbers, one per class.',
        ],
    ),
    Case(
        "values of which none occurs",
        classes({"classes": TWO, "values": [5, 6]}),
        [
            "error: DATA/train/masks/0.png holds the values 0, 1, which are none of the 2 classes (5 "
            "background, 6 crack) and not the ignore value 255. Correct the mask, or name the classes in "
            'classes.json, with "values" if they are not numbered from 0. '
            'Its "ignore_index" lists the values that do not count.',
            "error: DATA/train/masks/1.png holds the values 0, 1, which are none of the 2 classes (5 "
            "background, 6 crack) and not the ignore value 255. Correct the mask, or name the classes in "
            'classes.json, with "values" if they are not numbered from 0. '
            'Its "ignore_index" lists the values that do not count.',
            "error: DATA/train/masks/2.png holds the values 0, 1, which are none of the 2 classes (5 "
            "background, 6 crack) and not the ignore value 255. Correct the mask, or name the classes in "
            'classes.json, with "values" if they are not numbered from 0. '
            'Its "ignore_index" lists the values that do not count.',
            "error: DATA/train/masks/3.png holds the values 0, 1, which are none of the 2 classes (5 "
            "background, 6 crack) and not the ignore value 255. Correct the mask, or name the classes in "
            'classes.json, with "values" if they are not numbered from 0. '
            'Its "ignore_index" lists the values that do not count.',
            "error: DATA/val/masks/0.png holds the values 0, 1, which are none of the 2 classes (5 "
            "background, 6 crack) and not the ignore value 255. Correct the mask, or name the classes in "
            'classes.json, with "values" if they are not numbered from 0. '
            'Its "ignore_index" lists the values that do not count.',
        ],
    ),
    Case(
        "ignore value among the values",
        classes({"classes": TWO, "values": [0, 1], "ignore_index": 1}),
        [
            'error: DATA/classes.json gives the value 1 to a class in "values" and ignores it in "ignore_index". Leave '
            "it out of one of them.",
        ],
    ),
    Case(
        "an unknown key",
        classes({"classes": TWO, "ignore": 9}),
        [
            'error: DATA/classes.json has the key "ignore", which means nothing here. Did you mean "ignore_index"?',
        ],
    ),
    Case(
        "a folder",
        a_folder,
        [
            "error: DATA/classes.json cannot be read (Is a directory).",
        ],
    ),
    Case(
        "5,000 classes",
        many(5000, ignore_index=65535),
        [
            "warning: The split 'train' of DATA has no pixel of species 1, species 2, species 3, species 4, "
            "species 5, species 7, species 8, species 9, species 10, species 11 and 4,222 other classes, so "
            "they can be neither learned nor scored there.",
            "warning: The split 'val' of DATA has no pixel of species 2, species 3, species 4, species 5, "
            "species 6, species 7, species 8, species 9, species 10, species 11 and 4,988 other classes, so "
            "they can be neither learned nor scored there.",
        ],
    ),
    Case(
        "5,000 classes without ignore value",
        many(5000),
        [
            "error: DATA/classes.json has 5000 classes, so the ignore value 255 is also a class. State an "
            '"ignore_index" of 5000 or more.',
        ],
    ),
    Case(
        "70,000 classes",
        classes({"classes": [f"c{i}" for i in range(70_000)]}),
        [
            "error: DATA/classes.json names 70,000 classes, but there can be 65,535 at most. Use fewer.",
        ],
    ),
]
