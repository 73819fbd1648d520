import re

import pytest
import torch

from convlora.losses import check_labels


@pytest.mark.parametrize(
    ("labels", "num_classes", "message"),
    [
        ([0, 2, 255], 2, "labels must be 0, 1 or 255 (ignored), but contain [0, 2, 255]"),
        ([4, 5], 5, "labels must be 0 to 4 or 255 (ignored), but contain [4, 5]"),
        ([-1, 0], 3, "labels must be 0 to 2 or 255 (ignored), but contain [-1, 0]"),
        (range(12), 3, "but contain [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, ...]"),
    ],
)
def test_anything_else_is_refused(labels, num_classes, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        check_labels(torch.tensor([list(labels)]), num_classes)


@pytest.mark.parametrize("ignore_index", [255, -1])
def test_classes_and_ignored_pixels_are_not(ignore_index):
    check_labels(torch.tensor([[0, 1, 2, ignore_index]]), 3, ignore_index)
    check_labels(torch.full((2, 4, 4), ignore_index), 2, ignore_index)
