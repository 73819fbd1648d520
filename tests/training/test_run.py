import json
import shutil
import signal

import peft
import pytest
import torch
import yaml
from safetensors.torch import load_file
from transformers.training_args import OptimizerNames

from convlora.data.kept import KeptImages
from convlora.errors import InputError
from convlora.models import SamForSemanticSegmentation
from convlora.reporting import Silent
from convlora.training import fit
from convlora.training.checkpoint import load_state
from convlora.training.config import RunConfig
from convlora.training.folder import check_folder, last_checkpoint
from convlora.training.run import Interrupted, train
from convlora.training.trainer import SegmentationTrainer
from tests.helpers.interrupt_at import InterruptAt


def log_of(run):
    return [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]


def without_seconds(lines):
    return [{key: value for key, value in line.items() if key != "seconds"} for line in lines]


def weights_of(run):
    return load_file(run / "adapter" / "adapter_model.safetensors")


def assert_equal_runs(first, second):
    assert without_seconds(log_of(first)) == without_seconds(log_of(second))
    one, two = weights_of(first), weights_of(second)
    assert one.keys() == two.keys()
    assert [name for name in one if not torch.equal(one[name], two[name])] == []


def test_the_run_folder_is_as_documented(trained_run):
    assert {path.name for path in trained_run.iterdir()} == {
        "config.yaml", "classes.json", "sam.json", "samples.json", "adapter", "metrics.json", "log.jsonl",
        "images.jsonl", "report.html", "checkpoints",
    }  # fmt: skip
    assert {path.name for path in (trained_run / "adapter").iterdir()} == {
        "adapter_config.json", "adapter_model.safetensors", "README.md",
    }  # fmt: skip
    metrics = json.loads((trained_run / "metrics.json").read_text())
    images = [json.loads(line) for line in (trained_run / "images.jsonl").read_text().splitlines()]
    assert [one["image"] for one in images] == ["test_000", "test_001", "test_002"]
    assert metrics["test"]["iou"] == pytest.approx(sum(one["iou"] for one in images) / 3)
    assert {"best_epoch", "val", "test", "params", "seconds_per_step", "peak_memory_mb"} <= metrics.keys()
    assert metrics["params"]["trainable"] < metrics["params"]["total"]
    assert metrics["best_epoch"] in (1, 2)
    assert [entry["epoch"] for entry in metrics["history"]] == [1, 2]
    assert metrics["test"]["num_images"] == 3
    lines = log_of(trained_run)
    assert [line["step"] for line in lines] == [1, 2, 3, 4, 5, 6]
    for line in lines:
        assert {"step", "epoch", "loss", "task_loss", "load_balancing_loss", "lr", "seconds"} <= line.keys()
        assert line["loss"] == pytest.approx(line["task_loss"] + line["load_balancing_loss"], rel=1e-5)
    assert lines[0]["lr"] == pytest.approx(1e-2)
    assert lines[-1]["lr"] == pytest.approx(1e-2 / 6, rel=1e-5), "the learning rate falls linearly to zero"


def test_nothing_in_it_is_a_pickle(trained_run):
    suffixes = {path.suffix for path in trained_run.rglob("*") if path.is_file()}
    assert suffixes <= {".safetensors", ".json", ".jsonl", ".yaml", ".md", ".html"}


def test_the_adapter_is_a_peft_adapter(trained_run, tiny_sam_folder):
    base = SamForSemanticSegmentation.from_pretrained(tiny_sam_folder)
    before = base(torch.ones(1, 3, 64, 64)).logits
    model = peft.PeftModel.from_pretrained(base, trained_run / "adapter")
    assert model.peft_config["default"].peft_type == "CONV_LORA"
    assert not torch.equal(model(torch.ones(1, 3, 64, 64)).logits, before)
    names = weights_of(trained_run).keys()
    assert any("lora_experts" in name for name in names)
    assert any("mask_decoder" in name for name in names)
    assert not any("base_layer" in name or "prompt_encoder" in name for name in names)


