"""The shapes of the answers in JSON, as `/openapi.json` tells them."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, Field


class ClassFacts(BaseModel):
    """A class of a run."""

    index: int = Field(description="Its value in masks.")
    name: str
    color: str = Field(description="#rrggbb, as in the palette of masks.")


class RunFacts(BaseModel):
    """A run that is served."""

    name: str = Field(description="What to give as `run`.")
    classes: list[ClassFacts]
    background: int | None = Field(description="The class that stands for nothing of interest; null: there is none.")
    no_data: int | None = Field(
        description="The value in masks of pixels that a TIFF file marks as without data; null: such pixels get a "
        "class, because every value is one."
    )
    has_probability: bool = Field(description="Whether `format=probability` can be asked for: the run is binary.")
    image_size: list[int] = Field(description="Height and width that the model works at, in pixels.")
    window: int | None = Field(
        description="Longer side of the windows in which the run sees images, in pixels; null: it sees them whole."
    )
    bands: list[int] | None = Field(
        description="Bands that an image must have, by their numbers from 1; null: red, green and blue, or grey."
    )
    base_model: str = Field(description="What the run was trained from.")
    method: str = Field(description="The way of fine-tuning.")
    scores: dict[str, float | None] | None = Field(description="Scores of the run; null: it has none.")
    scores_of: str | None = Field(description="Which images gave the scores: `test` or `val`.")
    best_threshold: float | None = Field(
        description="The threshold of the probability that gave the best IoU on the validation images. Masks are made "
        "with 0.5."
    )


class RunList(BaseModel):
    """The runs that are served."""

    runs: list[RunFacts]


class ClassShare(BaseModel):
    """How much of an image is of one class."""

    index: int
    name: str
    pixels: int
    share: float = Field(description="Of the pixels that have data, 0 to 1.")


class Polygon(BaseModel):
    """Pixels of one class that touch each other at their sides."""

    class_: int = Field(alias="class", description="Index of the class.")
    name: str
    pixels: int
    coordinates: list[list[list[int]]] = Field(
        description="As of a GeoJSON polygon, in pixels: closed rings of corners [x, y], first the outline, then the "
        "holes. [0, 0] is the upper left corner of the image. The rings follow the sides of pixels, so that they "
        "enclose exactly the pixels of the region."
    )


class Pictures(BaseModel):
    """Pictures that were asked for, as base64."""

    mask: str | None = Field(None, description="The PNG file of `format=png`.")
    layers: str | None = Field(
        None,
        description="An RGB PNG file to compute with. Red + 256 * green is the value of the mask; blue is the level of "
        "the probability as in `format=probability`, 0 if the run has none.",
    )
    preview: str | None = Field(
        None, description="A JPEG file of the image, upright, of at most 2048 pixels on the longer side."
    )


class Segmentation(BaseModel):
    """The classes of an image's pixels."""

    run: str
    width: int = Field(description="Of the upright image, in pixels.")
    height: int
    no_data_pixels: int = Field(description="Pixels that a TIFF file marks as without data.")
    classes: list[ClassShare]
    polygons: list[Polygon] | None = Field(
        description="Of all classes but the background; null if they were not wanted, or see `polygons_note`."
    )
    polygons_note: str | None = Field(description="Why there are no polygons although they were wanted.")
    pictures: Pictures | None = Field(None, description="Only if `picture` was given.")


class Health(BaseModel):
    """Whether the server works."""

    status: str
    waiting: int = Field(description="Requests that are being answered or wait for it.")


class ProblemDetails(BaseModel):
    """Why a request was not answered as it was asked (RFC 9457)."""

    title: str
    status: int
    detail: str = Field(description="One or two sentences that say what is wrong and what to do.")


_PROBLEMS = {
    400: "The request is malformed, or the connection ended early.",
    403: "The request comes from a page of another site, or asks for another host.",
    404: "There is no such run.",
    405: "Images are sent with POST.",
    406: "None of the accepted types can be given.",
    408: "The image did not arrive in time.",
    413: "Too many bytes or pixels.",
    415: "What was sent is no image of a format that is read.",
    422: "A parameter is wrong, or the image is damaged.",
    500: "The model failed.",
    502: "Label Studio does not give the image.",
    503: "Too much is waiting, or memory is short. Try again after the seconds that Retry-After names.",
    504: "The answer took too long.",
}


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """What a path says of its errors."""
    content = {"application/problem+json": {"schema": ProblemDetails.model_json_schema()}}
    return {status: {"description": _PROBLEMS[status], "content": content} for status in statuses}
