import re

import pytest
import yaml

from convlora.errors import InputError
from convlora.training.config import RunConfig
from convlora.training.memory import batches_of
from convlora.training.validation import check_settings
from tests.inference.test_saved_runs import SAVED


def test_nothing_is_chosen_before_the_run_begins():
    config = RunConfig()
    check_settings(config)
    training = config.training
    assert (training.lr, training.loss, training.epochs, training.weight_decay) == (None, None, None, 1e-4)
    assert batches_of(training) == (1, 4)


def test_file_round_trip(tmp_path):
    config = RunConfig()
    config.override(["lr=3e-4", "data.path=/d", "image_size=[320, 480]", "method.num_experts=4", "workers=2"])
    check_settings(config)
    config.save(tmp_path / "config.yaml")
    loaded = RunConfig.load(tmp_path / "config.yaml")
    check_settings(loaded)
    assert loaded == config
    assert loaded.method.options["num_experts"] == 4
    assert loaded.method.options["top_k"] == 1
    assert list(tmp_path.iterdir()) == [tmp_path / "config.yaml"]


@pytest.mark.parametrize(
    ("assignment", "section", "name", "value"),
    [
        ("training.lr=1e-3", "training", "lr", 1e-3),
        ("lr=1", "training", "lr", 1.0),
        ("epochs=3", "training", "epochs", 3),
        ("max_steps=null", "training", "max_steps", None),
        ("activation_checkpointing=true", "training", "activation_checkpointing", True),
        ("data.intensity=image", "data", "intensity", "image"),
        ("image_size=512", "model", "image_size", 512),
        ("method.name=lora", "method", "name", "lora"),
    ],
)
def test_overrides(assignment, section, name, value):
    config = RunConfig()
    config.override([assignment])
    found = getattr(getattr(config, section), name)
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("assignment", "words"),
    [
        ("training.lr", "has no '='"),
        ("training.learning=1", "Did you mean"),
        ("epoch=3", "Did you mean 'training.epochs'"),
        ("nonsense.key=1", "There is no setting 'nonsense.key'"),
        ("epochs=many", "training.epochs must be a whole number or null, but --set epochs=many gives 'many'"),
        ("epochs=1.5", "must be a whole number"),
        ("epochs=true", "must be a whole number"),
        ("intensity=bright", "must be one of 'type', 'image'"),
        ("precision=fp8", "one of 'auto', 'fp32', 'bf16', 'fp16'"),
        ("image_size=[a, b]", "model.image_size must be a number of pixels"),
        ("lr=[1", "cannot be read"),
    ],
)
def test_bad_overrides(assignment, words):
    with pytest.raises(InputError, match=re.escape(words)):
        RunConfig().override([assignment])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "empty or no table"),
        ("- 1\n- 2", "empty or no table"),
        ("training: [", "cannot be read as YAML"),
        ("trainin:\n  lr: 1", "Did you mean 'training'"),
        ("training: 3", "must hold settings"),
        ("training:\n  lr: fast", "must be a number"),
    ],
)
def test_bad_files(text, words, tmp_path):
    path = tmp_path / "settings.yaml"
    path.write_text(text)
    with pytest.raises(InputError, match=re.escape(words)) as caught:
        RunConfig.load(path)
    assert "settings.yaml" in str(caught.value)


def test_a_yaml_file_runs_no_code(tmp_path):
    path = tmp_path / "settings.yaml"
    path.write_text("data: !!python/object/apply:os.system ['touch hacked']")
    with pytest.raises(InputError, match="cannot be read as YAML"):
        RunConfig.load(path)


def test_method_by_name_alone(tmp_path):
    path = tmp_path / "settings.yaml"
    path.write_text("method: lora")
    assert RunConfig.load(path).method.name == "lora"


def test_all_problems_in_one_message():
    config = RunConfig()
    with pytest.raises(InputError) as caught:
        config.override(
            ["epochs=0", "lr=-1", "loss=hinge", "select_by=luck", "augmentation=wild", "val_fraction=1", "workers=999"]
        )
    for words in (
        "--epochs",
        "--lr",
        "training.loss",
        "training.select_by",
        "data.augmentation",
        "data.val_fraction",
        "data.workers",
    ):
        assert words in str(caught.value)


@pytest.mark.parametrize(("key", "words"), [("method.name=x", "no method 'x'"), ("method.rank=3", "no option 'rank'")])
def test_bad_methods(key, words):
    config = RunConfig()
    config.override([key])
    with pytest.raises(InputError, match=words):
        check_settings(config)


@pytest.mark.parametrize(
    ("assignment", "words"),
    [
        ("ema=1", "training.ema must be at least 0 and below 1, got 1.0"),
        ("ema=-0.1", "training.ema must be at least 0 and below 1, got -0.1"),
        ("ema=.nan", "training.ema must be"),
        ("patience=0", "training.patience must be at least 1, got 0"),
        ("warmup_steps=-1", "training.warmup_steps must be at least 0, got -1"),
        ("lr_decoder=0", "training.lr_decoder must be above 0, got 0.0"),
        ("lr_detail=.inf", "training.lr_detail must be a finite number above 0, got inf"),
    ],
)
def test_ranges_of_what_is_off(assignment, words):
    config = RunConfig()
    config.override([assignment])
    with pytest.raises(InputError, match=re.escape(words)):
        check_settings(config)


def test_a_run_of_before_there_were_averages_has_none():
    settings = RunConfig.load(SAVED / "0.1.0" / "conv-lora" / "config.yaml").training
    assert (settings.ema, settings.patience, settings.warmup_steps, settings.rates()) == (0.0, None, 0, {})
    check_settings(RunConfig.load(SAVED / "0.1.0" / "conv-lora" / "config.yaml"))


def test_runs_of_before_the_detail_branch_are_repeated_without_it(tmp_path):
    path = tmp_path / "config.yaml"
    RunConfig().save(path)
    assert RunConfig.load(path).model.detail == "auto"
    values = yaml.safe_load(path.read_text())
    del values["model"]["detail"]
    path.write_text(yaml.safe_dump(values))
    assert RunConfig.load(path).model.detail == "none"
    path.write_text("training: {epochs: 3}")  # some settings, not those of a run
    assert RunConfig.load(path).model.detail == "auto"


def test_what_a_run_chose_is_chosen_anew_when_it_no_longer_fits(tmp_path):
    config = RunConfig()
    config.override(["lr=1e-3", "lr_detail=1e-3", "warmup_steps=20", "epochs=60", "detail=half", "source=tiny"])
    config.save(tmp_path / "config.yaml")

    def changed(*assignments):
        loaded = RunConfig.load(tmp_path / "config.yaml")
        loaded.override(list(assignments))
        return loaded.training.warmup_steps, loaded.training.lr, loaded.training.lr_detail

    assert changed() == changed("epochs=60", "source=tiny") == (20, 1e-3, 1e-3)
    assert changed("epochs=2") == changed("max_steps=3") == changed("budget_seconds=9") == (None, 1e-3, 1e-3)
    assert changed("source=other") == (20, None, None)
    assert changed("detail=none") == (20, 1e-3, None)
    assert changed("lr_detail=2e-3", "detail=none") == (20, 1e-3, 2e-3), "was asked for, and is refused later"
    assert changed("warmup_steps=7", "epochs=2") == (7, 1e-3, 1e-3)
    assert changed("lr=5e-4", "source=other") == (20, 5e-4, None)
