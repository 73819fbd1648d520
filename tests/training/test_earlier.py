"""Training that begins with the weights of an earlier run."""

import hashlib
import json
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import transformers as hf
import yaml
from safetensors.torch import load_file, save_file

from convlora.data.classes.class_table import ClassTable
from convlora.data.sources.opening import open_data
from convlora.data.synthetic import write_task
from convlora.errors import InputError
from convlora.inference.segmenter import Segmenter
from convlora.methods.registry import resolve_options
from convlora.models.fingerprint import sample_weights
from convlora.reporting import Silent
from convlora.runs.adapters import saved_weights
from convlora.storage import write_json
from convlora.training.beginning import tell_beginning
from convlora.training.carrying import begin_with, check_earlier
from convlora.training.config import RunConfig
from convlora.training.earlier import find_earlier, settle_tokens
from convlora.training.model import adapt_base, build_model, load_base
from convlora.training.run import Interrupted, train
from tests.helpers.interrupt_at import InterruptAt
from tests.helpers.models import tiny_sam
from tests.training.test_run import assert_equal_runs, log_of, weights_of

CLASSES = ("background", "a", "b")
HALF_KERNELS = "detail.half_token_kernels"


def settings(sam, head="auto", detail="half", method="conv-lora", **more):
    config = RunConfig()
    source = "unet" if method == "unet" else str(sam)
    model = {"source": source, "head": head, "detail": detail, "image_size": 64} | more
    config.update({"model": model, "method": {"name": method}})
    config.method.options = resolve_options(method, {})
    return config


def make_run(folder, config, names):
    """A run that was never trained, but has other weights than a new model."""
    folder.mkdir()
    classes, base = ClassTable(names), load_base(config, ClassTable(names))
    if base.vision_encoder is not None:
        write_json(folder / "sam.json", sample_weights(base.vision_encoder))
    model = adapt_base(base, config)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(0.1 * torch.randn_like(parameter))
    model.save_pretrained(folder / "adapter", save_embedding_layers=False)
    config.save(folder / "config.yaml")
    write_json(folder / "classes.json", classes.to_dict())
    return model.eval()


def begin(run, names, output, **model):
    """A new model that begins with a run, what was carried over, and a new model that does not."""
    config = RunConfig()
    config.update({"model": {"from_run": str(run), **model}})
    earlier = find_earlier(config, output, resume=False)
    classes = ClassTable(names)
    settle_tokens(config, earlier, len(names))
    torch.manual_seed(7)
    fresh = build_model(config, classes)
    torch.manual_seed(7)
    base = load_base(config, classes)
    checked = check_earlier(base, sample_weights(base.vision_encoder), str(config.model.source), earlier)
    new = adapt_base(base, config)
    carried = begin_with(new, earlier, classes, checked)
    return new.eval(), carried, fresh.eval()


def short(name):
    return name.removeprefix("base_model.model.").removeprefix("mask_decoder.")


def kinds_of(old, new, fresh):
    """Which tensors are those of the earlier run, of a new model, or neither, by their names."""
    one, two, three = saved_weights(old), saved_weights(new), saved_weights(fresh)
    found = {"kept": set(), "fresh": set(), "mixed": set()}
    for name, value in two.items():
        if name in one and torch.equal(one[name], value):
            found["kept"].add(short(name))
        elif torch.equal(three[name], value):
            found["fresh"].add(short(name))
        else:
            found["mixed"].add(short(name))
    return found, one, two, three


def image():
    return torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(3))


@pytest.mark.parametrize("case", ["binary", "per-pixel", "vpt"])
def test_with_the_same_classes_the_new_model_answers_as_the_earlier_one(tiny_sam_folder, tmp_path, case):
    names = CLASSES if case == "per-pixel" else CLASSES[:2]
    config = settings(tiny_sam_folder, method="vpt" if case == "vpt" else "conv-lora")
    config.model.head = "per-pixel" if case == "per-pixel" else "auto"
    old = make_run(tmp_path / "run", config, names)
    new, carried, fresh = begin(tmp_path / "run", names, tmp_path / "new")
    with torch.inference_mode():
        assert torch.equal(old(pixel_values=image()).logits, new(pixel_values=image()).logits)
        assert not torch.equal(old(pixel_values=image()).logits, fresh(pixel_values=image()).logits)
    assert (carried.new_classes, carried.dropped_classes) == ([], [])
    weights = (tmp_path / "run" / "adapter" / "adapter_model.safetensors").read_bytes()
    assert carried.weights_sha256 == hashlib.sha256(weights).hexdigest()


