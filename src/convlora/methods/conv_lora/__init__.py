"""Conv-LoRA (Zhong et al., ICLR 2024) as a PEFT method, for any model whose linear layers see feature maps."""

from convlora.methods.conv_lora.balance import clear_load_balancing_loss, load_balancing_loss
from convlora.methods.conv_lora.check_grid import GridCheck, check_grid
from convlora.methods.conv_lora.config import PEFT_TYPE, ConvLoraConfig
from convlora.methods.conv_lora.grid import set_grid_size
from convlora.methods.conv_lora.model import ConvLoraModel
from convlora.methods.peft_types import register_type

__all__ = [
    "ConvLoraConfig",
    "ConvLoraModel",
    "GridCheck",
    "check_grid",
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
    register_type(PEFT_TYPE, ConvLoraConfig, ConvLoraModel)


register()
