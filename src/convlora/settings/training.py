"""Settings of the training."""

from dataclasses import dataclass, field
from typing import Annotated, Literal

from annotated_types import Interval, Len

from convlora.settings.declaration import ADVANCED, BASICS, MEMORY, About, Option
from convlora.settings.kinds import Names, Number, Whole

Precision = Literal["auto", "fp32", "bf16", "fp16"]

Loss = Literal["structure", "structure-mean-bce", "balanced-bce", "bce-dice"]
"""The names in `convlora.losses`, which takes long to import."""

Score = Literal[
    "iou",
    "dice",
    "iou_pooled",
    "dice_pooled",
    "precision",
    "recall",
    "miou",
    "mdice",
    "mean_accuracy",
    "boundary_f",
    "mae",
    "ber",
    "s_measure",
    "e_measure",
    "weighted_f",
    "weighted_f_beta1",
    "accuracy",
]
"""The names in `convlora.metrics`, which takes long to import."""


@dataclass
class TrainingSettings:
    """How the model is trained. What is null is chosen when the run begins, see `convlora.training.defaults`."""

    loss: Annotated[
        Loss | None,
        About(
            "The loss of binary tasks.",
            more="`structure` is the published one, `balanced-bce` is for shadows, and `structure-mean-bce` is what "
            "the published code computes. With several classes the head decides: the set loss of Mask2Former, or "
            "cross-entropy + Dice.",
            default="`bce-dice`",
            option=Option(
                "--loss",
                ADVANCED,
                metavar="NAME",
                help="The loss of binary tasks: bce-dice, structure (as published), structure-mean-bce (as in the "
                "published code) or balanced-bce (for shadows).",
            ),
        ),
    ] = None
    epochs: Annotated[
        Whole | None,
        Interval(ge=1),
        About(
            "Passes over the training images.",
            more="If neither epochs, steps nor seconds are given: as many epochs as show 4000 images, at least 10 and "
            "at most 200.",
            default="10 to 200, more for fewer images",
            option=Option("--epochs", BASICS, metavar="N"),
        ),
    ] = None
    max_steps: Annotated[
        Whole | None,
        Interval(ge=1),
        About(
            "Stop after this many optimizer steps.",
            more="If `epochs` is given too, whichever ends first counts.",
            default="none",
            option=Option("--max-steps", ADVANCED, metavar="N"),
        ),
    ] = None
    budget_seconds: Annotated[
        Number | None,
        Interval(gt=0),
        About(
            "Train for about this many seconds instead of a number of epochs.",
            more="Some steps are timed before training, and `max_steps` is set to as many as fit, see "
            "[methods.md](methods.md#comparing). If `max_steps` is there as well, as in the `config.yaml` of such a "
            "run, nothing is timed: the run is repeated.",
            default="none",
            option=Option(
                "--budget-seconds",
                ADVANCED,
                metavar="N",
                help="Train for about N seconds instead of a number of epochs. A few steps are timed first to find out "
                "how many fit. Validation does not count.",
            ),
        ),
    ] = None
    batch_size: Annotated[
        Whole | None,
        Interval(ge=1),
        About(
            "Images at a time, per device.",
            more="If neither `batch_size` nor `grad_accum` is given: 4 x 1 on a CUDA GPU if that fits into memory, "
            "else the fastest way that fits, with checkpointing if need be; 1 x 4 on other devices. If you give one, "
            "the other makes a step of 4 images, as far as it can. `config.yaml` holds what was chosen.",
            default="4 images per step: at once on a GPU if they fit, one by one on a CPU",
            option=Option("--batch-size", MEMORY, metavar="N"),
        ),
    ] = None
    grad_accum: Annotated[
        Whole | None,
        Interval(ge=1),
        About(
            "Batches per optimizer step.",
            more="See `batch_size`.",
            default="as many as make a step of 4 images",
            option=Option("--grad-accum", MEMORY, metavar="N"),
        ),
    ] = None
    lr: Annotated[
        Number | None,
        Interval(gt=0),
        About(
            "Learning rate at the start; it falls linearly to zero.",
            more="1e-4 and, for leaves and roads, 3e-4 were published. A SAM narrower than 384 channels, such as "
            "`tiny`, and `unet` take 1e-3. With `--from`, all rates are 0.3 times these.",
            default="1e-4; 1e-3 for `tiny`, `unet` and the detail branch; less with `--from`",
            option=Option("--lr", BASICS, metavar="X"),
        ),
    ] = None
    lr_decoder: Annotated[
        Number | None,
        Interval(gt=0),
        About(
            "Learning rate of the mask decoder without its detail branch.",
            more="The log shows `lr`.",
            default="as `lr`",
        ),
    ] = None
    lr_detail: Annotated[
        Number | None,
        Interval(gt=0),
        About(
            "Learning rate of the detail branch.",
            more="Except for `tiny`, the branch begins at random, so it needs a higher rate. The log shows `lr`.",
            default="1e-3, or `lr` if that is higher",
        ),
    ] = None
    warmup_steps: Annotated[
        Whole | None,
        Interval(ge=0),
        About(
            "Steps in which the learning rates rise linearly from zero before they fall.",
            default="20, at most a twentieth of the run, or a quarter of it with `--from`",
        ),
    ] = None
    ema: Annotated[
        Number | None,
        Interval(ge=0, lt=1),
        About(
            "Decay of an exponential moving average of the trained weights, such as 0.99; 0: none.",
            more="The average is what is validated and kept as the adapter; the steps are the same. In step n the "
            "decay is at most (1 + n) / (10 + n).",
            default="0, none",
        ),
    ] = None
    patience: Annotated[
        Whole | None,
        Interval(ge=1),
        About(
            "Stop after this many validations in a row without a better `select_by`.",
            more="`stopped_early` in `metrics.json` says why. The learning rate falls as if the run were not stopped. "
            "You may raise it with `--resume`.",
            default="none",
        ),
    ] = None
    class_weights: Annotated[
        bool,
        About(
            "Whether rare classes weigh more in the cross-entropy of the loss.",
            more="They weigh more by the square root of how much rarer than the mean they are, at most tenfold. This "
            "also works for two classes, but not with `balanced-bce`, in which both weigh the same already.",
        ),
    ] = False
    set_loss_weights: Annotated[
        Annotated[list[Annotated[Number, Interval(ge=0)]], Len(3, 3)],
        About(
            "Weights of the three parts of mask classification's loss: classes, cross-entropy of the masks, Dice loss "
            "of the masks.",
            must_be="three numbers of at least 0, such as [2, 5, 5]",
        ),
    ] = field(default_factory=lambda: [2.0, 5.0, 5.0])
    weight_decay: Annotated[Number, Interval(ge=0), About("Weight decay of AdamW; biases and norms are left out.")] = (
        1e-4
    )
    max_grad_norm: Annotated[
        Number,
        Interval(ge=0),
        About("Largest norm of the gradients; larger ones are clipped to it. 0 does not clip."),
    ] = 1.0
    adapt_last: Annotated[
        Whole | None,
        Interval(ge=1),
        About(
            "Adapt only this many of the last blocks of the vision encoder, which saves memory and time.",
            more="The blocks before them run without a graph.",
            default="all",
            option=Option(
                "--adapt-last", MEMORY, metavar="N", help="Adapt only the last N blocks. Saves memory and time."
            ),
        ),
    ] = None
    cache: Annotated[
        bool,
        About(
            "With `adapt_last`: keep what the frozen blocks compute for each image on disk, so that later epochs skip "
            "them.",
            more="It is kept in `RUN/cache` until the run is finished. Training images are kept only if the "
            "augmentation is not `strong`.",
            option=Option(
                "--cache/--no-cache",
                MEMORY,
                help="With --adapt-last: keep what the frozen blocks compute for each image on disk, so that later "
                "epochs skip them.",
            ),
        ),
    ] = False
    memory: Annotated[
        Literal["given", "auto"],
        About(
            "How batch size and checkpointing are chosen.",
            more="`given`: they stay as they are. `auto`: some steps are tried out, and the fastest way to the same "
            "number of images per step that fits is taken.",
            option=Option(
                "--memory",
                MEMORY,
                help="auto measures what a step needs, and picks batch size and checkpointing to fit.",
            ),
        ),
    ] = "given"
    activation_checkpointing: Annotated[
        bool,
        About("Recompute activations in the backward pass: far less memory, and a quarter to two fifths slower."),
    ] = False
    precision: Annotated[
        Precision,
        About(
            "Precision of the frozen part of the model; what is trained stays in fp32.",
            more="`auto` is `bf16` on a CUDA GPU that has it (not where it is emulated: T4 and V100 take `fp16`), "
            "and on a CPU that has it (AMX, AVX-512 BF16) with a SAM of the published sizes. It is `fp32` elsewhere.",
            option=Option(
                "--precision",
                MEMORY,
                help="Precision of the frozen part of the model. auto is bf16 or fp16 on a GPU; on a CPU it is bf16 "
                "if the CPU has it and the SAM is large, else fp32.",
            ),
        ),
    ] = "auto"
    device: Annotated[
        str,
        About(
            "Where to compute: `cpu`, `cuda`, `cuda:1`, `mps`; `auto` takes a CUDA GPU if there is one.",
            option=Option(
                "--device",
                MEMORY,
                metavar="NAME",
                help="Where to compute: cpu, cuda, cuda:1 or mps. auto takes a GPU if there is one.",
            ),
        ),
    ] = "auto"
    compile: Annotated[
        Literal["auto", "none"],
        About(
            "Whether the steps are recorded once and replayed on a CUDA GPU.",
            more="`auto` does, see [speed.md](speed.md); `none` does not.",
        ),
    ] = "auto"
    seed: Annotated[
        Whole,
        Interval(ge=0, lt=2**32),
        About(
            "Seed of everything that is random.",
            more="Two runs of the same seed on the same CPU are equal bit for bit.",
            option=Option("--seed", ADVANCED, metavar="N"),
        ),
    ] = 0
    select_by: Annotated[
        Score | None,
        About(
            "The validation score that picks the best epoch.",
            more="It must be a score of your task, see [metrics.md](metrics.md).",
            default="`iou`, or `miou` with several classes",
        ),
    ] = None
    logging_steps: Annotated[Whole, Interval(ge=1), About("Optimizer steps between two lines of `log.jsonl`.")] = 1
    report_to: Annotated[
        Names,
        About("Loggers of transformers to report to, such as `[tensorboard]` or `[wandb]`."),
    ] = field(default_factory=list)

    def rates(self) -> dict[str, float]:
        """Learning rates that differ from `lr`, by the name of their setting."""
        rates = {"lr_decoder": self.lr_decoder, "lr_detail": self.lr_detail}
        return {setting: rate for setting, rate in rates.items() if rate is not None}
