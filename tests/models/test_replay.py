"""Recordings, made on a CPU by a stand-in that depends on fixed places in memory as CUDA graphs do."""

import pytest
import torch

from convlora.methods.conv_lora import load_balancing_loss
from convlora.methods.conv_lora.balance import count_choices, expert_usage
from convlora.methods.registry import apply_method
from convlora.models import SamForSemanticSegmentation
from convlora.models.layer_names import MODULES_TO_SAVE, sam_layers
from convlora.models.replay import CannotRecordError, Repeater, ReplayedForward, ReplayedTraining, typical_size
from tests.helpers.models import tiny_sam


def segmenter(method="conv-lora", **task):
    torch.manual_seed(0)
    base = SamForSemanticSegmentation.from_sam(tiny_sam(), **task)
    return apply_method(base, method, {}, targets=sam_layers, modules_to_save=MODULES_TO_SAVE).train()


def batches(count):
    generator = torch.Generator().manual_seed(3)
    return [torch.randn(2, 3, 64, 64, generator=generator) for _ in range(count)]


def gradients(model):
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def ordinary(model, pixels):
    output = model(pixel_values=pixels)
    return output, load_balancing_loss(model)


def make_steps(model, step, steps=2, accumulated=4):
    """Losses and gradients of optimizer steps; the parameters change in between."""
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-3)
    losses, grads = [], []
    torch.manual_seed(5)
    for number, pixels in enumerate(batches(steps * accumulated)):
        output, balance = step(pixels)
        values = [value for value in output.values() if value is not None]
        loss = sum(value.square().mean() for value in values) + balance
        losses.append(loss.item())
        (loss / accumulated).backward()
        if number % accumulated == accumulated - 1:
            grads.append(gradients(model))
            optimizer.step()
            optimizer.zero_grad()
    return losses, grads


@pytest.mark.parametrize(
    ("method", "task"),
    [
        ("conv-lora", {}),
        ("conv-lora", {"num_classes": 4}),
        ("conv-lora", {"num_classes": 4, "head": "per-pixel"}),
        ("lora", {}),
        ("decoder", {}),
        ("sam-adapter", {}),
        ("vpt", {}),
        ("lst", {}),
    ],
)
def test_replayed_steps_equal_ordinary_ones(method, task):
    expected = make_steps(model := segmenter(method, **task), lambda pixels: ordinary(model, pixels))
    model = segmenter(method, **task)
    torch.manual_seed(5)
    replayed = ReplayedTraining(model, batches(1)[0], Repeater())
    losses, grads = make_steps(model, replayed)
    assert losses == expected[0]
    for own, other in zip(grads, expected[1], strict=True):
        assert own.keys() == other.keys()
        for name, gradient in own.items():
            torch.testing.assert_close(gradient, other[name], rtol=1e-5, atol=1e-8, msg=name)


def test_recording_draws_no_random_numbers_and_counts_no_choices():
    model = segmenter()
    count_choices(model)
    model(pixel_values=batches(1)[0])
    before, state = expert_usage(model), torch.get_rng_state()
    ReplayedTraining(model, batches(1)[0], Repeater())
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(expert_usage(model), before)
    assert load_balancing_loss(model) == 0


def test_gradients_are_laid_out_as_their_parameters():
    """Those of transposed convolutions come in another order, and fused optimizers would mix them up silently."""
    model = segmenter("decoder")
    (pixels,) = batches(1)
    output, _ = ReplayedTraining(model, pixels, Repeater())(pixels)
    output.logits.square().mean().backward()
    trained = [p for p in model.parameters() if p.grad is not None]
    assert [p.grad.stride() for p in trained] == [p.stride() for p in trained]


def test_gradients_that_are_there_are_added_to():
    model = segmenter("lora")
    (pixels,) = batches(1)
    replayed = ReplayedTraining(model, pixels, Repeater())
    for _ in range(2):
        output, balance = replayed(pixels)
        (output.logits.square().mean() + balance).backward()
    twice = gradients(model)
    model.zero_grad()
    one = next(p for p in model.parameters() if p.requires_grad)
    output, _ = replayed(pixels)
    output.logits.square().mean().backward()
    one.grad = None  # a parameter whose gradient was dropped
    output, _ = replayed(pixels)
    output.logits.square().mean().backward()
    once = {name: grad / 2 for name, grad in twice.items()}
    for name, p in model.named_parameters():
        if p.requires_grad and p.grad is not None:
            wanted = once[name] if p is one else twice[name]
            torch.testing.assert_close(p.grad, wanted, rtol=1e-5, atol=1e-8)


