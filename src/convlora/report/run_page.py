"""`report.html` of a run: what was trained on what, how it went, what came out, and where it is wrong."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from convlora.data.sample import Sample
from convlora.inference.segmenter import Segmenter
from convlora.metrics.labels import short_label
from convlora.pictures.palette import class_colours
from convlora.report import run_facts
from convlora.report.confusion import confusion_plot, read_confusion, write_confusion
from convlora.report.examples import PANELS, Example, choose, make_examples
from convlora.report.figures import Drawing
from convlora.report.outcomes import hex_colour, legend
from convlora.report.pages import write_page
from convlora.report.plots import Mark, line_plot, smoothed
from convlora.report.run_files import RunFiles, read_run
from convlora.runs.reading import first_line

NAME = "report.html"
_CURVES = ("iou", "dice", "miou", "mdice")


def report_after_training(
    output: Path,
    make_segmenter: Callable[[], Segmenter],
    samples: Mapping[str, Sample],
    confusion: np.ndarray | None,
    tell: Callable[[str], None],
) -> None:
    """Draws what is to be seen of a run that was just finished. If that fails, it is said, and nothing is lost.

    Args:
        output: The run folder, with its `metrics.json`.
        make_segmenter: Makes a segmenter of the best weights.
        samples: Those that were scored last, by name.
        confusion: Confusion matrix of several classes, `(K, K)`.
        tell: Receives sentences for the user.
    """
    try:
        segmenter = make_segmenter()
        if confusion is not None:
            write_confusion(output, segmenter.classes.names, confusion)
        write_report(read_run(output), segmenter, samples)
    except Exception as error:  # whatever the reason, the run itself is finished
        tell(f"Warning: {output / NAME} could not be drawn ({first_line(error)}). The run is complete without it.")


def write_report(
    run: RunFiles,
    segmenter: Segmenter | None = None,
    samples: Mapping[str, Sample] | None = None,
    notes: list[str] | None = None,
) -> Path:
    """Writes `report.html`.

    Args:
        run: The content of the run folder.
        segmenter: Makes the predictions that are shown; None: no pictures.
        samples: The samples of the split that was scored last, by name.
        notes: Sentences about what is missing on the page. More may be added.

    Returns:
        The file.
    """
    notes = [] if notes is None else notes
    worst: list[Example] = []
    typical: list[Example] = []
    if segmenter is not None and run.split and run.images:
        worst, typical = make_examples(choose(run.images), _chooser(run, segmenter), samples or {}, notes.append)
    scores = run_facts.score_table(run) if run.split else None
    content: dict[str, Any] = {
        "title": f"Report on {run_facts.name_of(run.folder)}",
        "headline": run_facts.headline(run),
        "notes": notes,
        "settings": run_facts.settings_rows(run),
        "repeat": run_facts.repeat_command(run),
        "resume": None if run.is_finished else run_facts.resume_command(run),
        "curves": [drawing.inline() for drawing in curves(run) if drawing is not None],
        "scores": scores,
        "folds": run_facts.fold_table(run),
        "threshold": run_facts.threshold_sentence(run),
        "volumes": run_facts.volume_table(run),
        "classes": run_facts.class_table(run),
        "confusion": _confusion(run),
        "split": run_facts.SPLIT_NAMES.get(run.split or ""),
        "panels": PANELS,
        "worst": worst,
        "typical": typical,
        "outcomes": _legend(run, [*worst, *typical]),
        "colours": _class_legend(run, [*worst, *typical]),
        "costs": run_facts.cost_rows(run),
    }
    return write_page(run.folder / NAME, "run.html", **content)


def _chooser(run: RunFiles, segmenter: Segmenter) -> Callable[[str], Segmenter]:
    """What segments an image on the page: of one that was held out the fold that did not see it."""
    folds = segmenter.folds if run.split == "val" else []
    own = {str(one["image"]): folds[int(one["fold"])] for one in run.images if folds and "fold" in one}
    return lambda name: own.get(name, segmenter)


def curves(run: RunFiles) -> list[Drawing | None]:
    """The loss, and the validation scores with the best epoch."""
    losses = [float(line["task_loss"]) for line in run.log]
    epochs = [float(line["epoch"]) for line in run.log]
    smooth = smoothed(losses, max(1, len(losses) // 20))
    best = run.metrics.get("best_epoch") if run.history and run.metrics.get("val") else None
    mark = None if best is None else Mark(float(best), f"best: epoch {best}")
    select_by = str(run.setting("training", "select_by"))
    names = dict.fromkeys([select_by, *_CURVES])
    scores = {
        short_label(name): [(float(one["epoch"]), float(one[name])) for one in run.history if _has(one, name)]
        for name in names
    }
    return [
        line_plot(
            {"loss": list(zip(epochs, smooth))},
            title="Training loss",
            x_label="epoch",
            faint=list(zip(epochs, losses)) if len(losses) > 20 else [],
        ),
        line_plot(
            {name: points for name, points in scores.items() if points},
            title="Validation scores",
            x_label="epoch",
            mark=mark,
        ),
    ]


def _has(entry: dict[str, Any], name: str) -> bool:
    return isinstance(entry.get(name), (int, float))


def _confusion(run: RunFiles) -> Any:
    if run.classes is None or run.classes.num_classes == 2:
        return None
    confusion = read_confusion(run.folder, run.classes.num_classes)
    drawing = None if confusion is None else confusion_plot(run.classes.names, confusion)
    return None if drawing is None else drawing.inline()


def _legend(run: RunFiles, examples: list[Example]) -> list[tuple[str, str]]:
    if run.classes is None:
        return []
    return legend(run.classes, any(example.ignored for example in examples))


def _class_legend(run: RunFiles, examples: list[Example]) -> list[tuple[str, str]]:
    """Colour and name of each class that is to be seen."""
    if run.classes is None:
        return []
    seen = frozenset[int]().union(*(example.seen for example in examples)) - {run.classes.background}
    colours = class_colours(run.classes)
    return [(hex_colour(colours[index]), run.classes.names[index]) for index in sorted(seen)]
