"""Adapters that were written before a part of the model existed."""

from functools import partial
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from convlora.data.synthetic import write_task
from convlora.errors import InputError
from convlora.models import SamForSemanticSegmentation
from convlora.models.build import adapt, load_model
from convlora.models.detail import SingleConvolution
from convlora.runs.adapters import load_adapter, load_weights
from convlora.training.config import RunConfig
from convlora.training.run import Interrupted, train
from tests.helpers.interrupt_at import InterruptAt

TASK = {"num_classes": 3, "id2label": {0: "a", 1: "b", 2: "c"}, "head": "per-pixel", "ignore_index": 255}


def fresh(detail="half"):
    torch.manual_seed(0)
    return load_model("lora", {}, "tiny", image_size=64, attention="auto", num_mask_tokens=None, detail=detail, **TASK)


@pytest.fixture
def model():
    return adapt(fresh(), "lora", {})


def kernels_of(model):
    return model.base_model.model.mask_decoder.modules_to_save["default"].detail.token_kernels


def without(file: Path, end: str) -> None:
    values = load_file(file)
    kept = {name: value for name, value in values.items() if not name.endswith(end)}
    assert len(kept) == len(values) - 1
    save_file(kept, file)


def test_kernels_of_tokens_are_zero_where_there_were_none(model, tmp_path):
    model.save_pretrained(tmp_path, save_embedding_layers=False)
    file = tmp_path / "adapter_model.safetensors"
    without(file, "detail.token_kernels")
    torch.nn.init.normal_(kernels_of(model))
    load_weights(model, file)
    assert not kernels_of(model).any()
    assert not kernels_of(load_adapter(fresh(), tmp_path, {"name": "lora"}, None)).any()


def test_what_several_classes_got_later_is_zero_where_there_was_none(tmp_path):
    model = adapt(fresh("full"), "lora", {}).eval()
    branch = model.base_model.model.mask_decoder.modules_to_save["default"].detail
    for parameter in (branch.project.weight, branch.token_kernels, branch.half_project.weight):
        torch.nn.init.normal_(parameter)
    model.save_pretrained(tmp_path, save_embedding_layers=False)
    file, pixels = tmp_path / "adapter_model.safetensors", torch.randn(1, 3, 64, 64)
    without(file, "detail.half_token_kernels")
    without(file, "detail.half_project.weight")
    loaded = load_adapter(fresh("full"), tmp_path, {"name": "lora"}, None).eval()
    with torch.no_grad():
        now = model(pixels).mask_logits
        branch.half_project.weight.zero_()
        torch.testing.assert_close(loaded(pixels).mask_logits, model(pixels).mask_logits, rtol=0, atol=0)
    assert not torch.allclose(now, loaded(pixels).mask_logits)


def test_branches_at_full_size_that_had_one_convolution_there_draw_what_they_drew(tmp_path):
    model = adapt(fresh("full"), "lora", {}).eval()
    branch = model.base_model.model.mask_decoder.modules_to_save["default"].detail
    torch.nn.init.normal_(branch.project.weight)
    model.save_pretrained(tmp_path, save_embedding_layers=False)
    file, pixels = tmp_path / "adapter_model.safetensors", torch.randn(1, 3, 64, 64)
    save_file({name: value for name, value in load_file(file).items() if ".second." not in name}, file)
    loaded = load_adapter(fresh("full"), tmp_path, {"name": "lora"}, None).eval()
    with torch.no_grad():
        both = model(pixels).mask_logits
        for level in (branch.down[0], branch.up[-1]):  # as they were
            level.forward = partial(SingleConvolution.forward, level)
        torch.testing.assert_close(loaded(pixels).mask_logits, model(pixels).mask_logits, rtol=0, atol=0)
        assert not torch.allclose(both, model(pixels).mask_logits)


def test_nothing_else_may_be_missing(model, tmp_path):
    model.save_pretrained(tmp_path, save_embedding_layers=False)
    file = tmp_path / "adapter_model.safetensors"
    without(file, "detail.project.weight")
    with pytest.raises(ValueError, match="missing"):
        load_weights(model, file)


def test_a_saved_model_without_them_is_loaded(tmp_path):
    whole = fresh()
    torch.nn.init.normal_(whole.mask_decoder.detail.token_kernels)
    whole.save_pretrained(tmp_path)
    without(tmp_path / "model.safetensors", "detail.token_kernels")
    loaded = SamForSemanticSegmentation.from_pretrained(tmp_path)
    assert not loaded.mask_decoder.detail.token_kernels.any()
    assert torch.equal(loaded.mask_decoder.detail.project.weight, whole.mask_decoder.detail.project.weight)


def test_a_run_without_them_is_not_called_damaged(tiny_sam_folder, tmp_path):
    data = write_task("town", tmp_path / "town", num_train=4, num_val=1, num_test=1, size=(64, 64))
    config = RunConfig()
    sections = {
        "data": {"path": str(data)},
        "model": {"source": str(tiny_sam_folder)},
        "training": {"epochs": 3, "batch_size": 1, "grad_accum": 1, "device": "cpu"},
    }
    config.update(sections, origin="the test")
    with pytest.raises(Interrupted):
        train(config, tmp_path / "run", reporter=InterruptAt(5))
    (checkpoint,) = (tmp_path / "run" / "checkpoints").iterdir()
    without(checkpoint / "adapter_model.safetensors", "detail.token_kernels")
    with pytest.raises(InputError, match="older version"):
        train(config, tmp_path / "run", resume=True)
