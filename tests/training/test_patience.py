import json

import pytest

from convlora.training.patience import why_stop
from convlora.training.run import Interrupted, train
from convlora.training.trainer import SegmentationTrainer
from tests.helpers.messages import says
from tests.training.test_run import InterruptAt, log_of


def history(*values):
    return [{"epoch": epoch, "iou": value} for epoch, value in enumerate(values, 1)]


@pytest.mark.parametrize(
    ("values", "greater", "stops"),
    [
        ([], True, False),
        ([0.1], True, False),
        ([0.3, 0.2], True, False),
        ([0.3, 0.2, 0.1], True, True),
        ([0.3, 0.3, 0.3], True, True),  # as good is not better
        ([0.3, 0.2, 0.4, 0.3], True, False),
        ([0.3, 0.2, 0.1], False, False),
        ([0.1, 0.2, 0.3], False, True),
        ([float("nan"), float("nan")], True, True),
        ([float("nan"), 0.1, 0.0], True, False),
    ],
)
def test_when_to_stop(values, greater, stops):
    assert (why_stop(history(*values), "iou", greater, 2) is not None) == stops
    assert why_stop(history(*values), "iou", greater, None) is None


def test_the_reason_in_words():
    says(why_stop(history(0.1, 0.3, 0.2, 0.3), "iou", True, 2), "iou", "epoch 2", "training.patience=2")


@pytest.fixture
def scores(monkeypatch):
    """The validation scores of the epochs are given."""
    given = [0.5, 0.6, 0.4, 0.6, 0.5, 0.5]

    def evaluate(self, *args, **kwargs):
        metrics = {"eval_iou": given[self._epoch() - 1]}
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    monkeypatch.setattr(SegmentationTrainer, "evaluate", evaluate)


class Heard(InterruptAt):
    def __init__(self, step=-1):
        super().__init__(step)
        self.told = []

    def message(self, text):
        self.told.append(text)


@pytest.mark.usefixtures("scores")
def test_a_run_that_gets_no_better_ends(make_config, tmp_path):
    """Gone on with after an interruption too; it says why, and with more patience it goes on."""
    settings = {"epochs": 5, "batch_size": 6, "patience": 2}  # one step per epoch
    run, heard = tmp_path / "run", Heard()
    with pytest.raises(Interrupted):
        train(make_config(**settings), run, reporter=Heard(2))
    metrics = train(make_config(**settings), run, resume=True, reporter=heard)
    reason = why_stop(history(0.5, 0.6, 0.4, 0.6), "iou", True, 2)
    assert metrics["stopped_early"] == json.loads((run / "metrics.json").read_text())["stopped_early"] == reason
    assert any(reason in text for text in heard.told)
    assert (metrics["steps"], metrics["best_epoch"], len(metrics["history"])) == (4, 2, 4)
    assert [line["lr"] for line in log_of(run)] == pytest.approx([1e-2 * (5 - step) / 5 for step in range(4)])
    assert train(make_config(**settings), run, resume=True)["steps"] == 4, "it is finished"
    metrics = train(make_config(**settings | {"patience": 3}), run, resume=True)
    assert (metrics["steps"], metrics["stopped_early"]) == (5, None), "it ends with its last epoch"
