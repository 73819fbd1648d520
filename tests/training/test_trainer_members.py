"""What of transformers' Trainer is relied on and not promised. If it were renamed, nothing would fail by itself: steps
that are not finite would be made, and checkpoints written and read as pickles.
"""

import inspect
import re
import tomllib
from importlib.metadata import version
from pathlib import Path

import pytest
import transformers
from packaging.requirements import Requirement
from transformers import Trainer, TrainerState, TrainingArguments

from convlora.training import arguments, resumable, trainer
from convlora.training.arguments import DeviceArguments
from convlora.training.config import RunConfig
from convlora.training.resumable import ResumableTrainer
from convlora.training.run import train
from convlora.training.trainer import SegmentationTrainer

METHODS = {
    "_determine_best_metric": ["metrics", "trial"],
    "_get_grad_norm": ["model", "grad_norm"],
    "_get_train_sampler": ["train_dataset"],
    "_load_from_checkpoint": ["resume_from_checkpoint", "model"],
    "_load_optimizer_and_scheduler": ["checkpoint"],
    "_load_rng_state": ["checkpoint"],
    "_load_scaler": ["checkpoint"],
    "_maybe_log_save_evaluate": [
        "tr_loss",
        "grad_norm",
        "model",
        "trial",
        "epoch",
        "ignore_keys_for_eval",
        "start_time",
        "learning_rate",
    ],
    "_save_checkpoint": ["model", "trial"],
}
ATTRIBUTES = {"_globalstep_last_logged", "_total_loss_scalar", "_tr_loss"}
SWITCHES = {"is_deepspeed_enabled", "loss_is_scaled_for_ga", "model_accepts_loss_kwargs"}  # public, not documented
OF_ARGUMENTS = {"_n_gpu", "_setup_devices"}
OURS = (ResumableTrainer, SegmentationTrainer)


def source_of_trainer():
    return inspect.getsource(Trainer)


@pytest.mark.parametrize("name", METHODS)
def test_each_method_is_there_takes_the_same_and_is_called(name):
    method = getattr(Trainer, name)
    assert list(inspect.signature(method).parameters)[1:] == METHODS[name]
    assert re.search(rf"\bself\.{name}\b", source_of_trainer())


@pytest.mark.parametrize("name", sorted(ATTRIBUTES | SWITCHES))
def test_each_attribute_is_there(name):
    assert re.search(rf"\bself\.{name}\b", source_of_trainer())


def test_those_of_the_arguments_are_there():
    source = inspect.getsource(TrainingArguments)
    assert all(f"def {name}(" in source or f"self.{name} = " in source for name in OF_ARGUMENTS)
    assert private_members([arguments], TrainingArguments, (DeviceArguments,)) == OF_ARGUMENTS
    assert TrainingArguments.restore_callback_states_from_checkpoint is False, "or it would restore ours in its way"
    assert "stateful_callbacks" in inspect.signature(TrainerState).parameters


def private_members(modules, theirs, ours):
    """Names with an underscore that both the modules and a class of transformers use of an object."""
    used = "".join(inspect.getsource(module) for module in modules)
    named = {*re.findall(r"(?:self|super\(\))\.(_\w+)", used), *(name for one in ours for name in vars(one))}
    named = {name for name in named if re.match(r"_(?!_)", name)}
    source = inspect.getsource(theirs)
    return {name for name in named if re.search(rf"(?:\bself\.|def ){name}\b", source)}


def test_no_other_private_member_is_relied_on():
    assert private_members([resumable, trainer], Trainer, OURS) == METHODS.keys() | ATTRIBUTES


def test_public_methods_take_what_the_trainer_gives():
    for name in ("train", "get_train_dataloader", "create_optimizer", "compute_loss", "evaluate"):
        own = inspect.signature(getattr(SegmentationTrainer, name)).parameters.values()
        takes_more = any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in own)
        theirs = inspect.signature(getattr(Trainer, name)).parameters
        assert takes_more or {parameter.name for parameter in own} >= theirs.keys(), name


def test_a_run_that_is_resumed_calls_each_of_them(make_config, tmp_path, monkeypatch):
    called = set()

    def recording(name, method):
        def record(self, *args, **kwargs):
            called.add(name)
            return method(self, *args, **kwargs)

        return record

    for one in OURS:
        for name in METHODS.keys() & vars(one).keys():
            monkeypatch.setattr(one, name, recording(name, vars(one)[name]))
    train(make_config(epochs=1), tmp_path / "run")
    config = RunConfig.load(tmp_path / "run" / "config.yaml")
    config.override(["epochs=2"])
    train(config, tmp_path / "run", resume=True)
    assert called == METHODS.keys()


def test_transformers_has_an_upper_bound():
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    (bound,) = [Requirement(one) for one in project["dependencies"] if Requirement(one).name == "transformers"]
    assert bound.specifier.contains(version("transformers"))
    major, minor = (int(part) for part in transformers.__version__.split(".")[:2])
    assert not bound.specifier.contains(f"{major}.{minor + 1}.0"), "a version that these tests have not seen"
