"""Published experiments as settings of a run, `recipe:NAME` in place of a file."""

from __future__ import annotations

from importlib import resources
from typing import Any, NamedTuple

import yaml

from convlora.errors import InputError

PREFIX = "recipe:"


class Recipe(NamedTuple):
    """A published experiment.

    Attributes:
        name: What users type.
        title: What is segmented.
        source: Where the settings are from.
        metrics: The scores that were published for it, by our names.
        note: What else to know, if anything.
        published: Published scores, see [`convlora.recipes.published`].
        settings: Settings of a run, by section.
        text: The file.
    """

    name: str
    title: str
    source: str
    metrics: tuple[str, ...]
    note: str | None
    published: tuple[dict[str, Any], ...]
    settings: dict[str, dict[str, Any]]
    text: str


def recipe_names() -> list[str]:
    """Names of all recipes, sorted."""
    files = resources.files(__name__).iterdir()
    return sorted(file.name.removesuffix(".yaml") for file in files if file.name.endswith(".yaml"))


def read_recipe(name: str) -> Recipe:
    """Reads a recipe.

    Raises:
        InputError: If there is none of that name.
    """
    names = recipe_names()
    if name not in names:
        raise InputError(f"There is no recipe '{name}'. Choose one of: {', '.join(names)}.")
    text = (resources.files(__name__) / f"{name}.yaml").read_text(encoding="utf-8")
    settings = yaml.safe_load(text)
    about = settings.pop("recipe")
    return Recipe(
        name,
        about["title"],
        about["source"],
        tuple(about["metrics"]),
        about.get("note"),
        tuple(about["published"]),
        settings,
        text,
    )
