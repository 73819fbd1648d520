"""What a project of Label Studio calls its image, its brushes and its labels."""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple
from xml.etree import ElementTree

from convlora.errors import shown, shown_list
from convlora.inference.label_studio import IMAGE, LABELS
from convlora.serve.limits import Problem


class Brushes(NamedTuple):
    """The part of a labeling interface that predictions are for.

    Attributes:
        labels: Name of the `BrushLabels`.
        image: Name of the `Image` they belong to.
        key: Where a task's data have the address of that image.
        names: The labels there are; None: not known, so that any will do.
    """

    labels: str = LABELS
    image: str = IMAGE
    key: str = IMAGE
    names: frozenset[str] | None = None


def brushes_of(config: object, classes: Collection[str]) -> Brushes:
    """Reads a labeling interface.

    Args:
        config: XML, as Label Studio sends it; if it sends none, the interface that `convlora predict` writes.
        classes: Names of the classes that a run finds.

    Raises:
        Problem: If it cannot be read, or has no brush for any of the classes.
    """
    if not config:
        return Brushes()
    if not isinstance(config, str) or "<!DOCTYPE" in config or "<!ENTITY" in config:
        raise Problem(422, "The labeling interface is not the XML that Label Studio sends.")
    try:
        root = ElementTree.fromstring(config)  # noqa: S314 - it defines no entities, see above
    except (ElementTree.ParseError, ValueError) as error:
        raise Problem(422, f"The labeling interface is not XML ({shown(error)}).") from error
    images = {element.get("name"): element for element in root.iter("Image")}
    missing: list[str] = []
    for element in root.iter("BrushLabels"):
        image, name = images.get(element.get("toName")), element.get("name")
        if image is None or name is None:
            continue
        names = frozenset(label.get("value", "") for label in element.iter("Label"))
        if names & set(classes):
            key = image.get("value", "").removeprefix("$") or IMAGE
            return Brushes(name, str(image.get("name")), key, names)
        missing += sorted(names)
    there = f"its brushes are {shown_list(missing)}" if missing else "it has no BrushLabels for an Image"
    raise Problem(
        422,
        f"The labeling interface has no label for what this run finds ({shown_list(list(classes))}): {there}. Add "
        "BrushLabels with these names to it.",
    )
