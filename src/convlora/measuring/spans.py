"""Objects as vertical spans of pixels, which is what masks in COCO files are made of."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np


class Spans(NamedTuple):
    """Pixels of objects, column by column.

    Attributes:
        owners: Whose pixels they are.
        columns: Where a span is.
        starts: Its first row.
        stops: The row behind its last one.
    """

    owners: np.ndarray
    columns: np.ndarray
    starts: np.ndarray
    stops: np.ndarray


def spans_of(labels: np.ndarray, top: int) -> Spans:
    """The spans of a label map, in the order of columns and rows.

    Args:
        labels: `(rows, width)`; -1 where there is no object.
        top: Number of its first row.
    """
    turned = labels.T
    inside = turned >= 0
    begins, ends = inside.copy(), inside.copy()
    differs = turned[:, 1:] != turned[:, :-1]
    begins[:, 1:] &= differs
    ends[:, :-1] &= differs
    columns, starts = np.nonzero(begins)
    _, lasts = np.nonzero(ends)
    kind = np.int32
    return Spans(
        turned[columns, starts], columns.astype(kind), (starts + top).astype(kind), (lasts + top + 1).astype(kind)
    )


def joined(parts: Sequence[Spans]) -> Spans:
    """The spans of all parts in the order of owners, columns and rows; those that follow each other become one."""
    empty = Spans(np.zeros(0, np.int64), *(np.zeros(0, np.int32) for _ in range(3)))
    spans = Spans(*(np.concatenate(arrays) for arrays in zip(empty, *parts)))
    order = np.lexsort((spans.starts, spans.columns, spans.owners))
    spans = Spans(*(array[order] for array in spans))
    if not len(order):
        return spans
    goes_on = (spans.owners[1:] == spans.owners[:-1]) & (spans.columns[1:] == spans.columns[:-1])
    goes_on &= spans.starts[1:] == spans.stops[:-1]
    first, last = np.append(True, ~goes_on), np.append(~goes_on, True)
    return Spans(spans.owners[first], spans.columns[first], spans.starts[first], spans.stops[last])


def of_owner(spans: Spans, owner: int) -> Spans:
    """The spans of one owner, of sorted ones."""
    begin, end = np.searchsorted(spans.owners, [owner, owner + 1])
    return Spans(*(array[begin:end] for array in spans))


def drawn(spans: Spans, box: tuple[int, int, int, int], values: np.ndarray) -> np.ndarray:
    """The part of a map inside a box, int32; uint8 if all values are 1.

    Args:
        spans: All of them inside the box.
        box: (top, left, bottom, right).
        values: What each span is drawn with.
    """
    top, left, bottom, right = box
    kind = np.int8 if (values == 1).all() else np.int32  # one object may be as large as the image
    changes = np.zeros((bottom - top + 1, right - left), kind)
    np.add.at(changes, (spans.starts - top, spans.columns - left), values)
    np.subtract.at(changes, (spans.stops - top, spans.columns - left), values)
    picture = np.cumsum(changes[:-1], axis=0, dtype=kind, out=changes[:-1])
    return picture.view(np.uint8) if kind is np.int8 else picture


def run_lengths(spans: Spans, size: tuple[int, int]) -> list[int]:
    """The lengths of runs of zeros and ones, in turn, down the columns of a whole map: COCO's uncompressed form.

    Args:
        spans: Spans of one object, sorted.
        size: (height, width) of the map.
    """
    height, width = size
    begins = spans.columns.astype(np.int64) * height + spans.starts
    ends = spans.columns.astype(np.int64) * height + spans.stops
    apart = begins[1:] > ends[:-1]  # a span that reaches the bottom may go on at the top of the next column
    begins, ends = begins[np.append(True, apart)], ends[np.append(apart, True)]
    places = np.stack([begins, ends], axis=1).ravel()
    return np.diff(places, prepend=0, append=height * width).tolist()
