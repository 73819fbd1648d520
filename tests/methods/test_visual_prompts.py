import pytest
import torch
from peft import get_peft_model

from convlora.methods.visual_prompts import VisualPromptConfig
from convlora.models import SamForSemanticSegmentation
from convlora.models.attention import lay_out, relative_bias, set_attention
from tests.helpers.models import tiny_sam


def prompted(attention="auto", num_tokens=5):
    base = SamForSemanticSegmentation.from_sam(tiny_sam(), image_size=64, attention=attention).eval()
    config = VisualPromptConfig(num_tokens=num_tokens, target_modules=r".*vision_encoder\.layers\.\d+\.attn")
    return get_peft_model(base, config).base_model.model


def slow(attention, hidden, tokens):
    """Attention over cells and tokens, the bias written out, zero towards tokens."""
    batch, height, width, channels = hidden.shape
    heads = attention.num_attention_heads
    cells = hidden.reshape(batch, height * width, channels)
    everything = torch.cat([cells, tokens.expand(batch, -1, -1)], dim=1)
    q, k, v = attention.qkv(everything).view(batch, everything.shape[1], 3, heads, -1).permute(2, 0, 3, 1, 4)
    q = q[:, :, : height * width]
    rows, columns = relative_bias(
        q, lay_out(attention.rel_pos_h, height, q.dtype), lay_out(attention.rel_pos_w, width, q.dtype)
    )
    bias = (rows[..., :, None] + columns[..., None, :]).flatten(3)
    scores = attention.scale * q @ k.transpose(-1, -2)
    scores = scores + torch.nn.functional.pad(bias, (0, tokens.shape[0]))
    out = (scores.softmax(-1) @ v).transpose(1, 2).reshape(batch, height, width, channels)
    return attention.proj(out)


@pytest.mark.parametrize("block", [0, 1])
def test_tokens_are_keys_and_values_without_a_position(block):
    layer = prompted().vision_encoder.layers[block].attn
    tokens = layer.visual_prompts["default"]
    with torch.no_grad():
        tokens.normal_()
    side = 3 if block == 0 else 4  # windows of 3 cells, and the whole map of 4
    hidden = torch.randn(2, side, side, 32, requires_grad=True)
    out, _ = layer(hidden_states=hidden)
    expected = slow(layer.base_layer, hidden, tokens)
    torch.testing.assert_close(out, expected, atol=1e-5, rtol=1e-5)
    weights = torch.randn_like(out)
    ours = torch.autograd.grad((out * weights).sum(), [hidden, tokens])
    theirs = torch.autograd.grad((expected * weights).sum(), [hidden, tokens])
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)


def test_attention_that_takes_no_tokens_is_refused():
    with pytest.raises(ValueError, match="attention that takes `prompt_tokens`"):
        prompted(attention="sdpa")
    with pytest.raises(ValueError, match="from 1 up"):
        VisualPromptConfig(num_tokens=0)


def test_a_form_that_takes_no_tokens_is_not_used_in_silence():
    model = prompted()
    set_attention(model.vision_encoder, "sdpa")
    with pytest.raises(TypeError, match="prompt_tokens"):
        model(torch.randn(1, 3, 64, 64))