@pytest.mark.parametrize("case", ["per-pixel", "per-pixel, full", "mask-classification", "unet"])
def test_classes_keep_their_rows_wherever_they_stand(tiny_sam_folder, tmp_path, case):
    """With the classes in another order and one more, the scores of the old ones are the same before the new one."""
    is_unet = case == "unet"
    case, _, detail = case.partition(", ")
    config = settings(
        tiny_sam_folder,
        "auto" if is_unet else case,
        detail or ("half" if case == "per-pixel" else "none"),
        "unet" if is_unet else "conv-lora",
        num_mask_tokens=5 if case == "mask-classification" else None,
    )
    old = make_run(tmp_path / "run", config, CLASSES)
    order = ("b", "c", "background")  # a is gone, c is new
    new, carried, fresh = begin(tmp_path / "run", order, tmp_path / "new")
    found, one, two, three = kinds_of(old, new, fresh)
    by_class = {
        "per-pixel": {"mask_tokens.weight", "detail.token_kernels"} | ({HALF_KERNELS} if detail == "full" else set()),
        "mask-classification": {"classifier.weight", "classifier.bias"},
        "unet": {"network.final_conv.weight", "network.final_conv.bias"},
    }[case]
    some_mixed = by_class | ({"mask_tokens.weight"} if case == "mask-classification" else set())
    assert found["mixed"] <= some_mixed
    assert found["fresh"] == set()
    for name in two:
        if short(name) in by_class:
            assert torch.equal(two[name][0], one[name][2]), "b"
            assert torch.equal(two[name][2], one[name][0]), "background"
            assert torch.equal(two[name][1], three[name][1]), "c starts as in a new model"
            assert len(two[name]) == len(order) + ("classifier" in name)
            if "classifier" in name:
                assert torch.equal(two[name][3], one[name][3]), "no object"
    assert (carried.classes, carried.new_classes, carried.dropped_classes) == (["b", "background"], ["c"], ["a"])
    told = " ".join(carried.sentences())
    assert "Kept classes: b, background." in told
    assert "start fresh: c." in told
    if case != "mask-classification":
        with torch.inference_mode():
            before, after = old(pixel_values=image()), new(pixel_values=image())
        assert torch.equal(before.mask_logits[:, [2, 0]], after.mask_logits[:, [0, 2]]) or case == "per-pixel"


def test_more_mask_tokens_keep_the_first_ones(tiny_sam_folder, tmp_path):
    old = make_run(
        tmp_path / "run", settings(tiny_sam_folder, "mask-classification", "none", num_mask_tokens=4), CLASSES
    )
    new, carried, fresh = begin(tmp_path / "run", CLASSES, tmp_path / "new", num_mask_tokens=6)
    _, one, two, three = kinds_of(old, new, fresh)
    name = next(name for name in two if name.endswith("mask_tokens.weight"))
    assert torch.equal(two[name][:4], one[name])
    assert torch.equal(two[name][4:], three[name][4:])
    assert carried.mask_tokens == [4, 6]
    assert "4 of 6 mask tokens" in " ".join(carried.sentences())


def test_another_foreground_starts_fresh_and_the_rest_stays(tiny_sam_folder, tmp_path):
    old = make_run(tmp_path / "run", settings(tiny_sam_folder, detail="none"), ("background", "crack"))
    new, carried, fresh = begin(tmp_path / "run", ("background", "leaf"), tmp_path / "new")
    found, one, two, three = kinds_of(old, new, fresh)
    assert found["mixed"] == {"mask_tokens.weight"}, "SAM's other tokens are of no class"
    name = next(name for name in two if name.endswith("mask_tokens.weight"))
    assert torch.equal(two[name][0], three[name][0])
    assert torch.equal(two[name][1:], one[name][1:])
    assert (carried.classes, carried.new_classes, carried.dropped_classes) == ([], ["leaf"], ["crack"])