def test_same_seed_same_run_bit_for_bit_and_the_saved_config_repeats_it(trained_run, tmp_path):
    train(RunConfig.load(trained_run / "config.yaml"), tmp_path / "again")
    assert_equal_runs(trained_run, tmp_path / "again")
    first, second = (yaml.safe_load((run / "config.yaml").read_text()) for run in (trained_run, tmp_path / "again"))
    assert first == second


def test_another_seed_another_run(trained_run, make_config, tmp_path):
    train(make_config(seed=1, epochs=1), tmp_path / "other")
    assert log_of(tmp_path / "other")[0]["loss"] != log_of(trained_run)[0]["loss"]


@pytest.mark.parametrize("step", [1, 3, 4, 5])
def test_interrupted_and_resumed_equals_uninterrupted(trained_run, make_config, tmp_path, step):
    """Three steps make an epoch: within the first, at its end, at the start of and within the second."""
    handler = signal.getsignal(signal.SIGINT)
    with pytest.raises(Interrupted, match=f"after step {step + 1}|after step {step}"):
        train(make_config(), tmp_path / "run", reporter=InterruptAt(step))
    assert signal.getsignal(signal.SIGINT) is handler
    assert not (tmp_path / "run" / "metrics.json").exists()
    train(make_config(), tmp_path / "run", resume=True)
    assert_equal_runs(trained_run, tmp_path / "run")
    metrics = [json.loads((run / "metrics.json").read_text()) for run in (trained_run, tmp_path / "run")]
    for part in ("val", "test", "best_epoch", "history"):
        assert metrics[0][part] == metrics[1][part]


def test_processes_that_read_images_change_nothing(trained_run, make_config, tmp_path):
    """They have generators of their own, also when they are started again in the middle of a run."""

    def config():
        made = make_config()
        made.data.workers = 2
        return made

    with pytest.raises(Interrupted):
        train(config(), tmp_path / "run", reporter=InterruptAt(4))
    train(config(), tmp_path / "run", resume=True)
    assert_equal_runs(trained_run, tmp_path / "run")


def test_images_kept_between_epochs_change_nothing_and_leave_nothing_behind(
    trained_run, make_config, tmp_path, monkeypatch
):
    found, read = [], KeptImages.read
    monkeypatch.setattr(KeptImages, "read", lambda self, index: found.append(read(self, index)) or found[-1])

    def config(keep):
        made = make_config()
        made.data.cache = keep
        return made

    run = tmp_path / "run"
    with pytest.raises(Interrupted):
        train(config(True), run, reporter=InterruptAt(4))
    assert any(one is not None for one in found)
    assert not (run / "decoded").exists()
    (run / "decoded").mkdir()
    (run / "decoded" / "0.npy").write_bytes(b"of other images")  # as a killed process would leave it
    train(config(False), run, resume=True)
    assert not (run / "decoded").exists()
    assert_equal_runs(trained_run, run)


def test_kept_images_that_the_disk_cannot_hold_are_refused(make_config, tmp_path, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 1000})())
    config = make_config()
    config.data.cache = True
    with pytest.raises(InputError, match=r"data\.cache needs .* GB are free there"):
        train(config, tmp_path / "run")


def test_lines_of_the_log_that_stand_for_several_steps(make_config, tmp_path):
    """One that began before an interruption tells of all its steps."""
    train(make_config(logging_steps=4), tmp_path / "undisturbed")
    with pytest.raises(Interrupted):
        train(make_config(logging_steps=4), tmp_path / "run", reporter=InterruptAt(2))
    train(make_config(logging_steps=4), tmp_path / "run", resume=True)
    assert [line["step"] for line in log_of(tmp_path / "run")] == [4, 6]
    assert_equal_runs(tmp_path / "undisturbed", tmp_path / "run")


