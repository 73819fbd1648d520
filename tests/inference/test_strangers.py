"""Runs that somebody sent: nothing in them may run code, leave its folder or take all memory."""

import json
import os
import pickle
import resource
import shutil
import sys
from pathlib import Path

import psutil
import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

from convlora.errors import InputError
from convlora.inference.segmenter import Segmenter
from convlora.models import SamForSemanticSegmentation
from convlora.runs.reading import read_metrics
from convlora.storage import write_json
from tests.inference.test_saved_runs import SAVED

VERSION = SAVED / "0.1.0"


@pytest.fixture
def run(tmp_path):
    shutil.copytree(VERSION / "conv-lora", tmp_path / "run")
    return tmp_path / "run"


def refused(run):
    with pytest.raises(InputError) as caught:
        Segmenter.from_run(run, model=VERSION / "sam", device="cpu")
    return str(caught.value).replace(str(run), "RUN")


def edit_json(path, **changes):
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def edit_settings(run, section, **changes):
    settings = yaml.safe_load((run / "config.yaml").read_text())
    settings[section] |= changes
    (run / "config.yaml").write_text(yaml.safe_dump(settings))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"r": 10**9}, "says r='1000000000', but config.yaml of the run means 3"),
        ({"num_experts": 10**8}, "says num_experts="),
        ({"megatron_config": {"a": 1}, "megatron_core": "os"}, "says megatron_config="),
        ({"megatron_core": "antigravity"}, "says megatron_core="),
        ({"target_modules": "(a+)+$"}, "says target_modules="),
        ({"modules_to_save": ["mask_decoder", "prompt_encoder"]}, "says modules_to_save="),
        ({"peft_type": "PROMPT_TUNING"}, "says peft_type="),
        ({"init_lora_weights": "pissa"}, "says init_lora_weights="),
        ({"something_new": {"path": "/etc/passwd"}}, "means nothing of the kind"),
        ({"layer_replication": [[0, 10**9]]}, "says layer_replication="),
        ({"rank_pattern": {"qkv": 10**9}}, "says rank_pattern="),
    ],
)
def test_configurations_of_adapters_are_compared_not_followed(run, changes, said):
    edit_json(run / "adapter" / "adapter_config.json", **changes)
    message = refused(run)
    assert said in message
    assert "restore them from a copy" in message
    assert "antigravity" not in sys.modules


@pytest.mark.parametrize("intensity", ["loud", ["type"], 3])
def test_ways_of_reading_that_there_are_not(run, intensity):
    """Which would be said once for each image."""
    edit_settings(run, "data", intensity=intensity)
    assert "config.yaml is damaged (data.intensity=" in refused(run)


def test_what_makes_no_difference_is_ignored(run, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "evil_module.py").write_text("raise SystemExit('ran')\n")
    edit_json(
        run / "adapter" / "adapter_config.json",
        auto_mapping={"base_model_class": "x", "parent_library": "evil_module"},
        base_model_name_or_path="../../../../etc",
        setting_of_a_later_peft=None,
    )
    Segmenter.from_run(run, model=VERSION / "sam", device="cpu")
    assert "evil_module" not in sys.modules


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"r": 10**9}, "method.r of conv-lora must be at most 4096, got 1000000000."),
        ({"num_experts": 5000}, "method.num_experts of conv-lora must be at most 4096"),
        ({"num_experts": 2, "expert_scales": [1, 10**9]}, "method.expert_scales of conv-lora must be at most 4096"),
        ({"num_experts": 4096}, "`num_experts` must be at most 64, got 4096"),
        ({"num_experts": 2, "expert_scales": [1, 4096]}, "`expert_scales` must be at most 64"),
        ({"lora_alpha": float("nan")}, "method.lora_alpha"),
        ({"load_balancing_weight": float("nan")}, "method.load_balancing_weight of conv-lora must be a finite number"),
        ({"r": 4000}, "says r='3', but config.yaml of the run means 4000"),
        ({"r": "__import__('os')"}, "method.r must be like its default, 3"),
        ({"name": "../../evil"}, "There is no method '../../evil'."),
        ({"target_modules": "x"}, "The method conv-lora has no option 'target_modules'."),
    ],
)
def test_settings_of_methods_are_checked(run, changes, said):
    edit_settings(run, "method", **changes)
    assert said in refused(run)


def test_a_rank_that_both_files_claim_but_the_weights_have_not(run):
    edit_settings(run, "method", r=4000)
    edit_json(run / "adapter" / "adapter_config.json", r=4000)
    assert "has the rank 3, but config.yaml of the run says 4000" in refused(run)


