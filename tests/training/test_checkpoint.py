import random
import zipfile

import numpy as np
import pytest
import torch

from convlora.training.checkpoint import load_state, random_state, restore_random_state, save_state
from convlora.training.resumable import lay_out_like_weights


def test_nested_values_come_back_as_they_were(tmp_path):
    state = {
        "numbers": [1, 2.5, None, True, "text"],
        3: ("tuple", {"inner": torch.arange(4).reshape(2, 2)}),
        "scalar": torch.tensor(0.25, dtype=torch.float64),
        "half": torch.randn(3).bfloat16(),
        "array": np.arange(5, dtype=np.uint32),
        "empty": {"list": [], "tuple": (), "dict": {}},
    }
    save_state(tmp_path / "state.safetensors", state)
    loaded = load_state(tmp_path / "state.safetensors")
    assert loaded["numbers"] == state["numbers"]
    assert loaded["empty"] == state["empty"]
    assert loaded[3][0] == "tuple"
    assert torch.equal(loaded[3][1]["inner"], state[3][1]["inner"])
    for key in ("scalar", "half"):
        assert loaded[key].dtype == state[key].dtype
        assert torch.equal(loaded[key], state[key])
    assert loaded["array"].dtype == np.uint32
    assert np.array_equal(loaded["array"], state["array"])


def test_infinities_and_exact_floats_survive(tmp_path):
    values = [float("inf"), float("-inf"), 0.1 + 0.2, 1e-320]
    save_state(tmp_path / "s.safetensors", values)
    assert load_state(tmp_path / "s.safetensors") == values


def test_tensors_that_share_memory(tmp_path):
    base = torch.arange(6.0)
    save_state(tmp_path / "s.safetensors", [base, base[2:], base.reshape(2, 3).t()])
    loaded = load_state(tmp_path / "s.safetensors")
    assert torch.equal(loaded[1], base[2:])
    assert torch.equal(loaded[2], base.reshape(2, 3).t())


def test_other_objects_are_refused(tmp_path):
    with pytest.raises(TypeError, match="set"):
        save_state(tmp_path / "s.safetensors", {"x": {1, 2}})


def test_the_file_is_no_pickle(tmp_path):
    save_state(tmp_path / "s.safetensors", {"a": torch.ones(2)})
    assert not zipfile.is_zipfile(tmp_path / "s.safetensors")


def test_optimizer_goes_on_as_if_never_stopped(tmp_path):
    def step(parameter, optimizer, times):
        for i in range(times):
            optimizer.zero_grad()
            ((parameter - i) ** 2).sum().backward()
            optimizer.step()

    straight = torch.nn.Parameter(torch.ones(3))
    optimizer = torch.optim.AdamW([straight], lr=0.1)
    step(straight, optimizer, 3)
    save_state(tmp_path / "s.safetensors", optimizer.state_dict())
    copy = torch.nn.Parameter(straight.detach().clone())
    other = torch.optim.AdamW([copy], lr=0.5)
    other.load_state_dict(load_state(tmp_path / "s.safetensors"))
    step(straight, optimizer, 3)
    step(copy, other, 3)
    assert torch.equal(straight, copy)


def test_a_fused_optimizer_goes_on_with_weights_of_any_layout(tmp_path):
    """It goes through the memory of weights and state side by side, and files know no strides."""

    def step(weight, optimizer, times):
        for _ in range(times):
            optimizer.zero_grad()
            ((weight - target) ** 2).sum().backward()
            optimizer.step()

    target, columns = torch.randn(3, 5), torch.randn(5, 3).T
    weights = [torch.nn.Parameter(columns.clone(memory_format=torch.preserve_format)) for _ in range(2)]
    straight, resumed = (torch.optim.AdamW([weight], lr=0.1, fused=True) for weight in weights)
    assert not weights[0].is_contiguous()
    step(weights[0], straight, 3)
    save_state(tmp_path / "s.safetensors", straight.state_dict())
    weights[1].data.copy_(weights[0].data)
    resumed.load_state_dict(load_state(tmp_path / "s.safetensors"))
    lay_out_like_weights(resumed)
    for weight, optimizer in zip(weights, (straight, resumed)):
        step(weight, optimizer, 3)
    assert torch.equal(*weights)


def test_random_generators(tmp_path):
    def draw():
        return random.random(), float(np.random.rand()), float(torch.rand(()))

    draw()
    np.random.standard_normal()  # leaves half a pair behind, which is part of the state
    save_state(tmp_path / "s.safetensors", random_state())
    expected = [draw(), draw()]
    restore_random_state(load_state(tmp_path / "s.safetensors"))
    assert [draw(), draw()] == expected
