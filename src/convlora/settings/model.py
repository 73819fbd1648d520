"""Settings of the model."""

from dataclasses import dataclass
from typing import Annotated, Literal

from annotated_types import Interval, Len

from convlora.settings.data import MOST_BANDS
from convlora.settings.declaration import ADVANCED, BASICS, About, Option
from convlora.settings.kinds import Reads, Whole, sides

Head = Literal["auto", "binary", "mask-classification", "per-pixel"]
SIDES = "a number of pixels such as 512, or height x width such as 320x480"


@dataclass
class ModelSettings:
    """Which model is fine-tuned, and what is added to it."""

    source: Annotated[
        str,
        About(
            "The SAM or other vision encoder to fine-tune: a Hugging Face id, a folder, or Meta's `.pth` file.",
            more="`tiny` comes with the package. With the method `unet` it is `unet`. `convlora models` lists others.",
            option=Option(
                "--model",
                BASICS,
                metavar="MODEL",
                help="The model to fine-tune: a Hugging Face id, a folder saved by transformers, Meta's .pth file of a "
                "SAM, or tiny, which comes with the package. 'convlora models' lists what is known.",
            ),
        ),
    ] = "facebook/sam-vit-base"
    image_size: Annotated[
        Annotated[Whole | Annotated[list[Whole], Len(2, 2)], Reads(sides)] | None,
        About(
            "Size to which images or windows are resized: one side of a square, or height and width.",
            more="Pixels, divisible by 16 (SAM 2: 32, SAM 3 and DINOv2: 14). In a file: `512` or `[320, 480]`.",
            default="that of `--window`, else that of the model; 256 for `unet`",
            must_be=SIDES,
            option=Option(
                "--image-size",
                BASICS,
                metavar="N",
                help="Resize images to N x N pixels, or to HxW. Must be divisible by 16 (SAM 2: 32, SAM 3 and "
                "DINOv2: 14).",
            ),
        ),
    ] = None
    head: Annotated[
        Head,
        About(
            "How the model tells several classes apart.",
            more="`mask-classification` is the paper's: mask tokens find masks, and a classifier names them. "
            "`per-pixel` has one token per class and a soft-max. `binary` is for two classes. `auto` is `binary` for "
            "two classes; for more it is `per-pixel` with the detail branch and `mask-classification` without it.",
        ),
    ] = "auto"
    num_mask_tokens: Annotated[
        Whole | Literal["auto"] | None,
        About(
            "Number of mask tokens of mask classification.",
            more="`auto` takes half as many again as the fullest training or validation image has classes. A number "
            "makes `head: auto` mask classification. A binary task has SAM's four tokens and reads the first; `1` "
            "leaves out the other three, as the published code does.",
            default="`auto`, from the data",
        ),
    ] = "auto"
    decoder: Annotated[
        Literal["sam", "eomt"],
        About(
            "What draws the masks on a vision encoder that is no SAM.",
            more="`sam` is a new mask decoder of SAM's shape. `eomt` has none: its queries go through the "
            "last blocks of the encoder. See [models.md](models.md#queries-instead-of-a-decoder). A SAM has its own "
            "decoder.",
        ),
    ] = "sam"
    bands: Annotated[
        Whole | None,
        Interval(ge=1, le=MOST_BANDS),
        About(
            "How many bands the model takes, where your images have more or others than red, green and blue.",
            more="The first three go into the inputs that were pretrained, and each other band gets an input of its "
            "own, which is trained. `data.bands` picks which. See [bands.md](bands.md).",
            default="none: red, green and blue",
        ),
    ] = None
    attention: Annotated[
        Literal["auto", "blocks", "vectors", "sdpa", "eager"],
        About(
            "How the attention of SAM is computed; the results are the same.",
            more="`blocks` and `vectors` never hold the whole attention matrix; `auto` takes `vectors` on a GPU "
            "and for few cells, and `blocks` otherwise. `sdpa` and `eager` are those of transformers.",
        ),
    ] = "auto"
    detail: Annotated[
        Literal["auto", "none", "half", "full"],
        About(
            "A small convolutional branch beside SAM for structures thinner than its patches of 16 pixels.",
            more="`half` draws masks at half of the image's size, `full` at all of it, `none` is SAM alone, as "
            "published; see [methods.md](methods.md#the-detail-branch). Recipes have none, nor have runs of versions "
            "before it.",
            default="`auto`: `full` for `tiny`, which has pretrained weights for it, and `half` for others",
            option=Option(
                "--detail",
                ADVANCED,
                help="A convolutional branch for structures thinner than SAM's patches: it draws at half or full image "
                "size. none is SAM alone, as published.",
            ),
        ),
    ] = "auto"
    from_run: Annotated[
        str | None,
        About(
            "A run whose weights training begins with.",
            more="A run folder, or `hf:USER/NAME@REVISION`. What the model is and how it sees images are those of that "
            "run unless you give them; the other settings are not. See [loop.md](loop.md#retrain).",
            default="none, training begins with the published weights and a fresh adapter",
            option=Option(
                "--from",
                BASICS,
                metavar="RUN",
                help="Begin with the weights of this run (a folder, or hf:USER/NAME) on other images, perhaps with "
                "other classes. Model, method and image size are those of that run unless given.",
            ),
        ),
    ] = None
