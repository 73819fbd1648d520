"""Conv-LoRA (Zhong et al., ICLR 2024) as a PEFT method, for any model whose linear layers see feature maps."""

from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING, PEFT_TYPE_TO_PREFIX_MAPPING, PEFT_TYPE_TO_TUNER_MAPPING

from convlora.methods.conv_lora.balance import clear_load_balancing_loss, load_balancing_loss
from convlora.methods.conv_lora.config import PEFT_TYPE, ConvLoraConfig
from convlora.methods.conv_lora.layer import set_grid_size
from convlora.methods.conv_lora.model import ConvLoraModel

__all__ = [
    "ConvLoraConfig",
    "ConvLoraModel",
    "clear_load_balancing_loss",
    "load_balancing_loss",
    "register",
    "set_grid_size",
]


def register() -> None:
    """Makes PEFT know the method under the type "CONV_LORA". Done on import; safe to repeat.

    Raises:
        KeyError: If another package registered the type first.
    """
    known = PEFT_TYPE_TO_CONFIG_MAPPING.get(PEFT_TYPE)
    if known not in (None, ConvLoraConfig):
        raise KeyError(f"PEFT already knows a method called {PEFT_TYPE}, from {known.__module__}.")
    # PEFT's register function takes only members of its own enum; its maps take any string.
    PEFT_TYPE_TO_CONFIG_MAPPING[PEFT_TYPE] = ConvLoraConfig
    PEFT_TYPE_TO_TUNER_MAPPING[PEFT_TYPE] = ConvLoraModel
    PEFT_TYPE_TO_PREFIX_MAPPING[PEFT_TYPE] = ConvLoraModel.prefix


register()
