"""Answers that are no numbers are an error, not background."""

import math

import pytest
import torch

from convlora.errors import RunError
from convlora.inference.segmenter import Segmenter
from tests.inference.test_saved_runs import SAVED


@pytest.mark.parametrize("name", ["conv-lora", "several-classes"])
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_they_are_refused(name, value):
    run = SAVED / "0.1.0" / name
    segmenter = Segmenter.from_run(run, model=run.parent / "sam", device="cpu")
    decoder = segmenter.model.base_model.model.mask_decoder
    with torch.no_grad():
        next(p for n, p in decoder.named_parameters() if "modules_to_save" in n and "upscale_conv2.bias" in n).fill_(
            value
        )
    with pytest.raises(RunError, match=r"no numbers.*weights"):
        segmenter.predict(run.parent / "images" / "cells.png")
