"""The commands in the documentation exist, with their options and settings."""

import re
import shlex

import pytest
import typer

from convlora.cli.main import app
from convlora.training.config import RunConfig
from tests.docs.pages import PAGES, ROOT, blocks, name_of, prose

# Options in the text that are those of other programs, not of ours.
OTHER_PROGRAMS = {
    "--allow-unmatched-labels",
    "--clear-existing",
    "--conf-threshold",
    "--conv-mask-to-poly",
    "--dry-run",
    "--images",
    "--node-rank",
    "--nproc-per-node",
    "--num_processes",
    "--parts",
    "--shm-size",
}


def command_lines(page):
    """Commands of a page with their place, one per line, without comments."""
    for block in blocks(page, "sh"):
        for line in block.text.replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True)
            for command in split_at(words, "&&"):
                if command:
                    yield block.place, command


def split_at(words, separator):
    parts = [[]]
    for word in words:
        if word == separator:
            parts.append([])
        else:
            parts[-1].append(word)
    return parts


def ours(words):
    """The arguments of our program, also behind a launcher; None for other commands."""
    if words[0] == "convlora":
        return words[1:]
    if "convlora.cli.main" in words:
        return words[words.index("convlora.cli.main") + 1 :]
    return None


def parse(arguments):
    """Resolves a command and its options as the program does, without running it."""
    command, path = typer.main.get_command(app), []
    while hasattr(command, "commands") and arguments and arguments[0] in command.commands:
        path.append(arguments[0])
        command, arguments = command.commands[arguments[0]], arguments[1:]
    assert path, f"no such command: {arguments}"
    if "--help" not in arguments:
        return command.make_context(path[-1], list(arguments))
    return None


def all_commands(group=None):
    group = group or typer.main.get_command(app)
    for command in group.commands.values():
        yield command
        if hasattr(command, "commands"):
            yield from all_commands(command)


EVERY = [
    pytest.param(place, words, id=f"{place} {' '.join(words)[:40]}")
    for page in PAGES
    for place, words in command_lines(page)
]


def test_there_are_commands():
    assert sum(ours(entry.values[1]) is not None for entry in EVERY) > 25


@pytest.mark.parametrize(("place", "words"), EVERY)
def test_command(place, words):
    arguments = ours(words)
    if arguments is None:
        if words[0] == "python" and words[1].endswith(".py"):
            assert (ROOT / words[1]).is_file(), f"{place} runs {words[1]}, which does not exist"
        return
    context = parse(arguments)
    if context is not None and context.params.get("set_"):
        RunConfig().override(context.params["set_"])


def test_a_wrong_option_would_be_found():
    with pytest.raises(Exception, match="--no-such-option"):
        parse(["train", "DATA", "--output", "RUN", "--no-such-option"])


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_options_named_in_the_text(page):
    known = {
        name
        for command in all_commands()
        for option in command.params
        for name in [*option.opts, *option.secondary_opts]
    }
    known |= {"--debug", "--help", "--version"} | OTHER_PROGRAMS
    for code in re.findall(r"`([^`]+)`", prose(page)):
        for option in re.findall(r"(?<!\S)--[a-z][\w-]*", code):
            assert option in known, f"{option} in {name_of(page)}"


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_settings_named_in_the_text(page):
    for code in re.findall(r"`([^`]+)`", prose(page)):
        for setting in re.findall(r"--set (\S+=\S+)", code):
            if "KEY" not in setting and "HEIGHT" not in setting:
                RunConfig().override([setting])
