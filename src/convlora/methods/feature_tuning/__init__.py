"""Methods that change the outputs of frozen layers, as one PEFT method: BitFit, SSF and bottleneck adapters."""

from convlora.methods.feature_tuning.config import PEFT_TYPE, FeatureTuningConfig
from convlora.methods.feature_tuning.model import FeatureTuningModel
from convlora.methods.peft_types import register_type

__all__ = ["FeatureTuningConfig", "FeatureTuningModel"]

register_type(PEFT_TYPE, FeatureTuningConfig, FeatureTuningModel)
