"""What is to be done, as it travels from the process that lists images to those that segment them."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # the process that lists images needs no PyTorch
    from convlora.inference.files.extras import Extras
    from convlora.inference.windows import Tiles

ACCOUNT = ".done-ray"
"""Folder among the results that keeps account of what is done."""


@dataclass(frozen=True)
class Task:
    """How all images are segmented.

    Attributes:
        run: The run, as it was given.
        output: Folder of the results, a path or a URI.
        made_by: Fingerprint of what makes the results.
        token: Stands for this prediction, and no other one.
        model: The SAM, if it has moved.
        device: `"cpu"` or `"cuda"`.
        precision: As of `convlora.inference.segmenter.Segmenter`.
        tta: Likewise.
        threshold: Likewise.
        tiles: How to cut images into windows; None: not at all.
        batch_size: Images or windows at a time.
        overlay: Whether pictures are wanted.
        plain: Whether results are grey.
        extras: What is wanted beside the semantic maps.
    """

    run: str
    output: str
    made_by: str
    token: str
    model: str | None
    device: str
    precision: str
    tta: bool
    threshold: float | None
    tiles: Tiles | None
    batch_size: int | None
    overlay: bool
    plain: bool
    extras: Extras


@dataclass(frozen=True)
class Chunk:
    """Some images that one process segments, one after the other.

    Attributes:
        number: Place in the order of all chunks.
        name: Under which account is kept of it; the same in the next prediction of the same images.
        images: Name and state of each image; without a state it is looked up where the image is segmented.
        refused: Name of each image that is left out, and why.
        notes: What is to be said of the folders.
        fatal: Why nothing can be listed any more.
    """

    number: int
    name: str
    images: list[list[str | None]] = field(default_factory=list)
    refused: list[list[str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    fatal: str | None = None

    def text(self) -> str:
        """As JSON."""
        return json.dumps(asdict(self))

    @classmethod
    def of(cls, text: str) -> Chunk:
        """What [`text`][convlora.inference.fleet.work.Chunk.text] made."""
        return cls(**json.loads(text))


@dataclass
class Done:
    """What became of a chunk.

    Attributes:
        number: Its place.
        results: As of `convlora.inference.files.jobs.run_jobs`, of images that were segmented now or could not be.
        kept: Likewise, of images that were done before.
        pieces: What is known of the objects of each image, by its name.
        notes: What is to be said: a kind, a sentence, and of how many images; of the kind `""` each one.
        fatal: Why nothing can go on, and whether the input is at fault.
    """

    number: int
    results: list[dict[str, Any]] = field(default_factory=list)
    kept: list[dict[str, Any]] = field(default_factory=list)
    pieces: dict[str, str] = field(default_factory=dict)
    notes: list[tuple[str, str, int]] = field(default_factory=list)
    fatal: tuple[str, bool] | None = None

    def text(self) -> str:
        """As JSON."""
        return json.dumps(asdict(self))

    @classmethod
    def of(cls, text: str) -> Done:
        """What [`text`][convlora.inference.fleet.work.Done.text] made."""
        return cls(**json.loads(text))
