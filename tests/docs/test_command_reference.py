"""The reference of the commands is complete."""

import typer
from command_reference import command_reference, commands

from convlora.cli.main import app


def test_every_option_of_every_command_appears():
    sections = dict(part.split("\n", 1) for part in command_reference().split("\n## ")[1:])
    every = dict(commands(typer.main.get_command(app)))
    assert sections.keys() == every.keys()
    assert {"convlora train", "convlora data check", "convlora recipes", "convlora recipes show"} <= every.keys()
    for path, command in every.items():
        names = {name for parameter in command.params for name in [*parameter.opts, *parameter.secondary_opts]}
        for name in names - {"--help", "-h"}:
            wanted = name if name.startswith("-") else name.upper().rstrip("_")
            assert name.startswith("-") is False or wanted in sections[path], (path, name)
        assert (command.help or "").split()[0] in sections[path]


def test_no_markup_of_the_terminal_is_left():
    text = command_reference()
    assert "[dim]" not in text
    assert "[/" not in text
    assert "Default: facebook/sam-vit-base." in text
    assert "PydanticUndefined" not in text
    assert "<enum" not in text
