"""What an image size can reach at best: how much of the masks is left on the grid that a model draws on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from scipy import ndimage

from convlora.data.classes.class_table import ClassTable
from convlora.data.reading.images import read_mask
from convlora.data.sample import Sample
from convlora.data.transforms import prepare_mask
from convlora.data.windows import mirrored
from convlora.enlarge import enlarge_rows, enlarge_rows_twice, row_bands
from convlora.errors import InputError

CELL = {"none": 4, "half": 2, "full": 1}
"""Side of the cells that masks are drawn in, in pixels of the model's image, by the setting `model.detail`."""

SIZE_IS_TOLD = "CONVLORA_SIZE_IS_TOLD"
"""Variable in the environment of a run whose parent has said before what its image size can reach."""

SIZES = (256, 512, 1024)  # that are reported if none is chosen
GOOD = 0.9  # what is called enough
_TRIED = (128, 192, 256, 384, 512, 768, 1024)
_LARGEST = 1024  # that of the published SAMs; beyond it windows are the better way
_STEP = 16  # pixels
_MOST_MASKS = 16
_FEW_MASKS = 4  # with which more sizes are tried
_MOST_PIXELS = 1 << 26  # of all masks together
_MOST_WINDOWS = 64
_MOST_LABELLED = 1 << 25  # pixels of a mask whose regions are counted, which takes four bytes for each
_SHARES = (0.5, 0.4, 0.3, 0.2)
_NEIGHBOURS = np.ones((3, 3), dtype=int)


@dataclass(frozen=True)
class Reach:
    """What is left of masks at an image size.

    Attributes:
        size: (height, width) of the images that the model sees.
        iou: IoU of what is left and what there was. With two classes it is that of the foreground, averaged over the
            images that have some; with more it is the mean over the classes.
        share: For two classes, the share of a cell from which on it counts as foreground.
    """

    size: tuple[int, int]
    iou: float
    share: float = 0.5


