"""Every command explains itself and all of its options."""

import re

import click
import pytest
import typer

from convlora.cli import main


def commands(command, path=()):
    """Every command of the program with the words that call it, the groups among them too."""
    yield path, command
    for name, below in getattr(command, "commands", {}).items():
        yield from commands(below, (*path, name))


COMMANDS = dict(commands(typer.main.get_command(main.app)))


def test_the_commands_are_found():
    assert {(), ("train",), ("data",), ("data", "check"), ("recipes", "show")} <= COMMANDS.keys()


@pytest.mark.parametrize("path", COMMANDS, ids=lambda path: " ".join(path) or "convlora")
def test_help_names_every_option(path, convlora, monkeypatch):
    monkeypatch.setenv("COLUMNS", "250")  # a narrow terminal breaks long names
    code, out, err = convlora(*path, "--help")
    assert (code, err) == (0, "")
    shown = re.sub(r"\x1b\[[0-9;]*m", "", out)
    options = [one for one in COMMANDS[path].params if isinstance(one, click.Option) or one.param_type_name == "option"]
    for option in options:
        assert option.hidden or option.help, f"{option.name} is not explained"
        for name in () if option.hidden else (*option.opts, *option.secondary_opts):
            assert re.search(rf"(?<![\w-]){re.escape(name)}(?![\w-])", shown), f"{name} is missing"
    for name in getattr(COMMANDS[path], "commands", {}):
        assert re.search(rf"(?m)^\W*{re.escape(name)}\s", shown), f"{name} is missing"
    assert COMMANDS[path].help
    assert "Usage:" in shown
    assert "<bool>" not in shown, "a switch takes no value"


@pytest.mark.parametrize("path", COMMANDS, ids=lambda path: " ".join(path) or "convlora")
def test_help_shows_brackets(path):
    # Rich takes what stands in brackets for markup, and drops it: "pip install 'convlora[export]'" lost its extra.
    texts = [COMMANDS[path].help, *(getattr(one, "help", None) for one in COMMANDS[path].params)]
    for text in filter(None, texts):
        assert re.findall(r"(?<!\\)\[(?!/?dim\])", text) == [], text