def test_a_rank_that_both_files_claim_and_the_weights_say_nothing_about(run):
    edit_settings(run, "method", r=4000)
    edit_json(run / "adapter" / "adapter_config.json", r=4000)
    path = run / "adapter" / "adapter_model.safetensors"
    save_file({name: value for name, value in load_file(path).items() if "lora_" not in name}, path)
    limits = resource.getrlimit(resource.RLIMIT_AS)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + (1 << 30), limits[1]))
    try:
        assert "tensors are missing, unknown or of another size" in refused(run)
    finally:
        resource.setrlimit(resource.RLIMIT_AS, limits)


def test_a_rank_that_is_a_single_number(run):
    path = run / "adapter" / "adapter_model.safetensors"
    weights = load_file(path)
    first = next(name for name in weights if name.endswith("lora_A.weight"))
    save_file(weights | {first: torch.tensor(1.0)}, path)
    assert "The two files do not belong to the same run" in refused(run)


@pytest.mark.parametrize(
    "size", ["abc", [64], [64, 64, 64], 64.5, -64, 0, True, {"a": 1}, 64000, 8192, [64, 10**9], None, 65]
)
def test_sizes_that_cannot_be(run, size):
    edit_settings(run, "model", image_size=size)
    assert "config.yaml" in refused(run)


@pytest.mark.parametrize(
    ("section", "changes"),
    [
        ("model", {"attention": "foo"}),
        ("model", {"attention": 5}),
        ("model", {"head": "foo"}),
        ("model", {"head": "mask-classification", "num_mask_tokens": 10**9}),
        ("model", {"num_mask_tokens": "x"}),
        ("model", {"source": ["a"]}),
        ("training", {"adapt_last": "x"}),
        ("training", {"adapt_last": 1.5}),
        ("training", {"adapt_last": -1}),
    ],
)
def test_settings_that_cannot_be(run, section, changes):
    edit_settings(run, section, **changes)
    assert "config.yaml" in refused(run)


def test_a_number_that_python_does_not_write_out(run):
    text = (run / "config.yaml").read_text()
    assert "image_size: 64" in text
    (run / "config.yaml").write_text(text.replace("image_size: 64", f"image_size: 0x{'f' * 5000}"))
    assert "model.image_size=a number of thousands of digits cannot be" in refused(run)


def test_files_without_an_end(run):
    for name in ("classes.json", "config.yaml", "adapter/adapter_config.json"):
        kept = (run / name).read_bytes()
        (run / name).unlink()
        (run / name).symlink_to("/dev/zero")
        assert "it is no ordinary file" in refused(run) or name == "config.yaml"
        (run / name).unlink()
        os.mkfifo(run / name)
        assert "it is no ordinary file" in refused(run) or name == "config.yaml"
        (run / name).unlink()
        (run / name).write_bytes(kept)


def test_a_sam_with_an_adapter_beside_it(run, tmp_path):
    shutil.copytree(VERSION / "sam", tmp_path / "sam")
    (tmp_path / "sam" / "adapter_config.json").write_text('{"peft_type": "LORA", "megatron_core": "evil"}')
    with pytest.raises(InputError, match=r"holds adapter_config\.json"):
        Segmenter.from_run(run, model=tmp_path / "sam", device="cpu")


def test_a_sam_with_an_adapter_on_the_hub(tmp_path, monkeypatch):
    """Here one that was downloaded before; transformers would let PEFT load what lies beside the SAM."""
    repository = tmp_path / "models--somebody--sam"
    snapshot = repository / "snapshots" / "0123456789012345678901234567890123456789"
    shutil.copytree(VERSION / "sam", snapshot)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(snapshot.name)
    offline = {"cache_dir": str(tmp_path), "local_files_only": True}
    SamForSemanticSegmentation.from_pretrained("somebody/sam", **offline)
    (snapshot / "adapter_config.json").write_text('{"peft_type": "LORA", "megatron_core": "evil"}')
    with pytest.raises(InputError, match=r"^somebody/sam holds adapter_config\.json"):
        SamForSemanticSegmentation.from_pretrained("somebody/sam", **offline)


def test_pickles_are_never_opened(run):
    class Evil:
        def __reduce__(self):
            return (Path.touch, (run / "ran",))

    weights = run / "adapter" / "adapter_model.safetensors"
    with (run / "adapter" / "adapter_model.bin").open("wb") as file:
        pickle.dump(Evil(), file)
    weights.unlink()
    assert "has no trained weights yet" in refused(run)
    shutil.copy(run / "adapter" / "adapter_model.bin", weights)
    assert "is missing or damaged" in refused(run)
    assert not (run / "ran").exists()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda w: w.pop(next(n for n in w if "lora_B" in n)), "1 of 108 tensors are missing, unknown"),
        (
            lambda w: w.update({"base_model.model.extra": torch.zeros(2)}),
            "(base_model.model.extra: [2] instead of None)",
        ),
        (
            lambda w: w.update({"vision_encoder.pos_embed": torch.zeros(2)}),
            "(vision_encoder.pos_embed: [2] instead of None)",
        ),
        (
            lambda w: w.update({n: v[:1] for n, v in w.items() if "lora_B" in n}),
            "lora_B.weight: [1, 3] instead of [96, 3]",
        ),
        (lambda w: w.update({n: torch.zeros(9, 32) for n in w if "lora_A" in n}), "has the rank 9, but config.yaml"),
    ],
)
def test_weights_must_be_those_of_the_run(run, change, said):
    path = run / "adapter" / "adapter_model.safetensors"
    weights = load_file(path)
    change(weights)
    save_file(weights, path)
    assert said in " ".join(refused(run).split())