def some_labels(samples: Sequence[Sample], classes: ClassTable) -> list[np.ndarray]:
    """Class indices `(H, W)` of up to 16 masks that can be read, evenly spaced; of fewer where they are large."""
    masked = [sample.mask for sample in samples if sample.mask is not None]
    found: list[np.ndarray] = []
    count = min(_MOST_MASKS, len(masked))
    if masked:
        first = _labels(masked[0], classes)
        count = count if first is None else min(count, max(1, _MOST_PIXELS // first.size))
    room = _MOST_PIXELS
    for place in np.linspace(0, len(masked) - 1, count).round().astype(int).tolist():
        labels = _labels(masked[place], classes)
        if labels is None or (found and labels.size > room):  # others may be larger than the first one
            continue
        if (labels != classes.ignore_index).any():
            found.append(labels)
            room -= labels.size
    if classes.num_classes == 2:  # nothing can be lost of a foreground that there is not
        found = [labels for labels in found if (labels == 1).any()]
    return found


def reach_of(labels: Sequence[np.ndarray], classes: ClassTable, size: tuple[int, int], cell: int) -> Reach:
    """Reduces masks to the grid of a model and enlarges them again.

    For two classes the share of a cell from which on it counts as foreground is the best of some, because a model may
    learn it: of a crack thinner than a cell, half would be too much to ask.

    Args:
        labels: See [`some_labels`]; at least one.
        classes: The classes.
        size: (height, width) of the images that the model sees.
        cell: Side of a cell in pixels of that, see [`CELL`].
    """
    is_binary, count = classes.num_classes == 2, classes.num_classes
    kinds = 1 if is_binary else count
    tables = np.zeros((len(labels), len(_SHARES), 3, kinds), dtype=np.int64)  # pixels: right, true, left
    for own, table in zip(labels, tables, strict=True):
        for rows, choices in there_and_back(own, classes, size, cell):
            known = own[rows] != classes.ignore_index
            for choice, counts in zip(choices, table, strict=False):
                if is_binary:  # the foreground alone, which takes a tenth of the time
                    true, left = own[rows] == 1, (choice == 1) & known
                    counts[:, 0] += [np.count_nonzero(one) for one in (true & left, true, left)]
                else:
                    true, left = own[rows][known], choice[known]
                    counts += [np.bincount(one, minlength=count) for one in (true[true == left], true, left)]
    if is_binary:
        ious = _ious(tables)[..., 0].mean(axis=0)
        return Reach(size, float(ious.max()), _SHARES[int(ious.argmax())])
    return Reach(size, float(np.nanmean(_ious(tables[:, 0].sum(axis=0)))))


def there_and_back(
    labels: np.ndarray, classes: ClassTable, size: tuple[int, int], cell: int
) -> Iterator[tuple[slice, list[np.ndarray]]]:
    """What is left of labels at an image size, some rows at a time.

    It is the way of labels and answers in a run: the nearest pixel at the model's size, the mean over each cell, then
    bilinear to the model's size and to the labels' own. (To the latter alone where it is the smaller one.)

    Args:
        labels: Class indices and the ignored label, `(H, W)`.
        classes: The classes.
        size: (height, width) of the images that the model sees.
        cell: Side of a cell.

    Yields:
        Which rows, and class indices there, `(rows, W)`: of two classes once for each of [`_SHARES`], else once.
    """
    own_size = (labels.shape[0], labels.shape[1])
    seen = prepare_mask(labels, size)
    is_binary = classes.num_classes == 2
    kinds = [0, 1] if is_binary else [one for one in torch.unique(seen).tolist() if one != classes.ignore_index] or [0]
    cells = _shares_of_cells(seen, kinds, cell)
    is_larger = size[0] * size[1] < labels.size
    for top, bottom in row_bands(len(kinds), own_size):
        if is_larger:
            here = enlarge_rows_twice(cells, size, own_size, top, bottom)
        else:
            here = enlarge_rows(cells, own_size, top, bottom)
        if is_binary:
            known = here.sum(dim=0)
            yield slice(top, bottom), [(here[1] > share * known).numpy().astype(np.uint8) for share in _SHARES]
        else:
            yield slice(top, bottom), [np.array(kinds)[here.argmax(dim=0).numpy()]]


def _shares_of_cells(seen: torch.Tensor, kinds: Sequence[int], cell: int) -> torch.Tensor:
    """The share that each of some classes has of each cell, `(kinds, H / cell, W / cell)`; what is left over is cut."""
    if len(kinds) == 2:
        return torch.stack([F.avg_pool2d((seen == kind).float()[None], cell)[0] for kind in kinds])
    # Of many classes each pixel is looked at once, and not once for each class.
    rows, columns = seen.shape[0] // cell, seen.shape[1] // cell
    seen = seen[: rows * cell, : columns * cell].long()
    place = torch.full((int(seen.max()) + 1,), len(kinds))
    place[torch.tensor(kinds)] = torch.arange(len(kinds))
    y, x = torch.arange(rows * cell) // cell, torch.arange(columns * cell) // cell
    counts = torch.zeros((len(kinds) + 1) * rows * columns)
    counts.index_add_(0, ((place[seen] * rows + y[:, None]) * columns + x).flatten(), torch.ones(seen.numel()))
    return counts.unflatten(0, (len(kinds) + 1, rows, columns))[:-1] / cell**2


def lost_regions(labels: Sequence[np.ndarray], classes: ClassTable, reach: Reach, cell: int) -> tuple[int, int]:
    """How many connected regions of the classes, background aside, vanish at an image size, and of how many."""
    nothing = {0 if classes.num_classes == 2 else classes.background, classes.ignore_index}
    lost = total = 0
    for own in labels:
        if own.size > _MOST_LABELLED:
            continue
        place = _SHARES.index(reach.share) if classes.num_classes == 2 else 0
        left = np.concatenate([choices[place] for _, choices in there_and_back(own, classes, reach.size, cell)])
        for kind in set(np.unique(own).tolist()) - nothing:
            regions, count = ndimage.label(own == kind, _NEIGHBOURS)
            total += count
            lost += count - np.count_nonzero(np.bincount(regions[left == kind], minlength=count + 1)[1:])
    return lost, total


def describe_sizes(samples: Sequence[Sample], classes: ClassTable, cell: int) -> tuple[str | None, list[Reach]]:
    """A sentence on what common image sizes can reach at best, and the figures; None if there is nothing to score."""
    labels = some_labels(samples, classes)
    if not labels:
        return None, []
    reached = [reach_of(labels, classes, (size, size), cell) for size in SIZES]
    shown = [f"{one.iou:.2f} at {_written(one.size)}" for one in reached]
    sentence = f"IoU that an image size can reach at best: {', '.join(shown[:-1])} and {shown[-1]} pixels."
    if reached[-1].iou < GOOD:
        return f"{sentence} {_no_size(labels, classes, reached[-1].size, cell)}", reached
    if reached[0].iou < GOOD:
        sentence = f"{sentence}{_windows(labels, classes, reached[0].size, cell)}"
    return sentence, reached


def describe_size(
    samples: Sequence[Sample], classes: ClassTable, size: tuple[int, int], cell: int, multiple: int = _STEP
) -> tuple[str | None, list[Reach]]:
    """A sentence on what an image size can reach at best and, where that is little, on what would do.

    Args:
        samples: With masks.
        classes: What the values in the masks mean.
        size: (height, width) of the images that the model sees.
        cell: Side of a cell in pixels of that, see [`CELL`].
        multiple: What a size must be divisible by.

    Returns:
        The sentence, None if there is nothing to score; and the figures it is made of.
    """
    labels = some_labels(samples, classes)
    if not labels:
        return None, []
    here = reach_of(labels, classes, size, cell)
    sentence = f"An image size of {_written(size)} pixels can reach an IoU of {here.iou:.2f} at best"
    if here.iou >= GOOD:
        return f"{sentence}.", [here]
    lost, total = lost_regions(labels, classes, here, cell)
    sentence += f": {lost:,} of {total:,} connected regions vanish." if lost else "."
    if cell >= CELL["none"]:
        finer = reach_of(labels, classes, size, CELL["half"])
        if finer.iou >= GOOD:
            return f"{sentence} With --detail half it is {finer.iou:.2f}.", [here]
    few = _few(labels)  # to find a size; it is named only if it does for all
    for side in (round(one / multiple) * multiple for one in _TRIED):
        if max(size) < side <= _LARGEST and reach_of(few, classes, (side, side), cell).iou >= GOOD:
            other = reach_of(labels, classes, (side, side), cell)
            if other.iou >= GOOD:
                windows = _windows(labels, classes, size, cell)
                return f"{sentence} With --image-size {side} it is {other.iou:.2f}.{windows}", [here, other]
    return f"{sentence} {_no_size(labels, classes, size, cell)}", [here]


def describe_windows(
    samples: Sequence[Sample], classes: ClassTable, window: tuple[int, int], size: tuple[int, int], cell: int
) -> str | None:
    """A sentence on what windows can reach at best and, where that is little, on which would do; as [`describe_size`].

    Args:
        samples: With masks.
        classes: What the values in the masks mean.
        window: (height, width) of a window in pixels of the images.
        size: (height, width) at which the model sees it.
        cell: Side of a cell in pixels of that, see [`CELL`].
    """
    labels = _few(some_labels(samples, classes))
    if not labels:
        return None
    here = reach_of_windows(labels, classes, window, size, cell)
    sentence = f"Windows of {_written(window)} pixels can reach an IoU of {here:.2f} at best."
    return sentence if here >= GOOD else f"{sentence}{_windows(labels, classes, size, cell, below=max(window))}"


def reach_of_windows(
    labels: Sequence[np.ndarray], classes: ClassTable, window: tuple[int, int], size: tuple[int, int], cell: int
) -> float:
    """The IoU of [`reach_of`] on windows of masks, evenly spread, that are seen at a size.

    Args:
        labels: As there.
        classes: As there.
        window: (height, width) in pixels of the masks.
        size: (height, width) at which a window is seen.
        cell: As there.
    """
    cut = [
        mirrored(own[top : top + window[0], left : left + window[1]], window)
        for own in labels
        for top in range(0, own.shape[0], window[0])
        for left in range(0, own.shape[1], window[1])
    ]
    nothing = {classes.ignore_index, *([0] if classes.num_classes == 2 else [])}
    telling = [one for one in cut if set(np.unique(one).tolist()) - nothing]
    return reach_of(telling[:: -(-len(telling) // _MOST_WINDOWS)], classes, size, cell).iou


def _few(labels: list[np.ndarray]) -> list[np.ndarray]:
    return labels[:: -(-len(labels) // _FEW_MASKS)] if labels else []


def _no_size(labels: list[np.ndarray], classes: ClassTable, size: tuple[int, int], cell: int) -> str:
    return f"No size up to {_LARGEST} is enough.{_windows(labels, classes, size, cell, in_any_case=True)}"


def _windows(
    labels: list[np.ndarray],
    classes: ClassTable,
    size: tuple[int, int],
    cell: int,
    *,
    below: int | None = None,
    in_any_case: bool = False,
) -> str:
    """Which windows of the images would do, as a sentence that begins with a space; empty if there are none.

    The largest are named, as they show the most around things; they need not be enlarged beyond a cell for each pixel.

    Args:
        labels: See [`some_labels`].
        classes: The classes.
        size: (height, width) at which the model sees a window.
        cell: Side of a cell.
        below: Only smaller ones than that.
        in_any_case: Whether to name the best where none is good.
    """
    labels, longer = _few(labels), max(size)
    largest = max(max(own.shape) for own in labels)
    tried = [longer // whole // _STEP * _STEP for whole in (1, 2, 4) if whole <= cell]
    found = []
    for side in tried:
        if side < _STEP or side >= largest or (below is not None and side >= below):
            continue
        window = (max(1, round(side * size[0] / longer)), max(1, round(side * size[1] / longer)))
        found.append((reach_of_windows(labels, classes, window, size, cell), side))
        if found[-1][0] >= GOOD:
            break
    best = max(found, default=(0.0, 0))
    if not found or (best[0] < GOOD and not in_any_case):
        return ""
    is_usual = size == (best[1], best[1])
    shown = "" if is_usual else f" --image-size {'x'.join(map(str, dict.fromkeys(size)))}"
    return f" With --window {best[1]}{shown} it is {best[0]:.2f}."


def _labels(mask: object, classes: ClassTable) -> np.ndarray | None:
    try:
        labels = classes.encode(read_mask(mask), mask)  # type: ignore[arg-type]
    except InputError:  # a file for which the check has its own words
        return None
    return labels if labels.dtype == np.uint8 else labels.astype(np.int32)


def _ious(counts: np.ndarray) -> np.ndarray:
    """IoU of each class, `(..., K)`, from its right, true and left pixels, `(..., 3, K)`; NaN where there are none."""
    right, true, left = np.moveaxis(counts, -2, 0)
    either = true + left - right
    return np.where(either > 0, right / np.maximum(either, 1), np.nan)


def _written(size: tuple[int, int]) -> str:
    return str(size[0]) if size[0] == size[1] else f"{size[0]} x {size[1]}"
