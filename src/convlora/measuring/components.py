"""Connected objects of a semantic map that comes some rows at a time."""

from __future__ import annotations

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from convlora.measuring.objects import Objects
from convlora.measuring.perimeters import CONTEXT, border_steps
from convlora.measuring.spans import Spans, joined, spans_of

_PIECE = 1 << 20  # pixels that are labelled at a time: it takes about a hundred bytes for each


class ComponentCollector:
    """Finds connected pixels of one class, also across diagonals, without ever holding the map.

    Rows are labelled some at a time by `skimage.measure.label`, and what touches across is joined in the end. Memory
    grows with the width of the map and the number of objects, and with the length of their outlines if they are kept.

    Args:
        size: (height, width) of the map.
        background: The class that is no object; None: every class is.
        keep_spans: Whether the pixels of each object are kept, which outlines need.
    """

    def __init__(self, size: tuple[int, int], background: int | None, keep_spans: bool = False) -> None:
        self._size, self._background, self._keep_spans = size, background, keep_spans
        self._number = 0  # of labels so far
        self._top = 0  # of the next rows
        self._sums: list[np.ndarray] = []
        self._edges: list[np.ndarray] = []
        self._steps: list[tuple[np.ndarray, np.ndarray]] = []
        self._spans: list[Spans] = []
        # Rows whose borders are not measured yet, below those that are around them.
        self._values = np.zeros((CONTEXT, size[1]), np.int32)
        self._labels = np.zeros((CONTEXT, size[1]), np.int64)

    def add(
        self, semantic_map: np.ndarray, known: np.ndarray | None = None, probability: np.ndarray | None = None
    ) -> None:
        """Takes in the next rows.

        Args:
            semantic_map: Classes, `(rows, width)`.
            known: Which pixels count, `(rows, width)` bool; None: all.
            probability: Probability of each pixel's class, `(rows, width)`; None: not known.
        """
        step = max(1, _PIECE // max(1, self._size[1]))
        for top in range(0, len(semantic_map), step):
            part = slice(top, top + step)
            values = semantic_map[part].astype(np.int32) + 1  # 0: no object
            if self._background is not None:
                values[values == self._background + 1] = 0
            if known is not None:
                values[~known[part]] = 0
            self._add(values, None if probability is None else probability[part])

    def finish(self) -> Objects:
        """The objects of the whole map."""
        self._measure_borders(
            np.zeros((CONTEXT, self._size[1]), np.int32), np.zeros((CONTEXT, self._size[1]), np.int64)
        )
        sums = np.concatenate([np.zeros((0, 10)), *self._sums])
        component = self._components()
        count = int(component.max(initial=-1)) + 1
        steps = np.zeros((count, 3))
        for labels, lengths in self._steps:
            for column in range(3):
                steps[:, column] += np.bincount(component[labels], lengths[:, column], minlength=count)
        first = np.full(count, len(component))
        np.minimum.at(first, component, np.arange(len(component)))
        box = np.stack([np.full(count, np.inf)] * 2 + [np.full(count, -np.inf)] * 2, axis=1)
        np.minimum.at(box[:, 0], component, sums[:, 5])
        np.minimum.at(box[:, 1], component, sums[:, 6])
        np.maximum.at(box[:, 2], component, sums[:, 7])
        np.maximum.at(box[:, 3], component, sums[:, 8])
        total = np.stack([np.bincount(component, sums[:, place], minlength=count) for place in range(5)], axis=1)
        pixels = np.maximum(total[:, 0], 1)
        return Objects(
            size=self._size,
            classes=sums[first, 9].astype(np.int64),
            pixels=total[:, 0].astype(np.int64),
            centres=total[:, 1:3] / pixels[:, None],
            boxes=box.astype(np.int64) + np.array([0, 0, 1, 1]),
            steps=steps,
            probabilities=total[:, 3] / pixels if self._knows_probabilities(total) else None,
            spans=self._joined_spans(component) if self._keep_spans else None,
        )

    def _knows_probabilities(self, total: np.ndarray) -> bool:
        return bool((total[:, 4] == total[:, 0]).all())

    def _components(self) -> np.ndarray:
        """The object of each label, numbered in the order of their first pixels."""
        if not self._number:
            return np.zeros(0, np.int64)
        edges = np.concatenate([np.zeros((0, 2), np.int64), *self._edges])
        graph = coo_array((np.ones(len(edges), bool), (edges[:, 0], edges[:, 1])), shape=(self._number, self._number))
        _, component = connected_components(graph, directed=False)
        # Labels grow from the top to the bottom, so that the first label of an object is that of its first pixel.
        _, first, component = np.unique(component, return_index=True, return_inverse=True)
        order = np.empty(len(first), np.int64)
        order[np.argsort(first)] = np.arange(len(first))
        return order[component]

    def _joined_spans(self, component: np.ndarray) -> Spans:
        parts = [part._replace(owners=component[part.owners]) for part in self._spans]
        return joined(parts)

    def _add(self, values: np.ndarray, probability: np.ndarray | None) -> None:
        from skimage.measure import label

        own, number = label(values, background=0, connectivity=2, return_num=True)
        labels = np.where(own > 0, own.astype(np.int64) + self._number - 1, -1)
        self._join(values, labels)
        if number:
            self._sums.append(_sums(own, int(number), values, probability, self._top))
            if self._keep_spans:
                self._spans.append(spans_of(labels, self._top))
        self._number += int(number)
        self._top += len(values)
        self._measure_borders(values, labels)

    def _join(self, values: np.ndarray, labels: np.ndarray) -> None:
        """Notes which labels of these rows go on with labels of the rows above."""
        width = self._size[1]
        above, above_labels = self._values[-1], self._labels[-1]
        found = []
        for shift in (-1, 0, 1):
            here = slice(max(0, -shift), width - max(0, shift))
            there = slice(max(0, shift), width - max(0, -shift))
            same = (values[0, here] == above[there]) & (values[0, here] > 0)
            found.append(np.stack([above_labels[there][same], labels[0, here][same]], axis=1))
        pairs = np.concatenate(found)
        if len(pairs):
            self._edges.append(np.unique(pairs, axis=0))

    def _measure_borders(self, values: np.ndarray, labels: np.ndarray) -> None:
        """Measures the borders of the rows that have been waiting, and of these but the last ones."""
        self._values = np.concatenate([self._values, values])
        self._labels = np.concatenate([self._labels, labels])
        if len(self._values) <= 2 * CONTEXT:
            return
        found = border_steps(self._values)
        owners = self._labels[CONTEXT:-CONTEXT][found.rows, found.columns]
        if len(owners):
            labels_here, place = np.unique(owners, return_inverse=True)
            lengths = [np.bincount(place, found.lengths[:, column], len(labels_here)) for column in range(3)]
            self._steps.append((labels_here, np.stack(lengths, axis=1)))
        self._values, self._labels = self._values[-2 * CONTEXT :], self._labels[-2 * CONTEXT :]


def _sums(own: np.ndarray, number: int, values: np.ndarray, probability: np.ndarray | None, top: int) -> np.ndarray:
    """By label: pixels, sums of rows, columns and probabilities, pixels with one, box with its last pixels, class."""
    height, width = own.shape
    flat = np.flatnonzero(own)
    labels = own.ravel()[flat] - 1
    rows, columns = np.divmod(flat, width)
    rows += top
    sums = np.zeros((number, 10))
    sums[:, 0] = np.bincount(labels, minlength=number)
    sums[:, 1] = np.bincount(labels, rows, minlength=number)
    sums[:, 2] = np.bincount(labels, columns, minlength=number)
    if probability is not None:
        sums[:, 3] = np.bincount(labels, probability.ravel()[flat], minlength=number)
        sums[:, 4] = sums[:, 0]
    # Of values that are written to one place the last one stays.
    sums[labels[::-1], 5] = rows[::-1]
    sums[labels, 7] = rows
    across = np.flatnonzero(own.T)
    labels, columns = own.T.ravel()[across] - 1, across // height
    sums[labels[::-1], 6] = columns[::-1]
    sums[labels, 8] = columns
    sums[own.ravel()[flat] - 1, 9] = values.ravel()[flat] - 1
    return sums
