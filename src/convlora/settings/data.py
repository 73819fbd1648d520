"""Settings of the data."""

from dataclasses import dataclass
from typing import Annotated, Literal

from annotated_types import Interval, Len

from convlora.settings.declaration import ADVANCED, BASICS, About, Option
from convlora.settings.kinds import Number, Reads, Whole, wholes

SMALLEST_WINDOW, LARGEST_WINDOW = 16, 8192  # pixels; the first as of `predict --tile-size`
MOST_BANDS = 1024  # hyperspectral sensors have a few hundred
MOST_WORKERS = 256  # each is a process, and no machine has that many cores to spare

MOST_FOLDS = 100  # more folders of runs than anybody could wait for

Augmentation = Literal["none", "flip", "flips", "strong"]
"""The names in `convlora.data.augmentation`, which takes long to import."""


@dataclass
class DataSettings:
    """Where the images come from and how they are read."""

    path: Annotated[
        str | None,
        About(
            "Your data set: a folder, a CSV file or a Hugging Face data set.",
            more="See [data.md](data.md).",
            default="none",
            option=Option(
                "DATA",
                help="Your data set: a folder with {train,val,test}/{images,masks}/, a folder with train.csv, val.csv "
                "and test.csv (columns image,label), COCO annotations, or a Hugging Face data set.",
            ),
        ),
    ] = None
    window: Annotated[
        Whole | None,
        Interval(ge=SMALLEST_WINDOW, le=LARGEST_WINDOW),
        About(
            "Train on windows of so many pixels, at the images' own resolution, instead of on resized images.",
            more="Pixels of the longer side. Without `--image-size`, the model sees them as they are. The run is "
            "scored and predicts in such windows too. See [windows.md](windows.md).",
            default="none: whole images are resized",
            option=Option(
                "--window",
                BASICS,
                metavar="N",
                help="Train on random windows of N x N pixels at the images' own resolution, for things that would "
                "vanish if whole images were resized. The run is scored and predicts in such windows too.",
            ),
        ),
    ] = None
    augmentation: Annotated[
        Augmentation | None,
        About(
            "How training images are changed at random.",
            more="`none`: not at all. `flip`: left and right, as published. `flips`: also up and down. `strong`: also "
            "turns, crops, colours and blur.",
            default="`flips`",
            option=Option(
                "--augmentation",
                ADVANCED,
                metavar="NAME",
                help="How training images are changed at random: none, flip (left-right, as published), flips (also "
                "up-down) or strong (also turns, crops, colours, blur).",
            ),
        ),
    ] = None
    intensity: Annotated[
        Literal["type", "image"],
        About(
            "How 16-bit images become 8-bit: by the range of their type, or each image by its own range.",
        ),
    ] = "type"
    bands: Annotated[
        Annotated[list[Annotated[Whole, Interval(ge=1, le=MOST_BANDS)]], Len(1, MOST_BANDS), Reads(wholes)] | None,
        About(
            "Which bands of your images are read, in this order, counted from 1.",
            more="Three become the red, green and blue that the model was pretrained with, one becomes grey; for more "
            "add `model.bands`. See [bands.md](bands.md).",
            default="all that `model.bands` takes",
            must_be="numbers of bands counted from 1, such as [4,3,2]",
        ),
    ] = None
    band_range: Annotated[
        list[Annotated[list[Number], Len(2, 2)]] | None,
        About(
            "For each band that is read, the values that become black and white, as `[[low, high], ...]`.",
            more="In the units of your files. What lies outside is clipped.",
            default="0 and 255 for bytes, else the 0.1 and 99.9 percent of the training pixels below and above",
            must_be="a list of pairs of numbers, one pair for each band, such as [[0,3000],[0,5000]]",
        ),
    ] = None
    band_mean: Annotated[
        list[Number] | None,
        About(
            "For each band of `model.bands`, the mean that is taken out of its values.",
            more="In the units of your files.",
            default="that of the training pixels",
        ),
    ] = None
    band_std: Annotated[
        list[Number] | None,
        About(
            "For each band of `model.bands`, the standard deviation by which its values are divided.",
            more="In the units of your files.",
            default="that of the training pixels",
        ),
    ] = None
    axis: Annotated[
        Literal["axial", "coronal", "sagittal"],
        About("Which slices volumes are cut into.", more="See [volumes.md](volumes.md)."),
    ] = "axial"
    neighbours: Annotated[
        bool,
        About(
            "Whether the model also sees the slices of a volume before and after each slice.",
            more="They become red and blue, and the slice itself green. See [volumes.md](volumes.md).",
        ),
    ] = False
    value_range: Annotated[
        Annotated[list[Number], Len(2, 2)] | None,
        About(
            "The values of volumes that become black and white, as `[low, high]`.",
            more="What lies outside is clipped. A CT window of centre 40 and width 400 is `[-160, 240]`. See "
            "[volumes.md](volumes.md).",
            default="what `data.intensity` makes of each volume",
            must_be="two numbers, such as [-160, 240]",
        ),
    ] = None
    pages: Annotated[
        Literal["first", "slices"],
        About(
            "What the pages of a TIFF file are: only the first one is read, or each is a slice of a volume.",
            more="See [volumes.md](volumes.md).",
        ),
    ] = "first"
    val_fraction: Annotated[
        Number,
        Interval(ge=0, lt=1),
        About(
            "Share of the training images that is held out for validation if your data have no validation split.",
            more="0 trains on everything and keeps the weights of the last epoch.",
        ),
    ] = 0.1
    train_fraction: Annotated[
        Number,
        Interval(gt=0, le=1),
        About(
            "Share of the training images to train on.",
            more="With the same seed, a smaller share is part of a larger one.",
        ),
    ] = 1.0
    foreground_share: Annotated[
        Number | None,
        Interval(gt=0, le=1),
        About(
            "Share of the training slices of volumes that have foreground.",
            more="Slices without any are left out at random until it is reached; 1 leaves out all of them. See "
            "[volumes.md](volumes.md).",
            default="all slices are trained on",
        ),
    ] = None
    split_seed: Annotated[
        Whole | None,
        About(
            "The seed that decides which images are held out for validation.",
            more="`convlora compare` sets it to 0, so that all seeds are scored on the same images.",
            default="the run's seed",
        ),
    ] = None
    folds: Annotated[
        Whole | None,
        Interval(ge=2, le=MOST_FOLDS),
        About(
            "Cross-validation: train so many runs, each of which holds out another part of the images.",
            more="The training and validation images are divided anew. Together the runs segment as one. See "
            "[folds.md](folds.md).",
            default="none",
            option=Option(
                "--folds",
                ADVANCED,
                metavar="K",
                help="Cross-validation: train K runs, each of which holds out another part of the training and "
                "validation images. Together they segment as one.",
            ),
        ),
    ] = None
    fold: Annotated[
        Whole | None,
        Interval(ge=0, lt=MOST_FOLDS),
        About(
            "Train only this fold, from 0, of `data.folds`.",
            more="`convlora train --folds` sets it for each of its runs.",
            default="all of them",
        ),
    ] = None
    workers: Annotated[
        Whole | None,
        Interval(ge=0, le=MOST_WORKERS),
        About(
            "Number of processes that read images.",
            more="On a GPU: one for each core you may use, minus one, but at most 8. Processes of `torchrun` share the "
            "cores. On a CPU: none, because they would compete with training.",
            default="by cores on a GPU, 0 on a CPU",
        ),
    ] = None
    cache: Annotated[
        bool,
        About(
            "Whether training images are kept decoded and resized after the first epoch.",
            more="They lie in the run's folder and are deleted when training ends. Large photos are then decoded once "
            "instead of in every epoch. The results are the same. See [speed.md](speed.md#feeding).",
        ),
    ] = False
    on_bad_image: Annotated[
        Literal["stop", "skip"],
        About(
            "What happens if a file cannot be used: stop before training, or skip the file.",
            more="Skipped files are listed in `skipped.json`, see [data.md](data.md).",
            option=Option(
                "--on-bad-image",
                ADVANCED,
                help="If a file cannot be used: stop before training, or skip it and list it in skipped.json (all "
                "files are read first).",
            ),
        ),
    ] = "stop"
