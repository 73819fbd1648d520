import pytest
import torch
from peft import PeftModel

from convlora.errors import InputError
from convlora.methods.registry import METHODS, apply_method
from convlora.models import SamForSemanticSegmentation
from convlora.models.layer_names import sam_layers
from tests.helpers.models import tiny_sam


def tiny_segmenter():
    return SamForSemanticSegmentation.from_sam(tiny_sam()).eval()


@pytest.fixture
def base():
    return tiny_segmenter()


def applied(base, name, **more):
    return apply_method(base, name, {}, targets=sam_layers, modules_to_save=["mask_decoder"], **more)


def test_the_decoder_alone(base, tmp_path):
    pixels = torch.randn(1, 3, 64, 64)
    before = base(pixels).logits
    model = applied(base, "decoder")
    assert torch.equal(model(pixels).logits, before)
    trained = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    assert trained
    assert all("mask_decoder.modules_to_save" in name for name in trained)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(0.01)
    after = model(pixels).logits
    assert not torch.allclose(after, before)
    with model.disable_adapter():
        torch.testing.assert_close(model(pixels).logits, before)
    model.save_pretrained(tmp_path)
    again = PeftModel.from_pretrained(tiny_segmenter(), str(tmp_path))
    torch.testing.assert_close(again(pixels).logits, after)


def test_the_decoder_alone_has_no_blocks_to_choose(base):
    with pytest.raises(InputError, match="Leave out --adapt-last"):
        applied(base, "decoder", blocks=[1])
    with pytest.raises(InputError, match="has no option 'r'"):
        apply_method(base, "decoder", {"r": 3}, targets=sam_layers, modules_to_save=["mask_decoder"])


def test_unknown_methods_are_named(base):
    with pytest.raises(InputError, match=", ".join(METHODS)):
        applied(base, "magic")
