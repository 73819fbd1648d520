"""Networks beside a frozen encoder, as one PEFT method: ladder side tuning and SAM-Adapter."""

from convlora.methods.peft_types import register_type
from convlora.methods.side_networks.config import PEFT_TYPE, SideNetworkConfig
from convlora.methods.side_networks.model import SideNetworkModel

__all__ = ["SideNetworkConfig", "SideNetworkModel"]

register_type(PEFT_TYPE, SideNetworkConfig, SideNetworkModel)
