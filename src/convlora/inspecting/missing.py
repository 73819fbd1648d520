"""Why the page about a run leaves something out, and what is special about a method."""

from __future__ import annotations

from convlora.methods.registry import find_method


def why_missing(method: str, encoder: str) -> dict[str, str]:
    """A sentence for each section that may be left out, by its name.

    Args:
        method: Method of the run.
        encoder: Kind of the encoder, such as "SAM 2".
    """
    no_gradient = "no gradient reaches the pixels"
    if not has_gradient(method):
        no_gradient = f"it is computed from gradients, and {method} lets none through its side network"
    return {
        "distances": f"Left out: the attention of {encoder} is not measured. That of SAM, SAM-HQ and plain ViTs "
        "such as DINOv2 is.",
        "gates": f"Left out: the method {method} has no gate that chooses between experts.",
        "training": "Left out: the log.jsonl of this run says nothing about the experts. Runs of older versions have "
        "no such record. A new training writes it.",
        "updates": f"Left out: the method {method} adds nothing to the encoder.",
        "field": f"Left out: {no_gradient}.",
        "detail": "Left out: this run has no detail branch.",
    }


def has_gradient(method: str) -> bool:
    """Whether the gradient of the embedding shows all that it depends on."""
    return find_method(method).fixed.get("kind") != "ladder"


def notes_on(method: str) -> list[str]:
    """What has to be known about a method to read the page."""
    found = find_method(method)
    if found.from_scratch:
        return [
            f"The method {method} began with random weights. What is called the base encoder is the pretrained one, "
            "which it did not use."
        ]
    if found.layers is None and not found.trains_encoder:
        return [
            f"The method {method} trains the mask decoder alone, so the base encoder and the adapted encoder are the "
            "same."
        ]
    return []
