"""The models that are known by name: what they are, under which terms, and what they take."""

from __future__ import annotations

from typing import NamedTuple

FREE = ("Apache-2.0", "MIT")


class KnownModel(NamedTuple):
    """A published model.

    Attributes:
        source: What `--model` takes.
        kind: What it is.
        licence: Licence of its weights, as the card on the Hub names it.
        gated: Whether the Hub gives them only to people who have accepted the terms there.
        image_size: Side of the images it was made for, in pixels.
        million: Weights of its vision encoder, in millions.
        step_gb: Memory of a fine-tuning step with one image of about 1024 pixels, in GB; None: not measured.
    """

    source: str
    kind: str
    licence: str
    gated: bool
    image_size: int
    million: float
    step_gb: float | None


CATALOGUE = (
    KnownModel("tiny", "SAM", "Apache-2.0", False, 256, 3.1, None),
    KnownModel("facebook/sam-vit-base", "SAM", "Apache-2.0", False, 1024, 89.7, 3.7),
    KnownModel("facebook/sam-vit-large", "SAM", "Apache-2.0", False, 1024, 308.3, 8.1),
    KnownModel("facebook/sam-vit-huge", "SAM", "Apache-2.0", False, 1024, 637.0, 12.5),
    KnownModel("wanglab/medsam-vit-base", "SAM", "Apache-2.0", False, 1024, 89.7, 3.7),
    KnownModel("syscv-community/sam-hq-vit-base", "SAM-HQ", "Apache-2.0", False, 1024, 89.7, 3.8),
    KnownModel("syscv-community/sam-hq-vit-large", "SAM-HQ", "Apache-2.0", False, 1024, 308.3, 8.5),
    KnownModel("syscv-community/sam-hq-vit-huge", "SAM-HQ", "Apache-2.0", False, 1024, 637.0, 12.6),
    KnownModel("facebook/sam2.1-hiera-tiny", "SAM 2", "Apache-2.0", False, 1024, 27.2, 3.1),
    KnownModel("facebook/sam2.1-hiera-small", "SAM 2", "Apache-2.0", False, 1024, 34.3, 3.5),
    KnownModel("facebook/sam2.1-hiera-base-plus", "SAM 2", "Apache-2.0", False, 1024, 69.1, 5.1),
    KnownModel("facebook/sam2.1-hiera-large", "SAM 2", "Apache-2.0", False, 1024, 212.7, 10.3),
    KnownModel("facebook/sam3", "SAM 3", "SAM License", True, 1008, 453.2, 14.8),
    KnownModel("facebook/dinov2-small", "DINOv2", "Apache-2.0", False, 518, 22.1, 2.8),
    KnownModel("facebook/dinov2-base", "DINOv2", "Apache-2.0", False, 518, 86.6, 4.4),
    KnownModel("facebook/dinov2-large", "DINOv2", "Apache-2.0", False, 518, 304.4, 10.0),
    KnownModel("facebook/dinov2-with-registers-base", "DINOv2 with registers", "Apache-2.0", False, 518, 86.6, 4.3),
    KnownModel("facebook/dinov3-vits16-pretrain-lvd1689m", "DINOv3", "DINOv3 License", True, 224, 21.6, 2.6),
    KnownModel("facebook/dinov3-vitb16-pretrain-lvd1689m", "DINOv3", "DINOv3 License", True, 224, 85.7, 3.9),
    KnownModel("facebook/dinov3-vitl16-pretrain-lvd1689m", "DINOv3", "DINOv3 License", True, 224, 303.1, 8.6),
    KnownModel("google/vit-base-patch16-224-in21k", "ViT", "Apache-2.0", False, 224, 85.8, 3.5),
    KnownModel("facebook/vit-mae-base", "ViT", "Apache-2.0", False, 224, 85.8, 3.6),
    KnownModel("openai/clip-vit-base-patch16", "CLIP", "MIT", False, 224, 85.8, 4.2),
    KnownModel("google/siglip-base-patch16-224", "SigLIP", "Apache-2.0", False, 224, 85.8, 3.8),
)


_SERIES = {"DINOv3": "facebook/dinov3-", "SAM 3": "facebook/sam3"}  # beginnings of names of models under the same terms


def find_known(source: str) -> KnownModel | None:
    """The entry of a model; None if it is not known by name."""
    return next((entry for entry in CATALOGUE if entry.source == source), None)


def terms_of(source: str) -> str | None:
    """A sentence on the terms of a model whose licence is not a free one, or whose weights are gated; else None."""
    relatives = (entry for entry in CATALOGUE if entry.kind in _SERIES and source.startswith(_SERIES[entry.kind]))
    entry = find_known(source) or next(relatives, None)
    if entry is None or (entry.licence in FREE and not entry.gated):
        return None
    gate = " Accept its terms on its page on the Hub before you download it." if entry.gated else ""
    return f"The weights of {source} are under the {entry.licence}, which is not Apache's: read it first.{gate}"
