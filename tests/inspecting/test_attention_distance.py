"""Attention distances, against attention that is written out, and heads whose distance is known."""

import numpy as np
import pytest
import torch
import transformers as hf
from transformers.models.sam.modeling_sam import SamVisionAttention

from convlora.inspecting import attention_distance
from convlora.inspecting.attention_distance import AttentionDistances, can_listen, distances_of, listening
from convlora.models import EncoderForSemanticSegmentation, SamForSemanticSegmentation
from convlora.models.attention import set_attention
from convlora.models.random_sam import randomize
from tests.helpers.models import tiny_sam


def pairwise(height, width):
    places = np.array([(row, column) for row in range(height) for column in range(width)], dtype=float)
    return np.sqrt(((places[:, None] - places[None]) ** 2).sum(axis=-1))


def measured(model, pixels):
    distances = AttentionDistances()
    with torch.no_grad(), listening(model, distances):
        model.get_image_embeddings(pixels)
    return distances.means()


@pytest.mark.parametrize("scores", [1, 100, 1 << 21])
def test_every_query_as_written_out(monkeypatch, scores):
    monkeypatch.setattr(attention_distance, "BLOCK_SCORES", scores)
    maps, heads, height, width, depth = 2, 3, 3, 4, 5
    query, key = torch.randn(2, maps, heads, height * width, depth).unbind(0)
    rows, columns = torch.randn(maps, heads, height * width, height), torch.randn(maps, heads, height * width, width)
    inside = torch.rand(maps, height * width) > 0.3
    found = distances_of(query, key, (height, width), 0.7, (rows, columns), inside).numpy()
    for m in range(maps):
        for h in range(heads):
            for q in range(height * width):
                scores = 0.7 * (key[m, h] @ query[m, h, q]).view(height, width)
                scores = scores + rows[m, h, q][:, None] + columns[m, h, q]
                weights = np.exp(scores.flatten().double().numpy()) * inside[m].numpy()
                known = (weights / weights.sum() * pairwise(height, width)[q]).sum()
                assert found[m, h, q] == pytest.approx(known, rel=1e-5) if inside[m, q] else np.isnan(found[m, h, q])


def test_a_head_that_attends_everywhere_alike():
    """The mean distance of two cells of a row of n is (n^2 - 1) / (3 n)."""
    zeros = torch.zeros(1, 1, 9, 4)
    assert distances_of(zeros, zeros, (1, 9), 1.0).mean() == pytest.approx((81 - 1) / 27)


def test_a_head_that_attends_at_a_distance():
    """The first head of the global block looks two columns away, the second at the cell itself."""
    model = SamForSemanticSegmentation.from_sam(tiny_sam())
    attention = model.vision_encoder.layers[1].attn
    width = attention.qkv.in_features
    with torch.no_grad():
        attention.qkv.weight.zero_()
        attention.qkv.bias.zero_()
        attention.qkv.bias[[0, width // 2 + 1]] = 1.0  # queries: the first channel in one head, the second in the other
        attention.rel_pos_h.zero_()
        attention.rel_pos_w.zero_()
        attention.rel_pos_h[3, :2] = 1e4  # the same row, of 4
        attention.rel_pos_w[[3 - 2, 3 + 2], 0] = torch.tensor([1e4, 2e4])
        attention.rel_pos_w[3, 1] = 1e4
    assert measured(model, torch.randn(2, 3, 64, 64))[1] == pytest.approx([2.0, 0.0])


def test_sam_against_the_attention_of_transformers():
    """Windows of 3 cells on a map of 4: cells that only fill them up are no part of the image."""
    model = SamForSemanticSegmentation.from_sam(tiny_sam())
    with torch.no_grad():
        for block in model.vision_encoder.layers:
            block.attn.qkv.weight.mul_(8)  # sharper than at random
    pixels = torch.randn(2, 3, 64, 64)
    found = measured(model, pixels)
    set_attention(model.vision_encoder, "eager")
    weights = []
    hooks = [
        module.register_forward_hook(lambda module, args, output: weights.append(output[1].detach()))
        for module in model.vision_encoder.modules()
        if isinstance(module, SamVisionAttention)
    ]
    with torch.no_grad():
        model.get_image_embeddings(pixels)
    for hook in hooks:
        hook.remove()
    windowed, whole = (one.double().numpy() for one in weights)
    whole = whole.reshape(2, 2, 16, 16)  # images, heads
    assert found[1] == pytest.approx((whole * pairwise(4, 4)).sum(axis=-1).mean(axis=(0, 2)).tolist(), rel=1e-5)
    windowed = windowed.reshape(2, 2, 2, 2, 9, 9)  # images, rows and columns of windows, heads
    sums, count = np.zeros(2), 0
    for row in range(2):
        for column in range(2):
            cells = [3 * r + c for r in range(3) for c in range(3) if 3 * row + r < 4 and 3 * column + c < 4]
            part = windowed[:, row, column][:, :, cells][..., cells]
            part = part / part.sum(axis=-1, keepdims=True)
            sums += (part * pairwise(3, 3)[np.ix_(cells, cells)]).sum(axis=(0, 2, 3))
            count += 2 * len(cells)
    assert count == 2 * 16
    assert found[0] == pytest.approx((sums / count).tolist(), rel=1e-5)
    assert np.ptp(found[0] + found[1]) > 0.05


SHAPE = {
    "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64, "image_size": 64,
    "patch_size": 16,
}  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "prefix"),
    [
        (lambda: hf.Dinov2Model(hf.Dinov2Config(**SHAPE)), 1),
        (lambda: hf.DINOv3ViTModel(hf.DINOv3ViTConfig(**SHAPE, num_register_tokens=2)), 3),
    ],
)
def test_plain_vits_without_their_other_tokens(kind, prefix):
    encoder = kind()
    randomize(encoder)
    with torch.no_grad():
        for name, weight in encoder.named_parameters():
            if "q_proj.weight" in name:
                weight.mul_(30)
    model = EncoderForSemanticSegmentation.from_encoder(encoder.eval())
    pixels = torch.randn(2, 3, 64, 64)
    assert can_listen(model)
    before = model.get_image_embeddings(pixels)
    found = measured(model, pixels)
    assert torch.equal(model.get_image_embeddings(pixels), before), "the attention is the model's own again"
    inner = model.vision_encoder.model
    inner.set_attn_implementation("eager")
    seen = model.vision_encoder._normalised(pixels)
    attentions = inner(seen, output_attentions=True).attentions
    assert len(attentions) == len(found) == 2
    for block, weights in enumerate(attentions):
        part = weights.detach().double().numpy()[:, :, prefix:, prefix:]
        part = part / part.sum(axis=-1, keepdims=True)
        known = (part * pairwise(4, 4)).sum(axis=-1).mean(axis=(0, 2))
        assert found[block] == pytest.approx(known.tolist(), rel=1e-4)
