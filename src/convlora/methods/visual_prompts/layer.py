"""A frozen attention module with trained tokens beside its input."""

from __future__ import annotations

import inspect
from typing import Any

import torch
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import nn

from convlora.methods.visual_prompts.config import VisualPromptConfig


class VisualPromptLayer(nn.Module, BaseTunerLayer):
    """Gives its tokens to an attention module, as the argument `prompt_tokens` of its forward pass.

    Args:
        base_layer: The attention module.
        adapter_name: Name of the first adapter.
        config: Its settings.

    Raises:
        ValueError: If the module does not take prompt tokens, or its width is not known.
    """

    adapter_layer_names = ("visual_prompts",)

    def __init__(self, base_layer: nn.Module, adapter_name: str, config: VisualPromptConfig) -> None:
        super().__init__()
        takes_tokens = "prompt_tokens" in inspect.signature(base_layer.forward).parameters
        if not takes_tokens or not hasattr(base_layer, "qkv"):
            raise ValueError(
                f"Visual prompts need attention that takes `prompt_tokens`, not {type(base_layer).__name__}: "
                "with SAM set model.attention to auto, blocks or vectors."
            )
        self.base_layer = base_layer
        self.visual_prompts = nn.ParameterDict()
        self.merged_adapters: list[str] = []
        self._disable_adapters = False
        self._active_adapter = adapter_name
        self.update_layer(adapter_name, config)

    def update_layer(self, adapter_name: str, config: VisualPromptConfig) -> None:
        """Adds the tokens of an adapter, drawn as small as the paper's."""
        this: Any = self
        width = this.base_layer.qkv.in_features
        bound = (6 / (3 * 16 * 16 + width)) ** 0.5
        self.visual_prompts[adapter_name] = nn.Parameter(torch.empty(config.num_tokens, width).uniform_(-bound, bound))
        this._move_adapter_to_device_of_base_layer(adapter_name)
        this.set_adapter(this.active_adapters, inference_mode=config.inference_mode)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """The attention module's output, with the tokens of all active adapters beside its input."""
        this: Any = self
        tokens = [self.visual_prompts[name] for name in this.active_adapters if name in self.visual_prompts]
        if tokens and not this.disable_adapters:
            kwargs["prompt_tokens"] = torch.cat(tokens)
        return this.base_layer(*args, **kwargs)

    def merge(self, safe_merge: bool = False, adapter_names: list[str] | None = None) -> None:
        """Refuses: tokens are no change of a weight."""
        raise ValueError("Visual prompts cannot be merged into the base weights. Call `unload()` instead.")

    def unmerge(self) -> None:
        """Nothing is ever merged."""
