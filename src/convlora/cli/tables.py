"""Tables of results. What users have named may hold brackets, which are no markup."""

from __future__ import annotations

from typing import Any

from rich.markup import escape
from rich.table import Table

from convlora.metrics import HIGHER_IS_BETTER
from convlora.metrics.labels import SCORE_LABELS


def scores_table(columns: dict[str, dict[str, Any]], title: str | None = None) -> Table:
    """Scores in rows, one column per split, beside the two trivial answers.

    Args:
        columns: Scores by split, each with an entry "trivial" if it was computed.
        title: Above the table.
    """
    table = Table(title=_plain(title), title_justify="left")
    table.add_column("score")
    table.add_column("better", style="dim")
    for name in columns:
        table.add_column(escape(name), justify="right")
    trivial_split = next((name for name in reversed(columns) if columns[name].get("trivial")), None)
    trivial = columns[trivial_split]["trivial"] if trivial_split else {}
    for name in trivial:
        table.add_column(escape(name.replace("_", " ")), justify="right", style="dim")
    for name, higher in HIGHER_IS_BETTER.items():
        if not any(name in scores for scores in columns.values()):
            continue
        cells = [_number(scores.get(name)) for scores in columns.values()]
        cells += [_number(answer.get(name)) for answer in trivial.values()]
        table.add_row(SCORE_LABELS.get(name, name), "higher" if higher else "lower", *cells)
    table.add_section()
    table.add_row(
        "images", "", *[str(scores.get("num_images", "")) for scores in columns.values()], *[""] * len(trivial)
    )
    return table


def classes_table(per_class: dict[str, dict[str, float | None]]) -> Table:
    """Scores of each class; empty where a class occurs neither in the masks nor in the predictions."""
    table = Table(title="Each class", title_justify="left")
    table.add_column("class")
    for name in ("IoU", "Dice", "Accuracy", "Boundary F", "share of the pixels"):
        table.add_column(name, justify="right")
    for name, scores in per_class.items():
        numbers = [_number(scores.get(score)) for score in ("iou", "dice", "accuracy", "boundary_f")]
        table.add_row(escape(name), *numbers, f"{100 * (scores['pixels'] or 0):.2f}%")
    return table


def volumes_table(volumes: dict[str, Any]) -> Table:
    """Scores of each volume and class, and their means; empty where there is no score.

    Args:
        volumes: As `VolumeScores.compute` returns them.
    """
    table = Table(title=f"Volumes: {volumes['num_volumes']}", title_justify="left")
    for name in ("volume", "class"):
        table.add_column(name, overflow="fold")
    table.add_column("Dice", justify="right")
    table.add_column("95% Hausdorff distance", justify="right")
    for one in volumes["each"]:
        for name, scores in one["classes"].items():
            table.add_row(escape(one["volume"]), escape(name), _number(scores["dice"]), _distance(scores, one["unit"]))
    table.add_section()
    for name, scores in volumes["classes"].items():
        table.add_row("mean", escape(name), _number(scores["dice"]), _distance(scores, volumes["unit"]))
    return table


def _distance(scores: dict[str, float | None], unit: str) -> str:
    return "" if scores["hd95"] is None or unit == "mixed" else f"{scores['hd95']:.2f} {unit}"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"


def _plain(title: str | None) -> str | None:
    return None if title is None else escape(title)


def facts_table(facts: dict[str, Any], title: str | None = None) -> Table:
    """Two columns: what, and its value."""
    table = Table(title=_plain(title), title_justify="left", show_header=False)
    table.add_column()
    table.add_column(overflow="fold")
    for name, value in facts.items():
        table.add_row(escape(name), escape(str(value)))
    return table


def comparison_table(summary: dict[str, Any], fraction: float) -> Table:
    """The methods of a comparison, best first.

    Args:
        summary: The content of `compare.json`.
        fraction: Share of the training images.
    """
    from convlora.comparison.page import length_of_training, table_rows
    from convlora.comparison.verdict import drawn_units

    share = "" if fraction == 1 else f", {100 * fraction:g}% of the training images"
    seeds = len(summary["seeds"])
    table = Table(
        title=escape(
            f"{summary['score']} on {summary['images']} {summary['split']} images, "
            f"{seeds} seed{'s' if seeds > 1 else ''}{share}"
        ),
        title_justify="left",
        caption=escape(
            f"Differences to {summary['reference']} with a 95% interval over the {drawn_units(summary)[1]}s. For each "
            f"method {length_of_training(summary)}."
        ),
        caption_justify="left",
    )
    rows = table_rows(summary, fraction, digits=3)
    columns = ["method", summary["score"], "difference", "lr", "weights", "steps", "s/step", "MB"]
    for row in rows:
        row[4] = f"{int(row[4].replace(',', '')) / 1e6:.3g}M"
    if len({row[3] for row in rows if "lr=" not in row[0]}) <= 1:  # the table is wide enough without it
        columns.pop(3)
        rows = [[*row[:3], *row[4:]] for row in rows]
    table.add_column("method", overflow="fold", min_width=16)
    for name in columns[1:]:
        # Where the terminal is narrow, the difference takes two lines; all else is useless if it is cut.
        table.add_column(name, justify="right", no_wrap=name != "difference")
    for row in rows:
        table.add_row(*map(escape, row))
    return table


def published_table(rows: list[dict[str, Any]], title: str) -> Table:
    """Published scores beside ours.

    Args:
        rows: As [`convlora.recipes.published.beside`] makes them.
        title: Above the table.
    """
    from convlora.recipes.published import texts

    table = Table(title=escape(title), title_justify="left")
    table.add_column("test images")
    table.add_column("score")
    for name in rows[0]["published"]:
        table.add_column(f"{name}, published", justify="right")
    for name in rows[0]["ours"]:
        table.add_column(escape(name), justify="right", overflow="fold")
    for row in rows:
        theirs, ours = texts(row)
        table.add_row(escape(row["test"]), SCORE_LABELS[row["score"]], *theirs, *ours)
    return table