@pytest.mark.parametrize("detail", ["half", "full"])
def test_another_head_keeps_what_is_of_no_class(tiny_sam_folder, tmp_path, detail):
    old = make_run(tmp_path / "run", settings(tiny_sam_folder, detail=detail), ("background", "a"))
    new, carried, fresh = begin(tmp_path / "run", CLASSES, tmp_path / "new", head="per-pixel")
    found, *_ = kinds_of(old, new, fresh)
    several = {"detail.token_kernels"} | ({HALF_KERNELS, "detail.half_project.weight"} if detail == "full" else set())
    assert found["fresh"] | found["mixed"] == several | {"mask_tokens.weight"}
    assert "mask_tokens.weight" in found["fresh"]
    assert (carried.earlier_head, carried.head) == ("binary", "per-pixel")
    assert "by the head binary" in " ".join(carried.sentences())


def test_a_single_mask_may_follow_several_classes(tiny_sam_folder, tmp_path):
    old = make_run(tmp_path / "run", settings(tiny_sam_folder, "per-pixel", "full"), CLASSES)
    new, carried, fresh = begin(tmp_path / "run", CLASSES[:2], tmp_path / "new", head="binary")
    found, *_ = kinds_of(old, new, fresh)
    assert found["fresh"] | found["mixed"] == {"mask_tokens.weight"}
    assert "detail.project.weight" in found["kept"]
    assert not any("half_" in name for name in found["kept"])
    assert (carried.earlier_head, carried.head) == ("per-pixel", "binary")


def test_tensors_of_another_size_are_refused(tiny_sam_folder, tmp_path):
    make_run(tmp_path / "run", settings(tiny_sam_folder, "per-pixel", "full"), CLASSES)
    file = tmp_path / "run/adapter/adapter_model.safetensors"
    values = load_file(file)
    name = next(name for name in values if name.endswith("half_project.weight"))
    save_file(values | {name: torch.zeros(len(values[name]) + 1, 32)}, file)
    with pytest.raises(InputError, match=r"half_project\.weight: \[5, 32\] instead of \[4, 32\]"):
        begin(tmp_path / "run", CLASSES, tmp_path / "new")


def test_a_detail_branch_can_be_added_and_not_be_changed(tiny_sam_folder, tmp_path):
    old = make_run(tmp_path / "run", settings(tiny_sam_folder, detail="none"), ("background", "a"))
    new, carried, _ = begin(tmp_path / "run", ("background", "a"), tmp_path / "new", detail="half")
    with torch.inference_mode():
        before, after = (model(pixel_values=image()).logits for model in (old, new))
    assert torch.allclose(before, after, atol=1e-5), "a fresh branch adds nothing yet"
    assert carried.fresh_detail
    make_run(tmp_path / "with", settings(tiny_sam_folder), ("background", "a"))
    with pytest.raises(InputError, match=r"--detail is full, but the run was trained with half\. Leave it out"):
        begin(tmp_path / "with", ("background", "a"), tmp_path / "new", detail="full")


def test_what_a_branch_at_full_size_did_without_is_zero(tiny_sam_folder, tmp_path):
    names, file = ("background", "a"), tmp_path / "run/adapter/adapter_model.safetensors"
    make_run(tmp_path / "run", settings(tiny_sam_folder, detail="full"), names)
    save_file({name: value for name, value in load_file(file).items() if ".second." not in name}, file)
    new, _, _ = begin(tmp_path / "run", names, tmp_path / "new")
    later = [value for name, value in saved_weights(new).items() if ".second." in name]
    assert len(later) == 6
    assert not any(value.any() for value in later)


