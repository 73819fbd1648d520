"""Meta's `segment-anything` package, without torchvision.

Its predictor and its automatic mask generator import torchvision; the model itself, the judge here, does not use it.
"""

import sys
from types import ModuleType
from unittest import mock

_UNUSED = {
    "torchvision": [],
    "torchvision.transforms": [],
    "torchvision.transforms.functional": ["resize", "to_pil_image"],
    "torchvision.ops": [],
    "torchvision.ops.boxes": ["batched_nms", "box_area"],
}


def _placeholders() -> dict[str, ModuleType]:
    modules = {}
    for name, attributes in _UNUSED.items():
        modules[name] = ModuleType(name)
        for attribute in attributes:
            setattr(modules[name], attribute, None)
    return modules


# MONAI tries to import the package, which fails for lack of torchvision and leaves a part of it behind.
for _name in [name for name in sys.modules if name.split(".")[0] == "segment_anything"]:
    del sys.modules[_name]
with mock.patch.dict(sys.modules, _placeholders()):
    import segment_anything
    import segment_anything.modeling

    _kept = {name: module for name, module in sys.modules.items() if name.split(".")[0] == "segment_anything"}
sys.modules.update(_kept)

modeling = segment_anything.modeling
sam_model_registry = segment_anything.sam_model_registry
