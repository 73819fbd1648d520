"""Runs of earlier versions load and answer what they answered then; see tests/helpers/make_saved_runs.py."""

from pathlib import Path

import numpy as np
import pytest

from convlora.inference.segmenter import Segmenter
from convlora.training.config import RunConfig
from convlora.training.validation import check_settings
from tests.helpers.tolerances import SAVED_RUN

SAVED = Path(__file__).parents[1] / "saved_runs"
RUNS = sorted(path.parent for path in SAVED.glob("*/*/config.yaml"))


@pytest.mark.parametrize("run", RUNS, ids=lambda run: f"{run.parent.name}-{run.name}")
def test_same_answer_tomorrow(run):
    check_settings(RunConfig.load(run / "config.yaml"))
    segmenter = Segmenter.from_run(run, model=run.parent / "sam", device="cpu", precision="fp32")
    answers = np.load(run / "answers.npz", allow_pickle=False)
    images = sorted((run.parent / "images").iterdir())
    assert len(answers.files) == 2 * len(images) > 0
    for image in images:
        prediction = segmenter.predict(image)
        expected = answers[f"{image.stem}.probabilities"]
        np.testing.assert_allclose(prediction.probabilities, expected, rtol=0, atol=SAVED_RUN)
        best = np.sort(expected, axis=0)
        clear = best[-1] - best[-2] > 2 * SAVED_RUN
        assert clear.mean() > 0.99
        assert np.array_equal(prediction.semantic_map[clear], answers[f"{image.stem}.map"][clear])


def test_there_are_some():
    assert len(RUNS) >= 4