def test_several_classes_did_without_features_at_half_size(tiny_sam_folder, tmp_path):
    file = tmp_path / "run/adapter/adapter_model.safetensors"
    make_run(tmp_path / "run", settings(tiny_sam_folder, "per-pixel", "full"), CLASSES)
    save_file({name: value for name, value in load_file(file).items() if "detail.half_" not in name}, file)
    new, _, _ = begin(tmp_path / "run", CLASSES, tmp_path / "new")
    later = [value for name, value in saved_weights(new).items() if "detail.half_" in name]
    assert len(later) == 2
    assert not any(value.any() for value in later)


@pytest.mark.parametrize("case", ["classes", "detail"])
def test_a_decoder_that_is_adapted_in_part_goes_on_too(tiny_sam_folder, tmp_path, case):
    """What PEFT trains in full beside it depends on the head and on the detail branch."""
    old = make_run(
        tmp_path / "run", settings(tiny_sam_folder, detail="none", method="lora-decoder"), ("background", "a")
    )
    names, asked = (CLASSES, {}) if case == "classes" else (CLASSES[:2], {"detail": "half"})
    new, carried, fresh = begin(tmp_path / "run", names, tmp_path / "new", **asked)
    found, *_ = kinds_of(old, new, fresh)
    assert {name for name in found["kept"] if "lora_" in name} == {
        short(name) for name in saved_weights(old) if "lora_" in name
    }
    assert carried.fresh_detail == (case == "detail")


@pytest.mark.parametrize("detail", ["none", "half", "full"])
def test_queries_of_other_classes(tmp_path, detail):
    """There are others in front of the cells then, which Conv-LoRA has to know."""
    vit = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 48}
    hf.Dinov2Model(hf.Dinov2Config(**vit, image_size=56, patch_size=14)).save_pretrained(tmp_path / "dino")
    config = settings(tmp_path / "dino", detail=detail, decoder="eomt", image_size=56)
    old = make_run(tmp_path / "run", config, ("background", "a"))
    new, carried, fresh = begin(tmp_path / "run", CLASSES, tmp_path / "new", num_mask_tokens=5)
    found, *_ = kinds_of(old, new, fresh)
    assert any("lora_experts" in name for name in found["kept"])
    assert not any("lora_" in name for name in found["fresh"] | found["mixed"])
    assert carried.head != carried.earlier_head
    assert new(pixel_values=torch.zeros(1, 3, 56, 56)).mask_logits.isfinite().all()


def test_windows_are_those_of_the_earlier_run_unless_others_are_given(tiny_sam_folder, tmp_path):
    """Else the same things would be seen at another size."""
    earlier = settings(tiny_sam_folder)
    earlier.data.window = 32
    make_run(tmp_path / "run", earlier, ("background", "a"))
    for asked, window in (({}, 32), ({"window": 48}, 48), ({"window": None}, None)):
        config = RunConfig()
        config.update({"model": {"from_run": str(tmp_path / "run")}, "data": asked})
        find_earlier(config, tmp_path / "new", resume=False)
        assert (config.data.window, config.model.image_size) == (window, 64)


# ---- what does not fit ----


def test_folds_are_several_runs(tmp_path):
    config = RunConfig()
    config.update({"data": {"folds": 2}, "model": {"image_size": 64}})
    (tmp_path / "run").mkdir()
    config.save(tmp_path / "run" / "config.yaml")
    config = RunConfig()
    config.model.from_run = str(tmp_path / "run")
    with pytest.raises(InputError, match=r"--from takes one model.*fold-0"):
        find_earlier(config, tmp_path / "new", resume=False)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"method": "lora"}, "--method is lora, but the run was trained with conv-lora. Leave it out, or train"),
        ({"method": {"r": 8}}, "method.r is 8, but the run was trained with 3"),
        ({"method": {"name": "conv-lora", "r": 8, "top_k": 2}}, "method.top_k is 2, but the run was trained with 1"),
        ({"training": {"adapt_last": 1}}, "--adapt-last is 1, but the run was trained with all blocks adapted"),
        ({"model": {"detail": "none"}}, "--detail is none, but the run was trained with half"),
    ],
)
def test_settings_that_the_weights_contradict_are_refused(trained_run, blobs, tmp_path, given, words):
    config = RunConfig()
    config.update({"data": {"path": str(blobs)}, "model": {"from_run": str(trained_run)}})
    config.update(given)
    with pytest.raises(InputError) as caught:
        train(config, tmp_path / "new")
    assert words in str(caught.value)
    assert not (tmp_path / "new").exists()