@pytest.mark.parametrize("every", [2, 10])
def test_steps_that_are_looked_at_late_are_the_same(trained_run, make_config, tmp_path, monkeypatch, every):
    """As on a GPU, in two sittings: lines of the log may be written late, but none is missing or another."""
    monkeypatch.setattr(SegmentationTrainer, "read_every", every)
    with pytest.raises(Interrupted, match="after step 5"):
        train(make_config(), tmp_path / "run", reporter=InterruptAt(5))
    assert [line["step"] for line in log_of(tmp_path / "run")] == [1, 2, 3, 4, 5]
    train(make_config(), tmp_path / "run", resume=True)
    assert_equal_runs(trained_run, tmp_path / "run")
    seconds = [line["seconds"] for line in log_of(tmp_path / "run")]
    assert seconds == sorted(seconds)
    assert seconds[0] < seconds[1], "they are those of the steps, not of the writing"


def test_a_checkpoint_of_an_optimizer_that_cannot_skip(make_config, tmp_path, monkeypatch):
    """As versions wrote them whose optimizer was not fused; the host decides with such a one."""

    def unfused(*given, make=fit.trainer_arguments):
        arguments = make(*given)
        arguments.optim = OptimizerNames.ADAMW_TORCH
        return arguments

    lost = SamForSemanticSegmentation.loss_of
    with monkeypatch.context() as patch:
        patch.setattr(fit, "trainer_arguments", unfused)
        patch.setattr(SamForSemanticSegmentation, "loss_of", lambda *given: lost(*given) * float("nan"))
        with pytest.raises(Interrupted):
            train(make_config(), tmp_path / "run", reporter=InterruptAt(2))
    path = last_checkpoint(tmp_path / "run") / "optimizer_state.safetensors"
    saved = load_state(path)["optimizer"]
    assert not saved["state"], "nothing was done in two steps"
    assert not saved["param_groups"][0]["fused"]
    assert train(make_config(), tmp_path / "run", resume=True)["skipped_steps"] == 2
    assert load_state(last_checkpoint(tmp_path / "run") / path.name)["optimizer"]["param_groups"][0]["fused"]


def test_a_finished_run_made_longer(trained_run, make_config, tmp_path):
    """The rate is that of the longer schedule from its first step on."""
    shutil.copytree(trained_run, tmp_path / "run")
    train(make_config(epochs=3), tmp_path / "run", resume=True)
    rates = [line["lr"] for line in log_of(tmp_path / "run")]
    assert rates[6:] == pytest.approx([1e-2 * (9 - step) / 9 for step in (6, 7, 8)])


def test_an_epoch_that_is_finished_later_does_not_hide_the_best(make_config, tmp_path):
    train(make_config(max_steps=2), tmp_path / "run")
    metrics = train(make_config(max_steps=6), tmp_path / "run", resume=True)
    assert [entry["step"] for entry in metrics["history"]] == [2, 3, 6]
    best = max(metrics["history"], key=lambda entry: entry["iou"])
    assert metrics["val"]["iou"] == pytest.approx(best["iou"], abs=1e-4)
    assert metrics["best_epoch"] == best["epoch"]


def test_steps_of_another_number_of_processes_are_not_gone_on_with(make_config, tmp_path):
    with pytest.raises(Interrupted):
        train(make_config(), tmp_path / "run", reporter=InterruptAt(3))
    path = last_checkpoint(tmp_path / "run") / "trainer_state.json"
    state = json.loads(path.read_text())
    state["stateful_callbacks"]["history"]["attributes"]["processes"] = 2
    path.write_text(json.dumps(state))
    before = (tmp_path / "run" / "config.yaml").read_bytes()
    with pytest.raises(InputError, match=r"was saved by 2 processes, and now there would be 1.*Start it with as many"):
        train(make_config(epochs=3), tmp_path / "run", resume=True)
    assert (tmp_path / "run" / "config.yaml").read_bytes() == before


def test_resuming_a_finished_run_changes_nothing(trained_run, make_config, tmp_path):
    shutil.copytree(trained_run, tmp_path / "run")
    train(make_config(), tmp_path / "run", resume=True)
    assert_equal_runs(trained_run, tmp_path / "run")


