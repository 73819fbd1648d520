"""PiSSA (Meng et al., NeurIPS 2024) on base weights that stay as they are, as a PEFT method."""

from convlora.methods.peft_types import register_type
from convlora.methods.pissa.config import PEFT_TYPE, PissaConfig
from convlora.methods.pissa.model import PissaModel

__all__ = ["PissaConfig", "PissaModel"]

register_type(PEFT_TYPE, PissaConfig, PissaModel)
