"""Everything that determines a run."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from convlora.errors import InputError
from convlora.recipes import PREFIX as RECIPE
from convlora.recipes import read_recipe, recipe_names
from convlora.settings import SECTIONS, SETTINGS, DataSettings, MethodSettings, ModelSettings, TrainingSettings
from convlora.settings.checking import ProblemError, problems_of, read_value
from convlora.settings.history import CHOSEN_BY, FILLED_IN, IN_OLDER_VERSIONS
from convlora.settings.names import find_section, unknown_section, unknown_setting
from convlora.storage import write_text
from convlora.untrusted import UnreadableError, parse_yaml, read_yaml

_REPEAT = "Repeat with: convlora train --config THIS_FILE --output NEW_FOLDER"


@dataclass
class RunConfig:
    """All settings of a run, as in `RUN/config.yaml`.

    Attributes:
        settled: Settings, such as "training.loss", that a run filled in by itself. They are no error where they have no
            effect.
        asked: Settings that were read from somewhere, such as "training.lr" or "method.r", whatever their value.
    """

    data: DataSettings = field(default_factory=DataSettings)
    model: ModelSettings = field(default_factory=ModelSettings)
    method: MethodSettings = field(default_factory=MethodSettings)
    training: TrainingSettings = field(default_factory=TrainingSettings)
    settled: set[str] = field(default_factory=set, compare=False, repr=False)
    asked: set[str] = field(default_factory=set, compare=False, repr=False)

    @classmethod
    def load(cls, path: Path) -> RunConfig:
        """Reads a YAML file, or a published experiment by `recipe:NAME`.

        Raises:
            InputError: If it cannot be read or holds an unknown key or a value of the wrong type.
        """
        if str(path).startswith(RECIPE):
            config = cls()
            config.update(IN_OLDER_VERSIONS, origin=str(path))
            config.update(read_recipe(str(path).removeprefix(RECIPE)).settings, origin=str(path))
            return config
        try:
            values = read_yaml(path)
        except OSError as error:
            raise InputError(_not_read(path, error)) from error
        except UnreadableError as error:
            raise InputError(f"The configuration {path} cannot be read as YAML: {error}.") from error
        if not isinstance(values, dict):
            raise InputError(f"The configuration {path} is empty or no table of settings. Compare a RUN/config.yaml.")
        config = cls()
        is_whole = SECTIONS.keys() <= values.keys()  # a run's, maybe of an older version
        if is_whole:
            config.update(IN_OLDER_VERSIONS, origin=str(path))
        config.update(values, origin=str(path))
        if is_whole:
            config.settled = {key for key in FILLED_IN if config.is_filled_in(key)}
        return config

    def save(self, path: Path, comment: str = _REPEAT) -> None:
        """Writes the YAML file, with a comment before it."""
        write_text(path, f"# {comment}\n{self.to_yaml()}")

    def to_yaml(self) -> str:
        """The settings as YAML, in the order of their declarations."""
        return yaml.safe_dump(self.to_dict(), sort_keys=False, allow_unicode=True)

    def is_filled_in(self, key: str) -> bool:
        """Whether a setting has a value that runs fill in where it has no effect."""
        return self.get(key) in FILLED_IN.get(key, ())

    def is_asked(self, key: str) -> bool:
        """Whether a setting was given, in a file, as an option or by an assignment that changed it."""
        return key in self.asked or self.get(key) != SETTINGS[key].default

    def get(self, key: str) -> Any:
        """The value of a setting by its whole name, such as `training.lr`."""
        section, _, name = key.partition(".")
        return getattr(getattr(self, section), name)

    def to_dict(self) -> dict[str, Any]:
        """The settings as nested dictionaries; the options of the method stand beside its name."""
        values = dataclasses.asdict(self)
        del values["settled"], values["asked"]
        method = values["method"]
        values["method"] = {"name": method["name"], **method["options"]}
        return values

    def update(self, values: Mapping[str, Any], origin: str = "the given settings") -> None:
        """Overwrites settings with those of nested dictionaries.

        Args:
            values: By section and name.
            origin: What the error message calls their source.

        Raises:
            InputError: With everything that is unknown or of the wrong type.
        """
        problems: list[str] = []
        for section, entries in values.items():
            if section not in SECTIONS:
                problems.append(unknown_section(str(section), origin))
                continue
            if section == "method" and isinstance(entries, str):
                entries = {"name": entries}
            if not isinstance(entries, Mapping):
                names = [setting.name for setting in SETTINGS.values() if setting.section == section]
                problems.append(f"'{section}' in {origin} must hold settings, such as: {', '.join(names)}.")
                continue
            # First what resets others: another method's options do not apply, nor another length of the run.
            for key, value in sorted(entries.items(), key=lambda entry: entry[0] not in ("name", "budget_seconds")):
                problems += self._set(section, str(key), value, origin)
        self._refuse(problems)

    def override(self, assignments: list[str]) -> None:
        """Applies `KEY=VALUE` assignments; the section may be left out where the name is unique.

        Raises:
            InputError: With everything that is malformed, unknown or of the wrong type.
        """
        problems: list[str] = []
        for assignment in assignments:
            problems += self._assign(assignment)
        self._refuse(problems)

    def _assign(self, assignment: str) -> Iterable[str]:
        key, separator, text = assignment.partition("=")
        origin = f"--set {assignment}"
        if not separator:
            return [f"'{origin}' has no '='. Write --set KEY=VALUE, for example --set training.lr=3e-4."]
        section, _, name = key.strip().rpartition(".")
        if not section and name == "method":
            section, name = "method", "name"
        section = section or find_section(name) or ""
        if section not in SECTIONS:
            return [unknown_setting(key.strip(), origin)]
        try:
            value = parse_yaml(text)
        except UnreadableError as error:
            return [f"The value in '{origin}' cannot be read: {error}. Quote it if it holds special signs."]
        return self._set(section, name, value, origin)

    def _set(self, section: str, name: str, value: Any, origin: str) -> Iterable[str]:
        """Sets one setting; returns what is wrong with it."""
        key, settings = f"{section}.{name}", getattr(self, section)
        if section == "method" and name != "name":  # checked with the method, see `resolve_options`
            self.asked.add(key)
            settings.options[name] = value
            return []
        if key not in SETTINGS:
            return [unknown_setting(key, origin)]
        try:
            value = read_value(SETTINGS[key], value, origin)
        except ProblemError as problem:
            return [str(problem)]
        self.settled.discard(key)
        self.asked.add(key)
        if value != getattr(settings, name):
            if key == "method.name":
                self.method.options = {}
            if key == "training.budget_seconds":
                self.training.epochs = self.training.max_steps = None
            for other in CHOSEN_BY.get(key, ()):
                if other in self.settled:
                    part, _, chosen = other.partition(".")
                    setattr(getattr(self, part), chosen, getattr(type(getattr(self, part))(), chosen))
        setattr(settings, name, value)
        return []

    def check_ranges(self) -> None:
        """Checks what can be checked without the data and without loading PyTorch.

        Raises:
            InputError: With everything that is out of range.
        """
        problems = list(problems_of(self))
        if problems:
            raise InputError(" ".join(problems))

    def _refuse(self, problems: list[str]) -> None:
        """Names what is out of range as well, so that all can be corrected at once."""
        if problems:
            raise InputError(" ".join([*problems, *problems_of(self)]))


def _not_read(path: Path, error: OSError) -> str:
    """Why a file of settings cannot be read, and what to give instead."""
    if path.is_dir():
        file = path / "config.yaml"
        such = f", such as {file}" if file.is_file() else ""
        return f"{path} is a folder. Give a YAML file of settings{such}."
    if str(path) in recipe_names():
        return f"There is no file {path}. For the published experiment of that name give {RECIPE}{path}."
    if isinstance(error, FileNotFoundError):
        return f"There is no file {path} to read settings from. Check the path."
    return f"The settings in {path} cannot be read: {error.strerror or error}. Check the path."