def test_resume_without_a_checkpoint_starts(make_config, tmp_path):
    train(make_config(max_steps=1), tmp_path / "run", resume=True)
    assert len(log_of(tmp_path / "run")) == 1


def test_gradient_accumulation_equals_a_larger_batch(make_config, tmp_path):
    """With plain LoRA, whose loss is a mean over images, the two must agree."""
    for name, settings in (("one", {"batch_size": 2}), ("two", {"batch_size": 1, "grad_accum": 2})):
        config = make_config(epochs=1, loss="bce-dice", **settings)
        config.method.name = "lora"
        train(config, tmp_path / name)
    one, two = log_of(tmp_path / "one"), log_of(tmp_path / "two")
    for a, b in zip(one, two):
        for key in ("loss", "task_loss", "grad_norm"):
            assert a[key] == pytest.approx(b[key], rel=1e-3), key
        assert a["load_balancing_loss"] == 0


@pytest.mark.parametrize(
    "settings",
    [{"activation_checkpointing": True}, {"precision": "bf16"}, {"loss": "balanced-bce"}, {"select_by": "mae"}],
)
def test_other_settings_run(make_config, tmp_path, settings):
    metrics = train(make_config(max_steps=2, **settings), tmp_path / "run")
    assert metrics["steps"] == 2
    assert all(0 <= metrics["test"][name] <= 1 for name in ("iou", "dice", "mae"))


def test_checkpointing_does_not_change_the_numbers(trained_run, make_config, tmp_path):
    train(make_config(activation_checkpointing=True), tmp_path / "run")
    for a, b in zip(log_of(trained_run), log_of(tmp_path / "run")):
        assert a["loss"] == pytest.approx(b["loss"], rel=1e-4)
        assert a["load_balancing_loss"] == pytest.approx(b["load_balancing_loss"], rel=1e-3)


def test_oblong_images_and_strong_augmentation(make_config, tmp_path):
    config = make_config(max_steps=1)
    config.override(["image_size=[48, 64]", "augmentation=strong"])
    assert train(config, tmp_path / "run")["steps"] == 1


def test_undivided_data_get_a_validation_split(make_config, blobs, tmp_path):
    messages = []

    class Listen(Silent):
        def message(self, text):
            messages.append(text)

    config = make_config(max_steps=1)
    config.data.path = str(blobs / "train")
    metrics = train(config, tmp_path / "run", reporter=Listen())
    assert metrics["val"]["num_images"] == 1
    assert "test" not in metrics
    assert "held out" in messages[0]


def test_refuses_a_folder_in_use(trained_run, make_config):
    with pytest.raises(InputError, match=r"not empty.*--resume"):
        train(make_config(), trained_run)


def test_bad_inputs_leave_nothing_behind(make_config, tmp_path):
    config = make_config()
    config.model.source = str(tmp_path / "missing.pth")
    with pytest.raises(InputError, match=r"missing\.pth"):
        train(config, tmp_path / "run")
    config = make_config()
    config.model.image_size = 100
    with pytest.raises(InputError, match="divisible by 16"):
        train(config, tmp_path / "run")
    config = make_config()
    config.method.options = {"num_experts": 0}
    with pytest.raises(InputError, match="num_experts"):
        train(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_run_with_cache_equals_one_without_and_leaves_none_behind(make_config, tmp_path):
    settings = {"adapt_last": 1, "batch_size": 1}
    train(make_config(**settings), tmp_path / "plain")
    messages = []
    reporter = Silent()
    reporter.message = messages.append
    train(make_config(**settings, cache=True), tmp_path / "cached", reporter=reporter)
    assert_equal_runs(tmp_path / "plain", tmp_path / "cached")
    assert any(text.startswith("Cache: images pass the first 1 blocks once") for text in messages)
    assert not (tmp_path / "cached" / "cache").exists()


def test_a_cache_without_frozen_blocks_is_refused(make_config, tmp_path):
    with pytest.raises(InputError, match="--adapt-last N"):
        train(make_config(cache=True), tmp_path / "run")


def test_a_cache_that_the_disk_cannot_hold_is_refused(make_config, tmp_path, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 1000})())
    with pytest.raises(InputError, match="GB are free there"):
        train(make_config(cache=True, adapt_last=1), tmp_path / "run")


