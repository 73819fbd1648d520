"""`inspect.html`: what the adapters of a run do."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from convlora.data.classes.class_table import ClassTable
from convlora.inspecting.findings import Findings
from convlora.inspecting.gate_choices import LayerChoices
from convlora.inspecting.layers import short_names
from convlora.inspecting.pictures import SIDE, choice_picture, detail_pictures, scale_colours
from convlora.inspecting.plots import SHARES, bar_plot, distance_plot, field_plot, share_map
from convlora.report.figures import Drawing
from convlora.report.outcomes import hex_colour
from convlora.report.pages import embedded, write_page
from convlora.report.plots import line_plot, smoothed

NAME = "inspect.html"
_DETAIL_PANELS = ("image", "without the branch", "what it adds", "with the branch")


def write_inspection(
    output: Path,
    findings: Findings,
    *,
    title: str,
    headline: Sequence[str],
    notes: Sequence[str],
    missing: dict[str, str],
    classes: ClassTable,
    log: Sequence[dict[str, Any]],
    window: float | None,
    whole: Sequence[int] = (),
) -> Path:
    """Writes the page.

    Args:
        output: The folder.
        findings: What was measured.
        title: Title of the page.
        headline: Sentences below it.
        notes: Sentences about what is special.
        missing: Why a section is left out, by its name.
        classes: Classes of the run.
        log: Lines of `log.jsonl`.
        window: Side of a window of the encoder in pixels; None: there are none.
        whole: Blocks that attend to the whole image, from 0, if others attend within windows.

    Returns:
        The file.
    """
    content: dict[str, Any] = {
        "title": title,
        "headline": headline,
        "notes": notes,
        "missing": missing,
        "summary": summary(findings),
        "distances": _inline(distance_plot(findings.base_distances, findings.distances)),
        "window": window,
        "whole": listed([str(block + 1) for block in whole]),
        **_gates(findings, window),
        "training": [drawing.inline() for drawing in training_plots(log, findings.choices)],
        "updates": _inline(_updates(findings.updates)),
        "weights": _inline(_weights(findings.weights)),
        "field": None,
        "radii": [],
        "detail_panels": _DETAIL_PANELS,
        "details": [],
        "is_binary": classes.num_classes == 2,
    }
    if findings.base_field is not None and findings.adapted_field is not None:
        content["field"] = field_plot(findings.base_field, findings.adapted_field).inline()
        content["radii"] = radius_rows(findings)
    for name, image, share in zip(findings.names, findings.images, findings.details):
        pictures, most = detail_pictures(image, share, classes)
        numbers = f"share {100 * share.share:.1f}%, class changed in {100 * share.changed:.2f}% of the pixels"
        content["details"].append((name, [embedded(one) for one in pictures], numbers, f"{most:.1f}"))
    return write_page(output / NAME, "inspect.html", **content)


def summary(findings: Findings) -> list[str]:
    """What was found, in a few sentences."""
    said = []
    if findings.distances:
        before, after = (_mean(one.values()) for one in (findings.base_distances, findings.distances))
        said.append(
            f"The heads attend over {after:.1f} pixels on average; those of the base encoder over {before:.1f} pixels."
        )
    if findings.choices and len({layer.scales for layer in findings.choices}) == 1:
        shares, scales = np.mean([layer.shares for layer in findings.choices], axis=0), findings.choices[0].scales
        best, same = int(shares.argmax()), sum(max(layer.shares) == 1 for layer in findings.choices)
        said.append(
            f"The gates chose scale {scales[best]} most often, in {100 * shares[best]:.0f}% of the choices of a layer "
            f"on average. {same} of {len(findings.choices)} layers always took the same expert."
        )
    if findings.updates:
        largest = max(findings.updates, key=lambda name: findings.updates[name])
        name = dict(zip(findings.updates, short_names(list(findings.updates))))[largest]
        said.append(
            f"The update of a layer is {100 * np.median(list(findings.updates.values())):.0f}% as large as the output "
            f"of its base layer (median); the largest is {100 * findings.updates[largest]:.0f}%, in layer {name}."
        )
    if findings.base_field is not None and findings.adapted_field is not None:
        before, after = (one.radius(SHARES[1]) for one in (findings.base_field, findings.adapted_field))
        said.append(
            f"{100 * SHARES[1]:.0f}% of what the central cell depends on lies within {after:.0f} pixels; for the base "
            f"encoder within {before:.0f} pixels."
        )
    if findings.details:
        share, changed = (np.mean([getattr(one, key) for one in findings.details]) for key in ("share", "changed"))
        said.append(
            f"The detail branch makes up {100 * share:.0f}% of the logits and changes the class of "
            f"{100 * changed:.2f}% of the pixels."
        )
    return said


def radius_rows(findings: Findings) -> list[list[str]]:
    """Radii of the receptive fields in pixels, with a header."""
    rows = [["", *(f"{100 * share:.0f}% within" for share in SHARES)]]
    for name, one in (("base encoder", findings.base_field), ("adapted encoder", findings.adapted_field)):
        if one is not None:
            rows.append([name, *(f"{one.radius(share):.1f} px" for share in SHARES)])
    return rows


def training_plots(log: Sequence[dict[str, Any]], choices: Sequence[LayerChoices]) -> list[Drawing]:
    """Shares of the experts and their entropy through training; none if the log has no record of them."""
    lines = [line for line in log if _has_shares(line)]
    if not lines:
        return []
    epochs = [float(line["epoch"]) for line in lines]
    count = len(lines[-1]["expert_shares"])
    lines = [line for line in lines if len(line["expert_shares"]) == count]
    alike = {layer.scales for layer in choices}
    scales = next(iter(alike)) if len(alike) == 1 and len(next(iter(alike))) == count else range(1, count + 1)
    smooth = max(1, len(lines) // 20)
    shares = {
        f"scale {scale}": list(
            zip(epochs, smoothed([100 * float(line["expert_shares"][number]) for line in lines], smooth))
        )
        for number, scale in enumerate(scales)
    }
    entropy = smoothed([float(line["expert_entropy"]) for line in lines], smooth)
    drawings = [
        line_plot(shares, title="Share of each expert (%)", x_label="epoch", from_zero=True),
        line_plot(
            {"entropy": list(zip(epochs, entropy))},
            title="Entropy of the choices (0 to 1)",
            x_label="epoch",
            from_zero=True,
        ),
    ]
    return [drawing for drawing in drawings if drawing is not None]


def _has_shares(line: dict[str, Any]) -> bool:
    shares = line.get("expert_shares")
    numbers = (
        [*shares, line.get("expert_entropy"), line.get("epoch")] if isinstance(shares, list) and shares else [None]
    )
    return all(isinstance(one, (int, float)) for one in numbers)


def _gates(findings: Findings, window: float | None) -> dict[str, Any]:
    """The parts of the page about gates."""
    choices = findings.choices
    if not choices:
        return {"shares": [], "choices": [], "scales": [], "no_places": False}
    names = short_names([layer.name for layer in choices])
    maps = []
    for scales in dict.fromkeys(layer.scales for layer in choices):
        own = [(name, layer) for name, layer in zip(names, choices) if layer.scales == scales]
        maps.append(share_map([name for name, _ in own], scales, np.array([layer.shares for _, layer in own])).inline())
    colours = scale_colours([scale for layer in choices for scale in layer.scales])
    rows = []
    for number, (name, image) in enumerate(zip(findings.names, findings.images)):
        row = []
        for short, layer in zip(names, choices):
            chosen = layer.images[number]
            if chosen is not None:
                side = window if chosen.numel() > 1 else None
                drawn = choice_picture(image, chosen, layer.scales, colours, side)
                row.append((f"layer {short}", embedded(drawn, SIDE)))
        rows.append((name, row))
    return {
        "shares": maps,
        "choices": rows if any(row for _, row in rows) else [],
        "scales": [(hex_colour(colour), f"scale {scale}") for scale, colour in colours.items()],
        "no_places": any(one is None for layer in choices for one in layer.images),
    }


def _updates(ratios: dict[str, float]) -> Drawing | None:
    values = dict(zip(short_names(list(ratios)), ratios.values()))
    return bar_plot(
        values, title="Size of the updates on these images", x_label="layer", y_label="update / base output (%)"
    )


def _weights(ratios: dict[str, float]) -> Drawing | None:
    values = dict(zip(short_names(list(ratios)), ratios.values()))
    return bar_plot(values, title="Size of the updates of the weights", x_label="layer", y_label="‖ΔW‖ / ‖W‖ (%)")


def listed(words: Sequence[str]) -> str:
    """`1, 2 and 3`."""
    return " and ".join(part for part in (", ".join(words[:-1]), *words[-1:]) if part)


def _inline(drawing: Drawing | None) -> Any:
    return None if drawing is None else drawing.inline()


def _mean(blocks: Any) -> float:
    return float(np.mean([head for heads in blocks for head in heads]))
