"""A run folder that somebody sent is gone on with: nothing outside is touched, nothing but our own files is read."""

import pickle
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from convlora.errors import InputError
from convlora.runs import adapters
from convlora.training.cache import end_cache
from convlora.training.checkpoint import load_state, save_state
from convlora.training.config import RunConfig
from convlora.training.folder import check_folder, last_checkpoint
from convlora.training.run import train
from convlora.training.sharding import load_trained_weights

ENTRY = "0123456789abcdef/sam/model.safetensors"  # where the cache would have such a file


@pytest.fixture
def run(trained_run, tmp_path):
    return shutil.copytree(trained_run, tmp_path / "run")


@pytest.fixture
def outside(tmp_path):
    """Somebody's model; it must stay as it is."""
    for name in ("adapter_model.safetensors", "README.md", ENTRY, f"x/{ENTRY}"):
        (tmp_path / "outside" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "outside" / name).write_text("dear")
    before = sorted((tmp_path / "outside").rglob("*"))
    yield tmp_path / "outside"
    assert sorted((tmp_path / "outside").rglob("*")) == before
    assert {path.read_text() for path in before if path.is_file()} == {"dear"}


@pytest.mark.parametrize("name", ["cache", "cache/link", "cache/0123456789abcdef", "cache/0123456789abcdef/sam"])
def test_a_link_in_the_cache_is_not_followed(outside, make_config, tmp_path, name):
    """Also by a new run, into a folder that holds nothing else."""
    target = {2: outside, 3: outside / "0123456789abcdef" / "sam"}.get(name.count("/") + 1, outside)
    link = tmp_path / "run" / name
    link.parent.mkdir(parents=True)
    link.symlink_to(target if name.count("/") == 2 else outside)
    end_cache(tmp_path / "run")
    for resume in (False, True):
        with pytest.raises(InputError, match=f"{name} is a link"):
            train(make_config(adapt_last=1, cache=True), tmp_path / "run", resume=resume)


@pytest.mark.parametrize(
    "name",
    [
        ".adapter-1",
        ".adapter.old",
        "checkpoints/checkpoint-9",
        "checkpoints/.checkpoint-9.unfinished",
        "adapter/README.md",
    ],
)
def test_a_link_in_the_place_of_what_is_moved_or_removed_is_not_followed(outside, run, name):
    (run / name).unlink(missing_ok=True)
    (run / name).symlink_to(outside / "README.md" if name.endswith(".md") else outside)
    with pytest.raises(InputError, match=f"{name} is a link"):
        check_folder(run, resume=True)
    assert last_checkpoint(run).name == "checkpoint-6"


def test_links_of_other_programs_do_not_matter(run, outside):
    (run / "wandb").mkdir()
    (run / "wandb" / "latest-run").symlink_to(outside)
    check_folder(run, resume=True)


class Bomb:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


def more_epochs(run):
    config = RunConfig.load(run / "config.yaml")
    config.override(["epochs=3"])
    return config


def test_only_our_own_weights_are_resumed_from(run, tmp_path):
    """Transformers' loader would open the pickle, replace the SAM, and build what the subfolder asks for."""
    plain = shutil.copytree(run, tmp_path / "plain")
    train(more_epochs(plain), plain, resume=True)
    checkpoint = last_checkpoint(run)
    (checkpoint / "pytorch_model.bin").write_bytes(pickle.dumps(Bomb(tmp_path / "exploded")))
    (checkpoint / "adapter_model.bin").write_bytes(pickle.dumps(Bomb(tmp_path / "exploded")))
    save_file({"base_model.model.no_such_weight": torch.ones(1)}, checkpoint / "model.safetensors")
    shutil.copytree(run / "adapter", checkpoint / "another")
    (checkpoint / "another" / "adapter_config.json").write_text('{"peft_type": "LORA", "r": 4096}')
    train(more_epochs(run), run, resume=True)
    assert not (tmp_path / "exploded").exists()
    one, other = (load_file(folder / "adapter" / "adapter_model.safetensors") for folder in (plain, run))
    assert [name for name in one if not torch.equal(one[name], other[name])] == []


def widened(tensors):
    name = next(name for name in tensors if name.endswith("lora_A.weight"))
    return {**tensors, name: torch.cat([tensors[name]] * 2)}


def one_less(tensors):
    return dict(list(tensors.items())[1:])


def one_unknown(tensors):
    return {**tensors, "x": torch.ones(1)}


@pytest.mark.parametrize("change", [widened, one_less, one_unknown])
def test_weights_of_another_shape_are_refused_before_they_are_read(run, change, monkeypatch):
    path = last_checkpoint(run) / "adapter_model.safetensors"
    save_file(change(load_file(path)), path)
    monkeypatch.setattr(adapters, "load_file", None)
    with pytest.raises(InputError, match=r"checkpoint-6 is damaged .*1 of"):
        train(more_epochs(run), run, resume=True)


def test_best_weights_of_another_shape_are_refused(run):
    """They are loaded at the end of a run, also of one that has no step to make."""
    path = run / "adapter" / "adapter_model.safetensors"
    save_file(widened(load_file(path)), path)
    with pytest.raises(InputError, match=r"adapter_model\.safetensors is damaged .* 1 of"):
        train(RunConfig.load(run / "config.yaml"), run, resume=True)


def enlarge(state):
    moments = state["optimizer"]["state"][0]
    moments["exp_avg"] = torch.cat([moments["exp_avg"]] * 2)


def one_more(state):
    state["optimizer"]["state"][10_000] = {"step": torch.ones(())}


def other_generator(state):
    state["torch"] = torch.zeros(10_000, dtype=torch.uint8)


@pytest.mark.parametrize(
    ("file", "change", "words"),
    [
        ("optimizer_state", enlarge, "the optimizer's exp_avg of 0 is"),
        ("optimizer_state", one_more, "the optimizer knows no parameter 10000"),
        ("random_state_0", other_generator, r"a tensor of \[10000\] instead of"),
    ],
)
def test_states_of_other_sizes_are_refused(run, file, change, words):
    path = last_checkpoint(run) / f"{file}.safetensors"
    state = load_state(path)
    change(state)
    save_state(path, state)
    with pytest.raises(InputError, match=f"checkpoint-6 is damaged .*{words}"):
        train(more_epochs(run), run, resume=True)


def test_an_average_of_other_sizes_is_refused(make_config, tmp_path):
    run = tmp_path / "run"
    train(make_config(epochs=1, ema=0.9), run)
    path = last_checkpoint(run) / "averaged_weights.safetensors"
    state = load_state(path)
    name = next(iter(state["weights"]))
    state["weights"][name] = state["weights"][name].flatten()[:1]  # which would be spread over the whole weight
    save_state(path, state)
    with pytest.raises(InputError, match=r"checkpoint-3 is damaged .*1 of"):
        train(more_epochs(run), run, resume=True)


def test_frozen_weights_in_a_checkpoint_of_several_processes_stay_out():
    model = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.BatchNorm1d(2), torch.nn.BatchNorm1d(2))
    model[0].requires_grad_(False)
    model[1].requires_grad_(False)
    kept = {name: value.clone() for name, value in model.state_dict().items()}
    load_trained_weights(model, {name: value + 1 for name, value in kept.items()})
    changed = {name for name, value in model.state_dict().items() if not torch.equal(value, kept[name])}
    assert changed == {name for name in kept if name.startswith("2.")}