def test_a_filled_cache_needs_no_more_room_and_goes_even_if_turned_off(make_config, tmp_path, monkeypatch):
    output = tmp_path / "run"

    def make(**cache):
        config = make_config(adapt_last=1, batch_size=1, **cache)
        config.data.augmentation = "none"  # one version of each image: the first epoch has them all
        return config

    monkeypatch.setattr("convlora.training.run.finish", lambda *_: {})
    train(make(cache=True), output)
    entries = list((output / "cache").rglob("*.safetensors"))
    assert entries
    (output / "cache" / "notes.txt").write_text("mine")
    monkeypatch.undo()
    shutil.copytree(output, tmp_path / "copy")
    free = sum(entry.stat().st_size for entry in entries) // 2
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": free})())
    with pytest.raises(InputError, match="--no-cache"):
        train(make(cache=True), tmp_path / "new")
    train(make(cache=True), tmp_path / "copy", resume=True)
    assert [path.name for path in (tmp_path / "copy" / "cache").iterdir()] == ["notes.txt"]
    train(make(cache=False), output, resume=True)
    assert [path.name for path in (output / "cache").iterdir()] == ["notes.txt"]


def test_a_checkpoint_that_cannot_be_written_leaves_the_one_before(make_config, tmp_path, monkeypatch):
    from safetensors import SafetensorError

    from convlora.errors import RunError
    from convlora.training import resumable

    written = []

    def fails_the_second_time(path, state):
        if "optimizer" in path.name:
            written.append(path)
        if len(written) > 1:
            raise SafetensorError("I/O error: No space left on device")
        save(path, state)

    save = resumable.save_state
    monkeypatch.setattr(resumable, "save_state", fails_the_second_time)
    with pytest.raises(RunError, match=r"cannot be written .*No space left"):
        train(make_config(), tmp_path / "run")
    monkeypatch.undo()
    assert [path.name for path in (tmp_path / "run" / "checkpoints").glob("checkpoint-*")] == ["checkpoint-3"]
    train(make_config(), tmp_path / "run", resume=True)
    train(make_config(), tmp_path / "whole")
    assert_equal_runs(tmp_path / "whole", tmp_path / "run")


def test_the_best_weights_are_those_of_which_the_checkpoint_knows(make_config, tmp_path, monkeypatch):
    """Killed after a better epoch and before its checkpoint, a run whose repeated epoch is worse keeps the old best."""

    class Killed(BaseException):
        pass

    def better_and_killed(self, metrics, trial, judge=SegmentationTrainer._determine_best_metric):
        self._keep_best({}) if self.state.global_step == 6 else judge(self, metrics, trial)
        if self.state.global_step == 6:
            raise Killed
        return True

    run = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr(SegmentationTrainer, "_determine_best_metric", better_and_killed)
        with pytest.raises(Killed):
            train(make_config(), run)
    first = weights_of(run)
    assert (run / ".adapter-6").is_dir()
    monkeypatch.setattr(SegmentationTrainer, "_determine_best_metric", lambda self, metrics, trial: False)
    train(make_config(), run, resume=True)
    assert not (run / ".adapter-6").exists()
    assert [name for name, value in weights_of(run).items() if not torch.equal(value, first[name])] == []


def test_the_best_weights_of_a_checkpoint_that_was_just_written_get_their_place(trained_run, tmp_path):
    shutil.copytree(trained_run, tmp_path / "run")
    (tmp_path / "run" / "adapter").rename(tmp_path / "run" / ".adapter-6")
    check_folder(tmp_path / "run", resume=True)
    assert weights_of(tmp_path / "run")
    assert not (tmp_path / "run" / ".adapter-6").exists()
