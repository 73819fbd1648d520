"""What PEFT tuners that wrap frozen modules have in common."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from peft import PeftConfig
from peft.tuners.tuners_utils import BaseTuner
from torch import nn

from convlora.methods.cards import tell_how_to_load


@dataclass
class WrappingConfig(PeftConfig):
    """Where wrappers go.

    Args:
        target_modules: Names of the modules, as in PEFT.
        exclude_modules: Names of modules to leave out.
        modules_to_save: Modules trained in full and saved too.
    """

    target_modules: list[str] | str | None = field(default=None, metadata={"help": "Modules to wrap."})
    exclude_modules: list[str] | str | None = field(default=None, metadata={"help": "Modules to leave out."})
    modules_to_save: list[str] | None = field(default=None, metadata={"help": "Modules trained in full."})

    def save_pretrained(self, save_directory: str, **kwargs: Any) -> None:
        """Writes the configuration, and into the card beside it how the adapter is loaded."""
        super().save_pretrained(save_directory, **kwargs)
        tell_how_to_load(save_directory)

    def require_positive(self, name: str) -> None:
        """Checks that a setting is a whole number from 1 up.

        Raises:
            ValueError: If it is not.
        """
        value = getattr(self, name)
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise ValueError(f"`{name}` must be a whole number from 1 up, got {value!r}")

    def require_one_of(self, name: str, known: tuple[str, ...]) -> None:
        """Checks that a setting is one of some names.

        Raises:
            ValueError: If it is not.
        """
        if getattr(self, name) not in known:
            raise ValueError(f"`{name}` must be one of {', '.join(known)}, got {getattr(self, name)!r}")


class WrappingTuner(BaseTuner):
    """Puts a wrapper around every targeted module.

    Subclasses name the wrapper as `tuner_layer_cls`: it is made from (module, name of the adapter, settings), and takes
    further adapters by `update_layer(name, settings)`.
    """

    tuner_layer_cls: Any
    target_module_mapping: dict[str, list[str]] = {}  # noqa: RUF012 - PEFT reads a dictionary here

    def _create_and_replace(
        self,
        peft_config: Any,
        adapter_name: str,
        target: nn.Module,
        target_name: str,
        parent: nn.Module,
        current_key: str,
        **kwargs: Any,
    ) -> None:
        if isinstance(target, self.tuner_layer_cls):
            target.update_layer(adapter_name, peft_config)
            target.train(target.training)  # what is new in it
            return
        try:
            layer = self.tuner_layer_cls(target, adapter_name, peft_config)
        except ValueError as error:
            raise ValueError(f"{error} (`target_modules` matches '{current_key}'.)") from error
        layer.train(target.training)  # a model in evaluation mode stays there
        if adapter_name not in self.active_adapters:
            layer.requires_grad_(False)
        self._replace_module(parent, target_name, layer, target)

    def _replace_module(self, parent: nn.Module, child_name: str, new_module: nn.Module, child: nn.Module) -> None:
        # PEFT's own takes the new module for a layer with a weight, which a module trained in full need not have.
        setattr(parent, child_name, new_module)

    def _check_merge_allowed(self) -> None:
        raise ValueError("This adapter cannot be merged into the base weights. Call `unload()` instead.")