def test_training_alone_may_be_another(trained_run, tmp_path):
    config = RunConfig()
    config.update({"model": {"from_run": str(trained_run)}, "method": {"lora_dropout": 0.2}})
    find_earlier(config, tmp_path / "new", resume=False)
    assert config.method.options["lora_dropout"] == 0.2
    assert config.method.options["r"] == 3


def test_another_sam_of_the_same_shape_is_refused(trained_run, tmp_path):
    tiny_sam(seed=1).save_pretrained(tmp_path / "sam")
    with pytest.raises(InputError, match="is not the model that the run"):
        begin(trained_run, ("background", "cell"), tmp_path / "new", source=str(tmp_path / "sam"))


def test_the_earlier_run_is_no_place_to_write_to(trained_run, blobs, tmp_path):
    (tmp_path / "link").symlink_to(trained_run)
    config = RunConfig()
    config.update({"data": {"path": str(blobs)}, "model": {"from_run": str(trained_run)}})
    for output in (trained_run, trained_run / "next", tmp_path / "link"):
        with pytest.raises(InputError, match="Give another --output"):
            train(config, output)
        assert not (trained_run / "next").exists()


def test_what_is_no_run_or_is_damaged(trained_run, tiny_sam_folder, tmp_path):
    config = RunConfig()
    config.model.from_run = str(tmp_path / "nowhere")
    with pytest.raises(InputError, match="is not a run folder"):
        find_earlier(config, tmp_path / "new", resume=False)
    make_run(tmp_path / "run", settings(tiny_sam_folder), ("background", "a"))
    other = tmp_path / "other"
    make_run(other, settings(tiny_sam_folder, "per-pixel"), (*CLASSES, "c"))
    weights = "adapter/adapter_model.safetensors"
    shutil.copy(other / weights, tmp_path / "run" / weights)
    with pytest.raises(InputError, match=r"does not fit classes\.json and config\.yaml of its run"):
        begin(tmp_path / "run", ("background", "a"), tmp_path / "new")
    (tmp_path / "run" / weights).write_bytes(b"x" * 100)
    with pytest.raises(InputError, match="missing or damaged"):
        begin(tmp_path / "run", ("background", "a"), tmp_path / "new")


def test_a_comparison_refuses_it(convlora, trained_run, blobs, tmp_path):
    (tmp_path / "c.yaml").write_text(yaml.safe_dump({"model": {"from_run": str(trained_run)}}))
    code, _, told = convlora("compare", blobs, "--config", tmp_path / "c.yaml", "--output", tmp_path / "out")
    assert code == 2
    assert "Leave out --from" in " ".join(told.split())


# ---- whole runs ----


