import json
from pathlib import Path

import pytest

import convlora
from convlora.errors import InputError
from convlora.metrics import HIGHER_IS_BETTER
from convlora.recipes import read_recipe, recipe_names
from convlora.recipes.published import published_scores, recipe_of_data
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


def test_published_scores_stand_beside_those_of_a_run(convlora, trained_run):
    code, out, _ = convlora("recipes", "show", "leaf", "--run", trained_run, "--json")
    assert code == 0
    rows = json.loads(out)["rows"]
    measured = json.loads((trained_run / "metrics.json").read_text())["test"]
    assert [(row["score"], row["ours"][str(trained_run)]) for row in rows] == [
        ("iou", measured["iou"]),
        ("dice", measured["dice"]),
    ]
    assert rows[1]["published"] == {"lora": [0.836, 0.0013], "conv-lora": [0.843, 0.0034]}
    code, out, _ = convlora("recipes", "show", "polyp", "--run", trained_run)
    assert (code, "0.92 ± 0.0015" in out, "not checked" in out) == (0, True, True)
    assert f"{measured['s_measure']:.4f}" not in out, "the two parts are scored apart"


def test_a_run_without_test_scores_is_refused(convlora, tmp_path):
    code, _, err = convlora("recipes", "show", "leaf", "--run", tmp_path)
    assert (code, str(tmp_path) in err) == (2, True)


@pytest.mark.parametrize("name", recipe_names())
def test_every_recipe_has_published_scores(name):
    lines = published_scores(read_recipe(name))
    assert lines
    for line in lines:
        assert line.score in read_recipe(name).metrics
        known = [score for score in line.methods.values() if score is not None]
        assert known
        assert all(0 < score.mean < 1 and (score.error is None or score.error < 0.01) for score in known)
    page = (Path(__file__).parents[2] / "docs" / "reproduce.md").read_text(encoding="utf-8")
    assert f"`{name}`" in page
    for line in lines:
        for score in line.methods.values():
            assert score is None or f"{score.mean:.3f}" in page


def test_the_recipe_of_a_data_folder(tmp_path):
    assert recipe_of_data(None) is recipe_of_data(tmp_path) is None
    (tmp_path / "source.json").write_text('{"name": "road"}')
    assert recipe_of_data(tmp_path).name == "road"
    for other in ('{"name": "nix"}', '{"name": ["road"]}', "[", "[]"):
        (tmp_path / "source.json").write_text(other)
        assert recipe_of_data(tmp_path) is None


def test_unknown_recipes_are_named():
    with pytest.raises(InputError, match=r"no recipe 'poylp'. Choose one of: camo, "):
        RunConfig.load(Path("recipe:poylp"))
