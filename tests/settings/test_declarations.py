"""What is declared of settings agrees with what acts on them."""

import inspect

import pytest

from convlora.data.augmentation import AUGMENTATIONS
from convlora.losses import LOSSES
from convlora.methods.registry import METHODS
from convlora.metrics import HIGHER_IS_BETTER
from convlora.settings import SECTIONS, SETTINGS
from convlora.settings.history import CHOSEN_BY, FILLED_IN, IN_OLDER_VERSIONS
from convlora.settings.method import METHOD_OPTIONS
from convlora.settings.names import find_section
from convlora.training import defaults
from convlora.training.config import RunConfig


def test_choices_are_those_that_there_are():
    assert SETTINGS["data.augmentation"].choices == AUGMENTATIONS
    assert set(SETTINGS["training.loss"].choices) == set(LOSSES)
    assert set(SETTINGS["training.select_by"].choices) == set(HIGHER_IS_BETTER)


def test_every_option_of_a_method_is_explained():
    assert set(METHOD_OPTIONS) == {option for method in METHODS.values() for option in method.defaults}


def test_the_help_names_every_method():
    told = SETTINGS["method.name"].about.option.help.replace(",", " ").replace(".", " ").split()
    assert set(METHODS) <= set(told)


def test_defaults_in_words_are_the_defaults():
    assert SETTINGS["data.augmentation"].about.default == f"`{defaults.AUGMENTATION}`"
    assert SETTINGS["training.loss"].about.default == f"`{defaults.LOSS}`"
    assert str(defaults.FEWEST_EPOCHS) in SETTINGS["training.epochs"].about.default
    assert str(defaults.MOST_EPOCHS) in SETTINGS["training.epochs"].about.default
    assert str(defaults.WARM_UP_STEPS) in SETTINGS["training.warmup_steps"].about.default
    for key, setting in SETTINGS.items():
        assert setting.default is not None or setting.about.default, f"{key}: what null means must be said"


def test_every_setting_is_declared_and_explained_in_a_sentence():
    declared = [f"{section}.{name}" for section, entries in RunConfig().to_dict().items() for name in entries]
    assert list(SETTINGS) == declared
    for key, setting in SETTINGS.items():
        option = setting.about.option
        for text in (setting.about.help, option.help if option else ""):
            assert not text or text.endswith("."), key


def test_options_are_named_after_their_settings():
    others = {"model.source": "--model", "model.from_run": "--from", "method.name": "--method", "data.path": "DATA"}
    for key, setting in SETTINGS.items():
        if setting.about.option is not None:
            assert setting.label == others.get(key, f"--{setting.name.replace('_', '-')}")


def test_last_names_are_enough():
    for setting in SETTINGS.values():
        of_both = setting.name == "bands"  # data.bands picks them, and model.bands says how many the model takes
        section = "training" if setting.name == "cache" else setting.section  # data.cache has no option
        assert find_section(setting.name) == (None if of_both else section)
    for option in METHOD_OPTIONS:
        assert find_section(option) == "method"
    assert find_section("nothing") is None


@pytest.mark.parametrize("table", [FILLED_IN, CHOSEN_BY])
def test_tables_of_the_past_name_settings(table):
    assert set(table) <= set(SETTINGS)
    assert {key for keys in CHOSEN_BY.values() for key in keys} <= set(FILLED_IN)


def test_values_of_the_past_can_still_be_read():
    config = RunConfig()
    config.update(IN_OLDER_VERSIONS, origin="older versions")
    for key, values in FILLED_IN.items():
        section, name = key.split(".")
        for value in values if isinstance(values, tuple) else ():  # others hold whatever the data gave
            config.update({section: {name: value}}, origin="older versions")
    config.check_ranges()


def test_sections_are_plain_data_classes():
    """Runs change them, copy them and compare them."""
    for section, kind in SECTIONS.items():
        assert kind() == getattr(RunConfig(), section)
        assert inspect.getdoc(kind)
