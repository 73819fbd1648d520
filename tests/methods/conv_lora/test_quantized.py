"""8- and 4-bit base layers, as far as a CPU can run them. bitsandbytes is an extra, so it may not be there."""

import pytest
import torch
from peft import get_peft_model
from torch import nn

from convlora.methods.conv_lora import ConvLoraConfig, load_balancing_loss

bnb = pytest.importorskip("bitsandbytes", reason="bitsandbytes is an extra: pip install 'convlora[quant]'")


def quantized(kind, original):
    if kind == "8bit":
        layer = bnb.nn.Linear8bitLt(64, 64, has_fp16_weights=False)
    else:
        layer = bnb.nn.Linear4bit(64, 64, compute_dtype=torch.float32, quant_type="nf4")
    layer.load_state_dict(original.state_dict())
    model = nn.Sequential(layer.to("cpu"), nn.Linear(64, 2))
    setattr(model, f"is_loaded_in_{kind}", True)
    return model


@pytest.mark.parametrize("kind", ["8bit", "4bit"])
def test_adapts_a_quantized_layer(kind, tmp_path):
    original = nn.Linear(64, 64)
    # A grid of tokens, not a map: the 8-bit product of bitsandbytes for CPUs takes two or three dimensions only.
    x = torch.randn(3, 20, 64)
    config = ConvLoraConfig(target_modules=["0"], grid_size=(5, 4))
    model = get_peft_model(quantized(kind, original), config).eval()
    layer = model.base_model.model[0]
    assert type(layer).__name__ == {"8bit": "Linear8bitLt", "4bit": "Linear4bit"}[kind]
    frozen = layer.base_layer(x)
    torch.testing.assert_close(layer(x), frozen)
    # The update is the same as on the layer that was not quantized.
    with torch.no_grad():
        layer.lora_B["default"].weight.normal_()
        layer.lora_gate["default"].weight.normal_()
    plain = get_peft_model(nn.Sequential(original, nn.Linear(64, 2)), config).eval()
    model.save_pretrained(tmp_path)
    plain.load_adapter(tmp_path, "default")
    update = plain.base_model.model[0](x) - original(x)
    torch.testing.assert_close(layer(x) - frozen, update, rtol=1e-4, atol=1e-4)
    model.train()
    (model(x).square().mean() + load_balancing_loss(model)).backward()
    assert [n for n, p in model.named_parameters() if p.requires_grad and p.grad is None] == []
    with pytest.raises(ValueError, match="depends on the input"):
        layer.merge()
