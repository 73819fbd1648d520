"""Lets PEFT know our methods as soon as both packages are imported, in either order.

`import convlora` must stay light, so it cannot import PEFT, and with it torch, to register the method. But a user
who wrote `import convlora` expects `PeftModel.from_pretrained` to load our adapters. So if PEFT is loaded already, the
methods are registered at once, and otherwise when PEFT is.
"""

from __future__ import annotations

import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import sys
from collections.abc import Sequence
from types import ModuleType


def register_with_peft() -> None:
    """Registers our methods with PEFT now, or when PEFT is imported."""
    if "peft" in sys.modules:
        _register()
    elif not any(isinstance(finder, _PeftWatcher) for finder in sys.meta_path):
        sys.meta_path.insert(0, _PeftWatcher())


def _register() -> None:
    for method in ("conv_lora", "convolution_adapters", "feature_tuning", "pissa", "side_networks", "visual_prompts"):
        importlib.import_module(f"convlora.methods.{method}")


class _PeftWatcher(importlib.abc.MetaPathFinder):
    """Finds nothing itself; steps aside at the first import of PEFT and has the method registered after it."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname != "peft":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec("peft")
        if spec is not None and spec.loader is not None:
            spec.loader = _RegisteringLoader(spec.loader)
        return spec


class _RegisteringLoader(importlib.abc.Loader):
    """The loader of PEFT, followed by the registration."""

    def __init__(self, loader: importlib.abc.Loader) -> None:
        self.loader = loader

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType | None:
        return self.loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        # From here on the module should look as if it had been imported without a watcher.
        module.__loader__ = self.loader
        if module.__spec__ is not None:
            module.__spec__.loader = self.loader
        self.loader.exec_module(module)
        _register()
