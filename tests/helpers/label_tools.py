"""Readers of what annotation tools import, written from the formats as they are published and one value at a time."""

from __future__ import annotations

from xml.etree import ElementTree

import numpy as np


def brush_mask(rle, size):
    """What Label Studio draws of a brush label: the opacity, as thi.ng's rle-pack is described."""
    bits = "".join(f"{byte:08b}" for byte in rle)
    place = 0

    def read(width):
        nonlocal place
        place += width
        assert place <= len(bits)
        return int(bits[place - width : place], 2)

    number, value_bits = read(32), read(5) + 1
    widths = [read(4) + 1 for _ in range(4)]
    values = []
    while len(values) < number:
        repeated = read(1)
        length = read(widths[read(2)]) + 1
        values += [read(value_bits)] * length if repeated else [read(value_bits) for _ in range(length)]
    assert len(values) == number == size[0] * size[1] * 4
    assert len(bits) - place < 8
    channels = np.array(values).reshape(*size, 4)
    assert set(np.unique(channels)) <= {0, 255}
    assert (channels == channels[..., :1]).all()
    return channels[..., 3] > 0


def cvat_maps(path):
    """The images of "CVAT for images 1.1" by name, as maps of label names; each pixel has one at most."""
    root = ElementTree.parse(path).getroot()  # noqa: S314 - written by the test
    assert root.tag == "annotations"
    assert root.findtext("version") == "1.1"
    known = [label.findtext("name") for label in root.find("meta").iter("label")]
    found = {}
    for image in root.iter("image"):
        height, width = int(image.get("height")), int(image.get("width"))
        drawn = np.full((height, width), "", dtype=object)
        for mask in image.iter("mask"):
            assert mask.get("label") in known
            left, top, across, down = (int(mask.get(name)) for name in ("left", "top", "width", "height"))
            inside, value = [], False
            for run in mask.get("rle").split(","):
                inside += [value] * int(run)
                value = not value
            part = drawn[top : top + down, left : left + across]
            inside = np.array(inside).reshape(part.shape)
            assert (part[inside] == "").all()
            part[inside] = mask.get("label")
        assert image.get("name") not in found
        found[image.get("name")] = drawn
    return known, found


def label_studio_map(task):
    """A task's one prediction as a map of label names, and the names of its controls."""
    (prediction,) = task["predictions"]
    drawn, controls = None, set()
    for region in prediction["result"]:
        assert region["type"] == "brushlabels"
        assert region["value"]["format"] == "rle"
        size = (region["original_height"], region["original_width"])
        if drawn is None:
            drawn = np.full(size, "", dtype=object)
        mask = brush_mask(region["value"]["rle"], size)
        assert (drawn[mask] == "").all()
        (name,) = region["value"]["brushlabels"]
        drawn[mask] = name
        controls.add((region["from_name"], region["to_name"]))
    return drawn, controls