def test_a_recording_knows_what_it_is_for():
    model = segmenter("lora")
    (pixels,) = batches(1)
    replayed = ReplayedTraining(model, pixels, Repeater())
    assert replayed.fits(model, pixels)
    assert not replayed.fits(model, pixels[:1])
    assert not replayed.fits(model.eval(), pixels)
    model.train()
    with model.disable_adapter():
        assert not replayed.fits(model, pixels)
    parameter = next(p for p in model.parameters() if p.requires_grad)
    parameter.data = parameter.data.clone()  # as a swapped adapter
    assert not replayed.fits(model, pixels)


def test_a_replay_that_goes_wrong_is_noticed():
    class Stale(Repeater):
        def record(self, work):
            recording = super().record(work)
            recording.results = [torch.zeros_like(value) for value in recording.results]
            recording.replay = lambda: None
            return recording

    (pixels,) = batches(1)
    with pytest.raises(CannotRecordError):
        ReplayedTraining(segmenter("lora"), pixels, Stale())


def test_work_that_cannot_be_recorded_is_said():
    class Refusing(Repeater):
        def record(self, work):
            raise RuntimeError("operation not permitted when stream is capturing\nmore")

    with pytest.raises(CannotRecordError, match=r"^operation not permitted when stream is capturing$"):
        ReplayedTraining(segmenter("lora"), batches(1)[0], Refusing())


def test_answers_of_a_recording():
    model = segmenter().eval()
    first, second = batches(2)
    replayed = ReplayedForward(model, first, Repeater())
    answers = [replayed(pixels) for pixels in (first, second)]
    with torch.no_grad():
        for pixels, answer in zip((first, second), answers):
            assert torch.equal(answer.logits, model(pixel_values=pixels).logits)


class Repeated:
    """A recording whose replay gives what it is asked to."""

    def __init__(self, work, change):
        self.work, self.change = work, change
        self.results = [value.detach() for value in work()]

    def replay(self):
        with torch.enable_grad():
            self.results[:] = [value.detach() for value in self.work()]
        self.change(self.results)


class Changing(Repeater):
    """Records passes, and changes what the replay of the backward pass gives."""

    def __init__(self, change):
        self.change = change

    def record(self, work):
        backward = work.__name__ == "_backward"
        return Repeated(work, self.change if backward else lambda results: None)


def trained(model):
    return [name for name, parameter in model.named_parameters() if parameter.requires_grad]


def test_a_gradient_of_rounding_errors_may_come_out_differently():
    """Biases of keys change no attention, so their gradients are zero in theory."""
    model = segmenter("lora")
    keys = [n for n, name in enumerate(trained(model)) if name.endswith("k_proj.bias")]
    assert keys

    def change(grads):
        assert all(0 < grads[n].norm() < 1e-3 for n in keys)
        for n in keys:
            grads[n] = -grads[n]

    ReplayedTraining(model, batches(1)[0], Changing(change))


def test_gradients_of_zero_are_not_typical():
    ones, zeros = torch.ones(3), torch.zeros(3)
    assert typical_size([zeros, zeros, zeros, 2 * ones, ones, 3 * ones]) == 2
    assert typical_size([zeros, zeros]) == 0


def test_what_differs_now_and_then_is_no_fault():
    """An expert that is chosen by a narrow margin may be another one in a recording."""
    model, times = segmenter(), iter(range(3))
    experts = [n for n, name in enumerate(trained(model)) if "lora_experts" in name]

    def change(grads):
        wrong = experts[next(times)]
        grads[wrong] = torch.full_like(grads[wrong], 100.0)

    ReplayedTraining(model, batches(1)[0], Changing(change))


@pytest.mark.parametrize("wrong", [0.0, 1.1, float("nan")])
def test_a_recording_that_goes_wrong_is_refused(wrong):
    model = segmenter("lora")
    adapters = [n for n, name in enumerate(trained(model)) if "lora_B" in name]

    def change(grads):
        grads[adapters[0]] = grads[adapters[0]] * wrong

    with pytest.raises(CannotRecordError, match="replay"):
        ReplayedTraining(model, batches(1)[0], Changing(change))
