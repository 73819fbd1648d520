"""Fine-tune the Segment Anything Model on your own images with Conv-LoRA.

Importing this package is cheap: torch and the models are loaded with the first public name that needs them.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from ._peft_registration import register_with_peft

if TYPE_CHECKING:
    from .api.check_data import check_data
    from .api.compare import compare
    from .api.convert_data import convert_data
    from .api.evaluate import evaluate
    from .api.export import export
    from .api.import_run import import_run
    from .api.inspect_run import inspect_run
    from .api.predict import predict
    from .api.push import push
    from .api.train import train
    from .inference.prediction import Prediction
    from .inference.segmenter import Segmenter
    from .measuring.measure import measure_objects
    from .methods.conv_lora import ConvLoraConfig, check_grid, load_balancing_loss, set_grid_size
    from .models import (
        EncoderForSemanticSegmentation,
        Sam2ForSemanticSegmentation,
        Sam3ForSemanticSegmentation,
        SamForSemanticSegmentation,
        SamHQForSemanticSegmentation,
        SamSegmentationConfig,
    )
    from .training.config import RunConfig

__version__ = "0.1.0"

_PUBLIC = {
    "ConvLoraConfig": "methods.conv_lora",
    "EncoderForSemanticSegmentation": "models",
    "Prediction": "inference.prediction",
    "RunConfig": "training.config",
    "Sam2ForSemanticSegmentation": "models",
    "Sam3ForSemanticSegmentation": "models",
    "SamForSemanticSegmentation": "models",
    "SamHQForSemanticSegmentation": "models",
    "SamSegmentationConfig": "models",
    "Segmenter": "inference.segmenter",
    "check_data": "api.check_data",
    "check_grid": "methods.conv_lora",
    "compare": "api.compare",
    "convert_data": "api.convert_data",
    "evaluate": "api.evaluate",
    "export": "api.export",
    "import_run": "api.import_run",
    "inspect_run": "api.inspect_run",
    "load_balancing_loss": "methods.conv_lora",
    "measure_objects": "measuring.measure",
    "predict": "api.predict",
    "push": "api.push",
    "set_grid_size": "methods.conv_lora",
    "train": "api.train",
}

__all__ = [
    "ConvLoraConfig",
    "EncoderForSemanticSegmentation",
    "Prediction",
    "RunConfig",
    "Sam2ForSemanticSegmentation",
    "Sam3ForSemanticSegmentation",
    "SamForSemanticSegmentation",
    "SamHQForSemanticSegmentation",
    "SamSegmentationConfig",
    "Segmenter",
    "check_data",
    "check_grid",
    "compare",
    "convert_data",
    "evaluate",
    "export",
    "import_run",
    "inspect_run",
    "load_balancing_loss",
    "measure_objects",
    "predict",
    "push",
    "set_grid_size",
    "train",
]


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        value = getattr(importlib.import_module(f"{__name__}.{_PUBLIC[name]}"), name)
        if _PUBLIC[name].startswith("api."):
            from .words import speaks_python

            value = speaks_python(value)
        globals()[name] = value
        return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_PUBLIC])


register_with_peft()
