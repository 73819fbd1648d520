"""Every setting of a run, declared once: type, range, default, help, and its option on the command line.

Reading files and command lines, checking, `--help` and `docs/settings.md` all come from these declarations. Nothing
heavy is imported here, not even pydantic, so that `--help` answers at once.
"""

from convlora.settings.data import DataSettings
from convlora.settings.declaration import About, Option
from convlora.settings.method import MethodSettings
from convlora.settings.model import ModelSettings
from convlora.settings.names import SECTIONS, SETTINGS, Setting
from convlora.settings.training import TrainingSettings

__all__ = [
    "SECTIONS",
    "SETTINGS",
    "About",
    "DataSettings",
    "MethodSettings",
    "ModelSettings",
    "Option",
    "Setting",
    "TrainingSettings",
]
