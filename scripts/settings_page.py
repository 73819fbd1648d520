"""Writes the tables of docs/settings.md from the declarations of the settings: `python scripts/settings_page.py`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from convlora.methods.registry import METHODS
from convlora.settings import SECTIONS, SETTINGS, Setting
from convlora.settings.method import METHOD_OPTIONS

PAGE = Path(__file__).parent.parent / "docs" / "settings.md"
BEGIN = "<!-- These tables are made by scripts/settings_page.py. Change the declarations in src/convlora/settings. -->"
END = "<!-- End of the tables. -->"

_HEADERS = {
    "data": "## Data",
    "model": "## Model",
    "method": "## Method",
    "training": "## Training",
}


def tables() -> str:
    """The tables of all settings, a section each."""
    lines: list[str] = []
    for section in SECTIONS:
        lines += ["", _HEADERS[section], "", "| setting | default | meaning |", "|---|---|---|"]
        lines += [_row(setting) for setting in SETTINGS.values() if setting.section == section]
        if section == "method":
            lines += ["", "Options of methods:", "", "| option | default | meaning |", "|---|---|---|"]
            lines += _option_rows()
    return "\n".join([*lines, ""])


def page(text: str) -> str:
    """The page with new tables.

    Args:
        text: The page as it is.
    """
    before, _, rest = text.partition(BEGIN)
    after = rest.partition(END)[2]
    return f"{before}{BEGIN}\n{tables()}\n{END}{after}"


def _row(setting: Setting) -> str:
    option = setting.about.option
    name = f"`{setting.key}`"
    if option is not None:
        name += f"<br>`{option.flag.replace('/', '` / `')}`"
    meaning = " ".join(filter(None, [setting.about.help, setting.about.more, _range(setting)]))
    return f"| {name} | {setting.default_in_words} | {meaning} |"


def _range(setting: Setting) -> str:
    if setting.bounds:
        return f"Must be {setting.bounds}."
    explained = setting.about.help + setting.about.more
    if len(setting.choices) > 1 and not all(f"`{choice}`" in explained for choice in setting.choices):
        return f"One of {', '.join(f'`{choice}`' for choice in setting.choices)}."
    return ""


def _option_rows() -> Iterator[str]:
    for option, meaning in METHOD_OPTIONS.items():
        defaults: dict[str, list[str]] = {}
        for method in METHODS.values():
            if option in method.defaults:
                defaults.setdefault(_written(method.defaults[option]), []).append(f"`{method.name}`")
        values = [value if len(defaults) == 1 else f"{value} ({', '.join(names)})" for value, names in defaults.items()]
        methods = ", ".join(name for names in defaults.values() for name in names)
        yield f"| `method.{option}` | {'; '.join(values)} | {meaning} For {methods}. |"


def _written(value: object) -> str:
    return "`null`" if value is None else f"`{str(value).lower() if isinstance(value, bool) else value}`"


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
