"""Published scores of the recipes, beside which ours are put."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from convlora.recipes import Recipe, read_recipe, recipe_names
from convlora.untrusted import UnreadableError, read_json

RECORD = "source.json"  # which `convlora data prepare` writes into a data folder
CAVEAT = (
    "Published: SAM ViT-H at 1024 pixels, as quoted by others, not checked against the paper. ± is the standard error "
    "of three runs."
)


class Score(NamedTuple):
    """A score and its standard error, as shares of 1.

    Attributes:
        mean: The score.
        error: Its standard error over three runs; None if it is not known.
    """

    mean: float
    error: float | None

    def __str__(self) -> str:
        return f"{self.mean:.4g}" + ("" if self.error is None else f" ± {self.error:.2g}")


class Published(NamedTuple):
    """One line of the paper's tables.

    Attributes:
        test: The images, by the paper's name.
        part: Table of the data folder that holds them; None: they are the whole test split.
        score: Our name of the score.
        methods: What was published for each method, by our name; None if it is not known.
    """

    test: str
    part: str | None
    score: str
    methods: dict[str, Score | None]


def published_scores(recipe: Recipe) -> list[Published]:
    """The published scores of a recipe."""
    return [
        Published(
            entry["test"],
            entry.get("part"),
            entry["score"],
            {name: None if entry[name] is None else Score(*entry[name]) for name in ("lora", "conv-lora")},
        )
        for entry in recipe.published
    ]


def recipe_of_data(path: str | Path | None) -> Recipe | None:
    """The recipe whose data a folder holds, by the record that `convlora data prepare` left there; else None."""
    try:
        name = read_json(Path(path) / RECORD)["name"] if path is not None else None
    except (OSError, UnreadableError, ValueError, KeyError, TypeError):
        return None
    return read_recipe(name) if name in recipe_names() else None


def beside(recipe: Recipe, ours: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Published scores and ours in rows, one for each test set and score, as JSON can hold them.

    Args:
        recipe: The recipe.
        ours: Scores on the whole test split, by what they are called.

    Returns:
        Dictionaries of `test`, `part`, `score`, `published` (a list of score and standard error by method) and `ours`.
        Ours are None for a part of the test split, and where the score is missing.
    """
    return [
        {
            "test": line.test,
            "part": line.part,
            "score": line.score,
            "published": {name: None if score is None else list(score) for name, score in line.methods.items()},
            "ours": {name: None if line.part else scores.get(line.score) for name, scores in ours.items()},
        }
        for line in published_scores(recipe)
    ]


def texts(row: Mapping[str, Any]) -> tuple[list[str], list[str]]:
    """A row of [`beside`] as text: what was published by method, and ours by name; empty where there is none."""
    theirs: Mapping[str, Sequence[Any] | None] = row["published"]
    ours: Mapping[str, float | None] = row["ours"]
    return (
        ["" if score is None else str(Score(*score)) for score in theirs.values()],
        ["" if score is None else f"{score:.4f}" for score in ours.values()],
    )
