"""Whether the methods of a comparison fit its model, before the first of them is trained."""

from __future__ import annotations

import copy
from pathlib import Path

from convlora.comparison.plan import Plan, PlannedRun
from convlora.data.classes.class_table import ClassTable
from convlora.errors import InputError
from convlora.methods.registry import find_method
from convlora.models import SegmentationModel
from convlora.models.build import adapter_config
from convlora.training.config import RunConfig
from convlora.training.model import load_base


def check_fit(plan: Plan, output: Path) -> None:
    """Refuses a method that the model has no layers for; its own run would say so after hours of the ones before it.

    Args:
        plan: The comparison. Methods whose first run has begun are not checked again.
        output: Its folder.

    Raises:
        InputError: Naming all methods that do not fit; or if the model cannot be read.
    """
    models: dict[str, SegmentationModel] = {}
    misfits: dict[str, InputError] = {}
    for variant in plan.variants:
        rates = plan.searched(variant)
        first = PlannedRun(variant, plan.fractions[0], rates[0] if rates else None, plan.seeds[0])
        if find_method(variant.method).network is not None or (first.folder(output) / "config.yaml").is_file():
            continue
        config = first.config(plan.base)
        if config.model.decoder not in models:
            models[config.model.decoder] = _model(config)
        try:
            adapter_config(
                models[config.model.decoder], config.method.name, config.method.options, config.training.adapt_last
            )
        except InputError as error:
            misfits[variant.label] = error
    if misfits:
        label, cause = next(iter(misfits.items()))
        raise InputError(
            f"This model cannot be trained with {', '.join(misfits)}. Leave that out of --methods. ({label}: {cause})"
        ) from cause


def _model(config: RunConfig) -> SegmentationModel:
    """The model, for two classes: how many there are decides nothing about its layers."""
    config = copy.deepcopy(config)
    config.model.head, config.model.num_mask_tokens, config.training.loss = "auto", None, None
    return load_base(config, ClassTable(("background", "foreground")))
