"""Writes the reference of the commands from the program itself, as Markdown.

python scripts/command_reference.py > commands.md
"""

from __future__ import annotations

import enum
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer

from convlora.cli.main import app

HEAD = """# Commands

This page is made from the program. `convlora COMMAND --help` shows the same text in a terminal.

Exit codes: 0 done, 1 a failure in the run, 2 bad usage or bad input. `--debug`, at any place of a command, shows the
traceback of an error. `--json` prints one JSON object to stdout and nothing else.
"""


_STANDS_FOR = {int: "N", float: "X", Path: "PATH"}


def command_reference() -> str:
    """The page: a section for each command, with all of its arguments and options."""
    program = typer.main.get_command(app)
    sections = [_section(path, command) for path, command in commands(program)]
    return "\n".join([HEAD, *sections])


def commands(group: Any, prefix: str = "convlora") -> Iterator[tuple[str, Any]]:
    """Every command of a group and of its groups: how it is called, and Typer's object for it."""
    for name, command in group.commands.items():
        path = f"{prefix} {name}"
        # A group is a command of its own only if it may be called without one of its commands.
        if not hasattr(command, "commands") or command.invoke_without_command:
            yield path, command
        if hasattr(command, "commands"):
            yield from commands(command, path)


def _section(path: str, command: Any) -> str:
    arguments = [p for p in command.params if p.param_type_name == "argument"]
    options = [p for p in command.params if p.param_type_name == "option" and "--help" not in p.opts]
    usage = " ".join([path, *(_argument(p) for p in arguments), *(["[OPTIONS]"] if options else [])])
    lines = [f"## {path}", "", f"```text\n{usage}\n```", "", _text(command.help or ""), ""]
    if arguments or options:
        lines += ["| option | meaning |", "|---|---|"]
        lines += [f"| `{_name(p)}` | {_cell(p)} |" for p in [*arguments, *options]]
        lines.append("")
    return "\n".join(lines)


def _argument(parameter: Any) -> str:
    name = _metavar(parameter)
    return name if parameter.required else f"[{name}]"


def _name(parameter: Any) -> str:
    if parameter.param_type_name == "argument":
        return _metavar(parameter)
    names = ", ".join([*parameter.opts, *parameter.secondary_opts])
    return names if parameter.is_flag else f"{names} {_metavar(parameter)}"


def _metavar(parameter: Any) -> str:
    """What stands for the value."""
    if parameter.metavar:
        return str(parameter.metavar)
    kind = parameter.type_descriptor.annotation
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        return "[" + "|".join(str(one.value) for one in kind) + "]"
    return _STANDS_FOR.get(kind, "TEXT")


def _cell(parameter: Any) -> str:
    text = _text(parameter.help or "").replace("\n", " ").replace("|", "\\|")
    if parameter.required and parameter.param_type_name == "option":
        text = f"{text} *Required.*"
    if parameter.show_default and parameter.default not in (None, False, ...) and not parameter.required:
        default = parameter.default.value if isinstance(parameter.default, enum.Enum) else parameter.default
        text = f"{text} Default: `{default}`."
    return text.strip()


def _text(help_text: str) -> str:
    """Help without Rich's markup, its defaults as sentences, and what is indented as code."""
    text = re.sub(r"\\?\[dim\]\\?\[default: (.*?)\]\[/dim\]", r"Default: \1.", help_text)
    text = re.sub(r"\[/?(?:dim|bold|italic)[^\]]*\]", "", text).replace("\\[", "[")
    paragraphs = [
        f"```sh\n{part}\n```" if part.startswith("convlora ") else part.replace("<", "&lt;")
        for part in text.split("\n\n")
    ]
    # Outside code a star or an underscore would be taken for emphasis.
    return "\n\n".join(
        part if part.startswith("```") else part.replace("*", "\\*").replace("_", "\\_") for part in paragraphs
    )


if __name__ == "__main__":
    print(command_reference(), end="")
