from pathlib import Path

import pytest

import convlora
from convlora.errors import InputError
from convlora.metrics import HIGHER_IS_BETTER
from convlora.recipes import read_recipe, recipe_names
from convlora.training.config import RunConfig
from convlora.training.validation import check_settings


def test_all_files_are_found():
    files = {path.stem for path in (Path(convlora.__file__).parent / "recipes").glob("*.yaml")}
    assert set(recipe_names()) == files
    assert {"polyp", "isic2017", "camo", "sbu-shadow", "leaf", "road", "trans10k-v1", "trans10k-v2"} <= files


@pytest.mark.parametrize("name", recipe_names())
def test_every_recipe_is_a_run_that_could_start(name):
    recipe = read_recipe(name)
    config = RunConfig.load(Path(f"recipe:{name}"))
    check_settings(config)
    assert recipe.title
    assert "ICLR 2024" in recipe.source
    assert set(recipe.metrics) <= set(HIGHER_IS_BETTER)
    assert config.training.select_by in HIGHER_IS_BETTER
    assert (config.training.batch_size * config.training.grad_accum, config.model.image_size) == (4, 1024)
    assert (config.method.name, config.method.options["r"]) == ("conv-lora", 3)
    assert config.model.detail == "none", "published without a detail branch"


def test_the_published_settings():
    settings = {name: RunConfig.load(Path(f"recipe:{name}")).training for name in recipe_names()}
    assert {name for name, one in settings.items() if one.lr == 3e-4} == {"leaf", "road"}
    assert {name for name, one in settings.items() if one.loss == "balanced-bce"} == {"sbu-shadow"}
    epochs = {name: settings[name].epochs for name in ("polyp", "isic2017", "camo", "sbu-shadow", "leaf", "road")}
    assert epochs == {"polyp": 30, "isic2017": 30, "camo": 20, "sbu-shadow": 10, "leaf": 30, "road": 20}


def test_unknown_recipes_are_named():
    with pytest.raises(InputError, match=r"no recipe 'poylp'. Choose one of: camo, "):
        RunConfig.load(Path("recipe:poylp"))
