"""PiSSA on weights that stay as they are, against PEFT's own."""

import pytest
import torch
from peft import LoraConfig, get_peft_model

from convlora.errors import InputError
from convlora.methods.pissa import PissaConfig
from convlora.models.build import adapt
from tests.helpers.models import TwoLinears, tiny_segmenter

SETTINGS = {"r": 3, "lora_alpha": 7, "target_modules": ["first", "second"]}


def base():
    torch.manual_seed(0)
    return TwoLinears()


@pytest.fixture
def both():
    """PEFT's PiSSA, and ours."""
    theirs = get_peft_model(base(), LoraConfig(**SETTINGS, init_lora_weights="pissa"))
    return theirs, get_peft_model(base(), PissaConfig(**SETTINGS))


def trained(model):
    return {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}


def test_it_learns_as_pissa_of_peft_does(both):
    """Start, answers, gradients and weights after three steps, element by element."""
    theirs, ours = both
    torch.manual_seed(1)
    batches = [torch.randn(5, 12) for _ in range(3)]
    for model in both:
        optimizer = torch.optim.SGD(trained(model).values(), lr=0.1)
        model.answers, model.gradients = [], []
        for batch in batches:
            optimizer.zero_grad()
            answer = model(batch)
            (answer**2).mean().backward()
            model.answers.append(answer.detach())
            model.gradients += [parameter.grad.clone() for parameter in trained(model).values()]
            optimizer.step()
    assert trained(theirs).keys() == trained(ours).keys()
    for one, other in zip(theirs.answers + theirs.gradients, ours.answers + ours.gradients, strict=True):
        assert one.abs().max() > 1e-3
        torch.testing.assert_close(other, one, rtol=1e-4, atol=1e-6)
    for one, other in zip(trained(theirs).values(), trained(ours).values()):
        torch.testing.assert_close(other, one, rtol=1e-4, atol=1e-6)
    assert not torch.allclose(ours.answers[0], ours(batches[0]), atol=1e-3)


def test_the_start_is_laid_out_as_other_weights_are(both):
    assert all(parameter.is_contiguous() for parameter in trained(both[1]).values())


def test_the_base_weights_stay_as_they_are(both):
    theirs, ours = both
    weight = base().first.weight
    assert not torch.equal(theirs.base_model.model.first.base_layer.weight, weight)
    assert torch.equal(ours.base_model.model.first.base_layer.weight, weight)


def test_it_is_merged_and_taken_out_again(both):
    _, ours = both
    torch.manual_seed(1)
    pixels = torch.randn(5, 12)
    with torch.no_grad():
        for parameter in trained(ours).values():
            parameter.add_(0.2 * torch.randn_like(parameter))
        expected = ours(pixels)
        assert not torch.allclose(expected, base()(pixels), atol=1e-2)
        for safe in (False, True):
            ours.merge_adapter(safe_merge=safe)
            layer = ours.base_model.model.first
            torch.testing.assert_close(layer.base_layer(pixels), layer(pixels))
            torch.testing.assert_close(ours(pixels), expected, rtol=1e-4, atol=1e-5)
            ours.unmerge_adapter()
            torch.testing.assert_close(layer.base_layer.weight, base().first.weight)
        update = ours.base_model.model.first.get_delta_weight("default")
        torch.testing.assert_close(ours.base_model.model.first(pixels), base().first(pixels) + pixels @ update.T)
        torch.testing.assert_close(ours.merge_and_unload()(pixels), expected, rtol=1e-4, atol=1e-5)


def test_dropout_is_for_what_learns():
    model = get_peft_model(base(), PissaConfig(**SETTINGS, lora_dropout=1.0)).train()
    layer, x = model.base_model.model.first, torch.randn(5, 12)
    product = layer.lora_start_B["default"] @ layer.lora_start_A["default"]
    expected = base().first(x) - SETTINGS["lora_alpha"] / 3 * x @ product.T
    torch.testing.assert_close(layer(x), expected, rtol=1e-4, atol=1e-5)


def test_what_does_not_fit_is_refused():
    with pytest.raises(InputError, match="r=33 is more than the 32 singular values"):
        adapt(tiny_segmenter("pissa"), "pissa", {"r": 33})
    for settings in ({"init_lora_weights": "pissa"}, {"use_dora": True}, {"lora_bias": True}):
        with pytest.raises(ValueError, match="left at their defaults"):
            PissaConfig(**settings)
    model = get_peft_model(base(), PissaConfig(**SETTINGS))
    with pytest.raises(ValueError, match="cannot be combined by weights"):
        model.add_weighted_adapter(["default"], [1.0], "sum")
    with pytest.raises(ValueError, match="matches a Conv2d"):
        get_peft_model(torch.nn.Sequential(torch.nn.Conv2d(3, 3, 1)), PissaConfig(target_modules=["0"]))