def test_headers_that_lie(run):
    path = run / "adapter" / "adapter_model.safetensors"
    whole = path.read_bytes()
    for content in (
        whole[:100],
        whole[: len(whole) // 2],
        (2**62).to_bytes(8, "little") + whole[8:],
        whole.replace(b'"data_offsets":[0,', b'"data_offsets":[9,', 1),
        whole.replace(b"[", b"{", 1),
        b"",
    ):
        path.write_bytes(content)
        assert "RUN/adapter/adapter_model.safetensors is missing or damaged" in refused(run)


BOMB = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{new}: &{new} [*{old},*{old},*{old},*{old},*{old},*{old},*{old},*{old},*{old}]\n"
    for old, new in zip("abcdefgh", "bcdefghi")
)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (BOMB, "it uses aliases"),
        ("!!python/object/apply:os.system ['touch ran']", "it uses the tag 'tag:yaml.org,2002:python/object/apply"),
        ("a: !!float ''", "it uses the tag"),
        ("a: !!bool maybe", "it uses the tag"),
        ("lr: " + "1:" * 400_000 + "1", "'model'"),
        ("[" * 5000, "nested too deeply"),
        ("a: " + "9" * 5000, "Exceeds the limit"),
        ("a: 2020-99-99", "month must be in 1..12"),
        ("\0", "special characters are not allowed"),
    ],
)
def test_settings_files_that_mean_harm(run, content, said):
    (run / "config.yaml").write_text(content)
    message = refused(run)
    assert message.startswith("RUN/config.yaml is damaged (")
    assert said in message


def test_large_files_are_not_read(run):
    with (run / "classes.json").open("ab") as file:
        file.truncate(17 << 20)
    assert "it is larger than 16 MB, the most that is read" in refused(run)
    shutil.copy(VERSION / "conv-lora" / "classes.json", run / "classes.json")
    (run / "adapter" / "adapter_config.json").write_text("[" * 100_000)
    assert "nested too deeply" in refused(run)


@pytest.mark.parametrize("kind", [torch.bool, torch.int64, torch.uint8])
def test_weights_of_an_adapter_that_are_no_floating_point_numbers(run, kind):
    """PEFT would cast them."""
    path = run / "adapter" / "adapter_model.safetensors"
    weights = load_file(path)
    first = next(iter(weights))
    save_file(weights | {first: weights[first].to(kind)}, path)
    assert "adapter_model.safetensors is missing or damaged (" in (told := refused(run))
    assert "and no weight is" in told


def test_as_many_classes_as_nobody_has(run):
    (run / "classes.json").write_text(
        json.dumps({"classes": [f"class {n}" for n in range(20_000)], "ignore_index": 65535})
    )
    assert "There are 20,000 classes, and at most 8,192 can be told apart" in refused(run)


def test_an_answer_that_cannot_fit_is_not_begun(run, monkeypatch):
    edit_settings(run, "model", image_size=4096)
    memory = type("", (), {"available": 1 << 28})
    monkeypatch.setattr(psutil, "virtual_memory", lambda: memory)
    told = refused(run)
    assert "One image of 4096 x 4096 pixels and 2 classes takes at least 0.5 GB, and 0.3 GB are free" in told


@pytest.mark.parametrize(
    "changes",
    [
        {"val": "x"},
        {"val": 1.5},
        {"val": {"iou": {}}},
        {"test": {"iou": "\0"}},
        {"test": {"trivial": 7}},
        {"test": {"trivial": {"all": True}}},
        {"test": {"per_class": {"a": {"iou": []}}}},
        {"params": []},
        {"params": {"trainable": "x", "total": 1}},
        {"steps": True},
        {"peak_memory_mb": [1]},
    ],
)
def test_results_of_other_kinds(tmp_path, changes):
    whole = {"steps": 1, "params": {"trainable": 1, "total": 2}, "best_epoch": None, "peak_memory_mb": 1.0}
    scores = {"iou": 0.5, "per_class": {"a": {"iou": None}}, "trivial": {"all": {"iou": 0.1}}, "num_images": 2}
    write_json(tmp_path / "metrics.json", whole | {"val": scores})
    assert read_metrics(tmp_path)["val"]["iou"] == 0.5
    write_json(tmp_path / "metrics.json", whole | changes)
    with pytest.raises(InputError, match=r"metrics\.json is damaged \("):
        read_metrics(tmp_path)
