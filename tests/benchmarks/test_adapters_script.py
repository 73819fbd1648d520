import json
import sys

import adapter_variants
import adapters
import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import nn

from convlora.models.loading import load_segmenter

TASK = {"num_classes": 2, "id2label": {0: "no", 1: "yes"}, "head": "auto", "loss": "bce-dice", "ignore_index": 255}


@pytest.fixture(scope="module")
def answers():
    """What `tiny` and its variants make of an image, and how many weights of the encoder they train."""
    pixels = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))

    def load():
        return load_segmenter("tiny", image_size=(64, 64), attention="auto", num_mask_tokens=None, detail="none",
                              dtype=torch.float32, **TASK)  # fmt: skip

    def answer(model):
        with torch.no_grad():
            return model.eval()(pixel_values=pixels).logits

    found = {"": (answer(load()), 0)}
    for name, variant in adapter_variants.VARIANTS.items():
        model = variant.put_into(load())
        found[name] = answer(model), adapter_variants.encoder_weights(model)
    return found


@pytest.mark.parametrize("name", adapter_variants.VARIANTS)
def test_a_variant_begins_with_the_answers_of_the_frozen_model(answers, name):
    torch.testing.assert_close(answers[name][0], answers[""][0], rtol=0, atol=1e-6)


def test_the_variants_have_no_more_weights_than_lora_give_or_take_two_percent(answers):
    most = 1.02 * answers["lora"][1]
    assert [name for name, (_, weights) in answers.items() if weights > most] == ["conv-lora", "conv-lora-alpha96"]
    assert all(weights > 0 for name, (_, weights) in answers.items() if name)


@pytest.mark.parametrize("layer", [nn.Linear(5, 7), nn.Conv2d(5, 7, 3, padding=1)])
def test_low_rank_updates_are_those_of_peft(layer):
    torch.manual_seed(0)
    x = torch.randn((2, 6, 6, 5) if isinstance(layer, nn.Linear) else (2, 5, 6, 6))
    theirs = get_peft_model(nn.Sequential(layer), LoraConfig(r=3, lora_alpha=96, target_modules=["0"]))
    adapted = theirs.base_model.model[0]
    kind = adapter_variants.LowRank if isinstance(layer, nn.Linear) else adapter_variants.LowRankConvolution
    ours = kind(layer, 3)
    with torch.no_grad():
        ours.up.weight.normal_()
        adapted.lora_A["default"].weight.copy_(ours.down.weight)
        adapted.lora_B["default"].weight.copy_(ours.up.weight)
    assert not torch.allclose(ours(x, layer), layer(x))
    torch.testing.assert_close(ours(x, layer), theirs(x))


def cell(z, row, column):
    return z[0, row, column] if 0 <= row < 9 and 0 <= column < 9 else torch.zeros(2)


def test_a_gate_per_cell_mixes_each_cell_by_itself():
    torch.manual_seed(0)
    experts = adapter_variants.WideExperts(2, "cell")
    with torch.no_grad():
        experts.gate.weight.normal_()
    z = torch.randn(1, 9, 9, 2)
    share = torch.softmax(z[0, 4, 5] @ experts.gate.weight.T, dim=0)
    expected = torch.zeros(2)
    for weight, expert, step in zip(share, experts.experts, (1, 2, 4)):
        around = range(-step, step + 1, step)
        near = torch.stack([torch.stack([cell(z, 4 + i, 5 + j) for j in around]) for i in around])
        expected += weight * nn.functional.gelu(torch.einsum("oikl,kli->o", expert.weight, near) + expert.bias)
    torch.testing.assert_close(experts(z)[0, 4, 5], expected)


def test_the_interval_is_that_of_drawing_seeds_and_images():
    rng = np.random.default_rng(0)
    theirs = rng.random((3, 40))
    gain = 0.1 + 0.05 * rng.standard_normal((3, 1)) + 0.02 * rng.standard_normal((3, 40))
    mean, low, high = adapters.interval((theirs + gain).tolist(), theirs.tolist())
    assert mean == pytest.approx(gain.mean())
    drawn = [gain[rng.integers(3, size=3)][:, rng.integers(40, size=40)].mean() for _ in range(4000)]
    np.testing.assert_allclose((low, high), np.percentile(drawn, [2.5, 97.5]), atol=0.006)


def test_the_interval_of_several_classes_is_about_the_mean_over_classes_of_all_pixels():
    ours = [[[[4, 0], [4, 2], [6, 0]], [[2, 1], [3, 1], [2, 2]]]]  # right, true and predicted of two images
    theirs = [[[[0, 0], [4, 2], [6, 0]], [[2, 1], [3, 1], [2, 2]]]]
    assert adapters.interval(ours, theirs)[0] == pytest.approx((6 / 9 + 1 / 4) / 2 - (2 / 13 + 1 / 4) / 2)
    assert adapters.interval(ours, ours) == (0, 0, 0)


def test_every_run_is_made_once(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(adapters, "SIZE", dict.fromkeys(adapters.SETS, (64, 64)))
    write = adapters.write_task
    monkeypatch.setattr(
        adapters,
        "write_task",
        lambda task, path, **_: write(task, path, num_train=5, num_val=2, num_test=1, size=(64, 64)),
    )
    command = ["--output", str(tmp_path / "runs.jsonl"), "--sets", "drawn town", "--steps", "2"]
    command += ["--variants", "lora", "neck", "--seeds", "3"]
    monkeypatch.setattr(sys, "argv", ["adapters.py", *command])
    adapters.main()
    records = [json.loads(line) for line in (tmp_path / "runs.jsonl").read_text().splitlines()]
    assert [(one["variant"], one["seed"], np.shape(one["images"])) for one in records] == [
        ("lora", 3, (2, 3, 5)),
        ("neck", 3, (2, 3, 5)),
    ]
    assert "| `neck` | 12,416 |" in capsys.readouterr().out
    adapters.main()
    assert len((tmp_path / "runs.jsonl").read_text().splitlines()) == 2
