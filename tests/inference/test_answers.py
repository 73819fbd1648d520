import pytest
import torch

from convlora.inference.answers import RECORDED_FROM, Answers, recorder_for
from convlora.methods.registry import apply_method
from convlora.models import SamForSemanticSegmentation
from convlora.models.layer_names import MODULES_TO_SAVE, sam_layers
from convlora.models.replay import Repeater
from tests.helpers.models import tiny_sam


def segmenter(**task):
    torch.manual_seed(0)
    base = SamForSemanticSegmentation.from_sam(tiny_sam(), **task)
    return apply_method(base, "conv-lora", {}, targets=sam_layers, modules_to_save=MODULES_TO_SAVE).eval()


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
@pytest.mark.parametrize("task", [{}, {"num_classes": 3}, {"num_classes": 3, "head": "per-pixel"}])
def test_replayed_answers_are_the_model_s_own(mode, task):
    model, answers = segmenter(**task), Answers(Repeater())
    with mode():
        for count in (2, 2, 1, 2, 2, 1, 2):
            pixels = torch.randn(count, 3, 64, 64)
            expected = model(pixel_values=pixels)
            found = answers(model, pixels)
            assert type(found) is type(expected)
            assert found.keys() == expected.keys()
            assert all(torch.equal(found[name], expected[name]) for name in expected)
    assert answers.replayed == 5 - RECORDED_FROM + 1


@torch.no_grad()
def test_another_adapter_is_not_answered_by_the_recording_of_the_first():
    model, answers = segmenter(), Answers(Repeater())
    pixels = torch.randn(1, 3, 64, 64)
    for _ in range(RECORDED_FROM):
        answers(model, pixels)
    assert answers.replayed == 1
    with model.disable_adapter():
        assert torch.equal(answers(model, pixels).logits, model(pixel_values=pixels).logits)
    assert answers.replayed == 1


@torch.no_grad()
def test_what_cannot_be_recorded_is_answered_all_the_same():
    class Refusing(Repeater):
        def record(self, work):
            raise RuntimeError("not here")

    model, answers = segmenter(), Answers(Refusing())
    pixels = torch.randn(1, 3, 64, 64)
    for _ in range(RECORDED_FROM + 1):
        assert torch.equal(answers(model, pixels).logits, model(pixel_values=pixels).logits)
    assert answers.replayed == 0


def test_nothing_is_recorded_on_a_cpu_or_where_it_is_not_wanted():
    assert recorder_for(torch.device("cpu")) is None
    assert recorder_for(torch.device("cuda"), "none") is None