def content_of(folder):
    return {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def from_run(run, data, **training):
    config = RunConfig()
    settings = {"lr": 1e-2, "warmup_steps": 0, "batch_size": 2, "grad_accum": 1, "device": "cpu", "epochs": 1}
    config.update({"data": {"path": str(data)}, "model": {"from_run": str(run)}, "training": settings | training})
    return config


class Told(Silent):
    def __init__(self):
        self.sentences = []

    def message(self, text):
        self.sentences.append(text)


@pytest.fixture(scope="module")
def gone_on(trained_run, blobs, tmp_path_factory):
    """A run that went on from another one, what it said, and the files of the other before and after."""
    before, told = content_of(trained_run), Told()
    folder = tmp_path_factory.mktemp("gone-on") / "run"
    train(from_run(trained_run, blobs), folder, reporter=told)
    assert content_of(trained_run) == before, "the earlier run is only read"
    return folder, told.sentences


def test_a_run_tells_what_it_began_with(gone_on, trained_run, tiny_sam_folder):
    folder, told = gone_on
    config = yaml.safe_load((folder / "config.yaml").read_text())
    assert config["model"]["from_run"] == str(trained_run)
    assert config["model"]["source"] == str(tiny_sam_folder)
    assert config["model"]["image_size"] == 64
    beginning = json.loads((folder / "metrics.json").read_text())["from"]
    assert (beginning["run"], beginning["classes"]) == (str(trained_run), ["cell"])
    assert "began with the weights of another run, run." in (folder / "adapter" / "README.md").read_text()
    assert str(trained_run) in (folder / "report.html").read_text()
    assert f"Training begins with the weights of {trained_run}." in told
    first = log_of(folder)[0]["task_loss"]
    assert first < log_of(trained_run)[0]["task_loss"], "it knows what the earlier run has learned"


def test_it_is_repeated_by_its_settings(gone_on, tmp_path):
    train(RunConfig.load(gone_on[0] / "config.yaml"), tmp_path / "again")
    assert_equal_runs(gone_on[0], tmp_path / "again")


def test_it_is_resumed_without_the_earlier_run_bit_for_bit(gone_on, trained_run, blobs, tmp_path):
    earlier = shutil.copytree(trained_run, tmp_path / "earlier")
    with pytest.raises(Interrupted):
        train(from_run(earlier, blobs), tmp_path / "run", reporter=InterruptAt(2))
    shutil.rmtree(earlier)
    train(from_run(earlier, blobs), tmp_path / "run", resume=True)  # the same command
    assert_equal_runs(gone_on[0], tmp_path / "run")
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert metrics["from"]["run"] == str(earlier)


def test_frozen_blocks_are_cached_as_ever(make_config, blobs, tmp_path):
    train(make_config(max_steps=1, epochs=1, adapt_last=1), tmp_path / "first")
    told = Told()
    train(from_run(tmp_path / "first", blobs, cache=True, max_steps=1), tmp_path / "cached", reporter=told)
    config = RunConfig.load(tmp_path / "cached" / "config.yaml")
    assert (config.training.adapt_last, config.training.cache) == (1, True)
    one, two = weights_of(tmp_path / "first"), weights_of(tmp_path / "cached")
    assert one.keys() == two.keys()
    assert any(not torch.equal(one[name], two[name]) for name in one)


def test_images_that_were_trained_on_are_told_among_those_that_are_scored(trained_run, blobs, tmp_path):
    """Also those of the run before the earlier one."""
    second = make_chain(trained_run, tmp_path)
    config, told = RunConfig(), Told()
    config.model.from_run = str(second)
    earlier = find_earlier(config, tmp_path / "new", resume=False)
    splits = open_data(blobs).splits
    run = SimpleNamespace(reporter=told)
    images = SimpleNamespace(val=splits["val"] + splits["train"][:2], test=splits["test"])
    nothing = SimpleNamespace(sentences=list)
    tell_beginning(run, images, earlier, nothing)
    (warning,) = told.sentences
    assert "2 validation images were trained on before, such as train_000" in warning


def make_chain(run, tmp_path):
    """A run that began with another one, and was trained on nothing of it."""
    second = shutil.copytree(run, tmp_path / "second", ignore=shutil.ignore_patterns("checkpoints"))
    settings = yaml.safe_load((second / "config.yaml").read_text())
    settings["model"]["from_run"] = str(run)
    (second / "config.yaml").write_text(yaml.safe_dump(settings))
    (second / "samples.json").write_text('{"train": [], "val": []}')
    return second


def test_the_sam_of_an_imported_run_is_copied(tmp_path, convlora):
    import convlora as package
    from tests.importing.autogluon import Predictor

    torch.manual_seed(0)
    package.import_run(Predictor().save(tmp_path / "predictor"), tmp_path / "imported")
    data = write_task("cells", tmp_path / "data", num_train=2, num_val=1, num_test=1, size=(60, 70))
    package.train(data, tmp_path / "run", from_run=tmp_path / "imported", max_steps=1, device="cpu", reporter=Silent())
    shutil.rmtree(tmp_path / "imported")
    assert RunConfig.load(tmp_path / "run" / "config.yaml").model.source == str(tmp_path / "run" / "sam")
    segmenter = Segmenter.from_run(tmp_path / "run", device="cpu")
    assert segmenter.predict(np.zeros((20, 30, 3), np.uint8)).semantic_map.shape == (20, 30)
