"""Learning rates of parts of the model."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn

DECODER, DETAIL = "lr_decoder", "lr_detail"  # the settings


def setting_of(name: str) -> str | None:
    """Which setting is the learning rate of a parameter; None for `lr`.

    Args:
        name: Name of the parameter, with or without what PEFT puts before and between.
    """
    places = name.split(".")
    if "detail" in places:
        return DETAIL
    return DECODER if "mask_decoder" in places else None


def give_rates(optimizer: torch.optim.Optimizer, model: nn.Module, rates: Mapping[str, float]) -> None:
    """Splits the groups of a new optimizer, so that parts of the model learn at rates of their own.

    What learns at the optimizer's own rate comes first. Without `rates` the groups stay as they are.

    Args:
        optimizer: Made for the model's parameters.
        model: The model.
        rates: By setting.
    """
    if not rates:
        return
    settings = {id(parameter): setting_of(name) for name, parameter in model.named_parameters()}
    groups = []
    for setting in (None, *rates):
        for group in optimizer.param_groups:
            own = [settings[id(parameter)] for parameter in group["params"]]
            members = [
                parameter for parameter, one in zip(group["params"], own) if (one if one in rates else None) == setting
            ]
            if members:
                rate = group["lr"] if setting is None else rates[setting]
                groups.append({**group, "params": members, "lr": rate})
    optimizer.param_groups = groups
