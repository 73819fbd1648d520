"""Checks of all settings of a run, in one message."""

from __future__ import annotations

from transformers.integrations import get_available_reporting_integrations

from convlora.errors import InputError
from convlora.methods.registry import check_method, find_method, resolve_options
from convlora.settings import ModelSettings, TrainingSettings
from convlora.settings.checking import problems_of
from convlora.training.bands import config_reading
from convlora.training.config import RunConfig
from convlora.training.effects import Situation, without_effect


def check_settings(config: RunConfig) -> None:
    """Checks ranges and names, and completes the method's options. What is left open is settled later.

    Raises:
        InputError: With every problem found.
    """
    problems = without_effect(Situation(config))
    settle_window(config)
    network = find_method(config.method.name).network
    if network is not None:  # it takes the place of the SAM
        config.model.source, config.model.detail = network, "none"
    if find_method(config.method.name).adapts_decoder and config.model.decoder != "sam":
        problems.append(
            f"The method {config.method.name} adapts a pretrained mask decoder, and model.decoder="
            f"{config.model.decoder} makes a new one. Take the method lora, or leave out model.decoder."
        )
    problems += problems_of(config)
    if not problems:
        config_reading(config)
    known = get_available_reporting_integrations()
    problems += [
        f"training.report_to: the logger '{name}' is not known or not installed; there is {', '.join(known) or 'none'}."
        for name in config.training.report_to
        if name not in known
    ]
    if problems:
        raise InputError(" ".join(problems))
    config.method.options = resolve_options(config.method.name, config.method.options)
    check_method(config.method.name, config.method.options, chosen_blocks=config.training.adapt_last is not None)


def settle_window(config: RunConfig) -> None:
    """Has the model see windows as they are, unless another size was asked for."""
    if config.model.image_size is None:
        config.model.image_size = config.data.window


def leave_out_sam(config: RunConfig) -> None:
    """Takes back the settings that are for a SAM, so that a network of another kind can be trained with the rest."""
    model, training = config.model, config.training
    head = "auto" if model.head == "mask-classification" else model.head
    config.model = ModelSettings(image_size=model.image_size, head=head, bands=model.bands)
    training.adapt_last, training.cache, training.activation_checkpointing = None, False, False
    training.lr_decoder = training.lr_detail = None
    training.set_loss_weights = TrainingSettings().set_loss_weights
