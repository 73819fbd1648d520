"""The model of a run: loaded, adapted, and settled in precision and size of batch."""

from __future__ import annotations

import os
from typing import Any, cast

from peft import PeftModel

from convlora.data.checking.reach import CELL, SIZE_IS_TOLD, describe_size, describe_windows
from convlora.data.classes.class_table import ClassTable
from convlora.devices import resolve_precision
from convlora.errors import InputError
from convlora.known_models import terms_of
from convlora.losses import SetLossSettings
from convlora.methods.registry import find_method
from convlora.models import SegmentationModel
from convlora.models.build import adapt, load_model
from convlora.models.configuration import IMAGE_MULTIPLE, as_size, encoder_width
from convlora.models.detail_file import settled_detail
from convlora.models.fingerprint import sample_weights
from convlora.models.parameters import halve_frozen_weights
from convlora.models.room import check_room
from convlora.runs.reading import check_sam
from convlora.settings.training import Precision
from convlora.training.cache import start_cache
from convlora.training.carrying import Carried, begin_with, check_earlier
from convlora.training.config import RunConfig
from convlora.training.context import Context
from convlora.training.defaults import settle_rates
from convlora.training.earlier import Earlier
from convlora.training.images import Images
from convlora.training.memory import settle_batches
from convlora.training.task import class_weights


def make_model(
    run: Context, images: Images, earlier: Earlier | None = None
) -> tuple[PeftModel, dict[str, Any], Carried | None]:
    """The segmenter with fresh adapters, or those of an earlier run, ready to be trained.

    Precision, learning rates and size of batch are settled.

    Args:
        run: The run; its settings and its precision are completed.
        images: Its images.
        earlier: The run whose weights it begins with.

    Returns:
        The model, a fingerprint of the SAM as it was before, and what was carried over from the earlier run.

    Raises:
        InputError: If the model cannot be read, does not fit into memory, or is not the one the run began with.
    """
    config = run.config
    terms = terms_of(str(config.model.source))
    if terms is not None and run.checkpoint is None and run.is_main:
        run.reporter.message(terms)
    base = load_base(config, images.classes)
    check_room(base.config, run.device)
    if config.training.precision == "auto":
        run.precision = resolve_precision("auto", run.device, encoder_width(base.config))
    settle_rates(config, base, fresh_detail=earlier is None or earlier.config.model.detail == "none")
    sam = sample_weights(base.vision_encoder)
    if run.checkpoint is not None:
        check_sam(run.output, sam, str(config.model.source))
    checked = None if earlier is None else check_earlier(base, sam, str(config.model.source), earlier)
    model = adapt_base(base, config)
    carried = None if earlier is None or checked is None else begin_with(model, earlier, images.classes, checked)
    segmenter = model.base_model.model
    if config.training.class_weights:
        weights = class_weights(images.train, images.classes, images.data.values)
        segmenter.class_weights = weights.to(run.device)
    segmenter.logits_in_training = False  # they are as large as all masks, and nobody reads them
    segmenter.set_loss_settings = SetLossSettings.weighted(*config.training.set_loss_weights)
    height, width = as_size(segmenter.config.image_size)
    config.model.image_size = height if height == width else [height, width]
    config.training.precision = cast("Precision", run.precision)
    _tell_reach(run, images, segmenter.config)
    halve_frozen_weights(segmenter.vision_encoder, run.precision)
    settle_batches(config.training, model, (height, width), run.device, run.precision, run.reporter.message)
    if config.training.cache:
        start_cache(
            segmenter,
            run.output,
            augmentation=str(config.data.augmentation),
            train_images=len(images.train),
            val_images=len(images.val),
            tell=run.reporter.message,
            clear=run.is_main,
        )
    return model, sam, carried


def build_model(config: RunConfig, classes: ClassTable) -> PeftModel:
    """The segmenter with fresh adapters, in float32 on the CPU."""
    return adapt_base(load_base(config, classes), config)


def load_base(config: RunConfig, classes: ClassTable) -> SegmentationModel:
    """The segmenter as it is before anything is trained, in float32 on the CPU.

    Raises:
        InputError: If it cannot be read, or cannot be what the settings say.
    """
    try:
        return load_model(
            config.method.name,
            config.method.options,
            config.model.source,
            num_classes=classes.num_classes,
            id2label=dict(enumerate(classes.names)),
            image_size=config.model.image_size,
            **({} if config.training.loss is None else {"loss": config.training.loss}),  # None: that of the head
            ignore_index=classes.ignore_index,
            attention=config.model.attention,
            head=config.model.head,
            num_mask_tokens=config.model.num_mask_tokens,
            decoder=config.model.decoder,
            detail=settled_detail(config.model.detail, config.model.source),
            bands=config.model.bands,
        )
    except ValueError as error:
        if isinstance(error, InputError):
            raise
        is_windows = config.data.window is not None and config.model.image_size == config.data.window
        advice = " (It is that of --window; give another --window, or an --image-size beside it.)" if is_windows else ""
        raise InputError(f"The model '{config.model.source}' cannot be used as asked: {error}{advice}") from error


def adapt_base(base: SegmentationModel, config: RunConfig) -> PeftModel:
    """Puts fresh adapters into a segmenter, as the settings say."""
    return adapt(base, config.method.name, config.method.options, config.training.adapt_last)


def _tell_reach(run: Context, images: Images, model: Any) -> None:
    """Says what an image size can reach at best, once for each run and once for all runs of a comparison.

    Args:
        run: The run.
        images: Its images.
        model: The configuration of its model.
    """
    if run.checkpoint is not None or not run.is_main or SIZE_IS_TOLD in os.environ:
        return
    size = as_size(model.image_size)
    detail = run.config.model.detail
    if find_method(run.config.method.name).network is not None:
        cell = 1
    elif detail == "none":  # four by four to a cell of the image embedding
        cell = max(1, round(size[0] / model.grid_size[0] / 4))
    else:
        cell = CELL[detail]
    multiple = getattr(model, "patch_size", IMAGE_MULTIPLE)
    if images.windows is not None:
        sentence = describe_windows(images.train, images.classes, images.windows.size, size, cell)
    else:
        sentence, _ = describe_size(images.train, images.classes, size, cell, multiple)
    if sentence is not None:
        run.reporter.message(sentence)
