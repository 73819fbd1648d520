"""`--help` of commands that train, and settings that are wrong before anything heavy is loaded."""

import re
import subprocess
import sys

import pytest

from convlora.settings import SETTINGS
from convlora.settings.declaration import GROUPS

NOT_IN_COMPARE = {"method.name", "training.seed", "training.cache", "data.folds", "model.from_run"}


def panels(text):
    """The flags in each panel of a help page, by its title."""
    found, title = {}, None
    for line in text.splitlines():
        if match := re.match(r"\W+ (\w[\w ]*) ─+", line):
            title = match[1]
            found[title] = []
        elif title is not None and (match := re.match(r"[│ *]*(--\w[\w-]*|DATA\b)", line)):
            found[title].append(match[1])
    return found


@pytest.fixture
def help_of(convlora, monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setenv("TERMINAL_WIDTH", "120")

    def call(command):
        code, out, _ = convlora(command, "--help")
        assert code == 0
        return out

    return call


@pytest.mark.parametrize(("command", "without"), [("train", set()), ("compare", NOT_IN_COMPARE)])
def test_every_option_stands_in_its_group(help_of, command, without):
    found = panels(help_of(command))
    assert [title for title in found if title in GROUPS] == list(GROUPS)
    assert "Options" not in found
    for key, setting in SETTINGS.items():
        option = setting.about.option
        if option is not None and option.group:
            assert (option.name in found[option.group]) == (key not in without), key
    assert "--help" in found[GROUPS[-1]]


def test_brackets_and_defaults_are_shown(help_of):
    text = " ".join(re.sub("[│ ]+", " ", help_of("train")).split())
    assert "{train,val,test}/{images,masks}/" in text
    assert "[default: facebook/sam-vit-base]" in text
    assert "`" not in text


def test_wrong_settings_are_all_named_before_anything_heavy_is_imported(tmp_path):
    code = (
        "import sys; from convlora.cli.main import run\n"
        "try: run(sys.argv[1:])\n"
        "except SystemExit as e: assert e.code == 2, e.code\n"
        "assert not {'torch', 'transformers', 'peft', 'numpy'} & set(sys.modules)"
    )
    for wrong, words in (
        (
            ["--lr", "-1", "--epochs", "few", "--detail", "much"],
            ("--lr must be above 0", "--epochs must be a whole number", "--detail must be one of 'auto', 'none'"),
        ),
        (["--lr", "-1", "--set", "val_fraction=3"], ("--lr must be above 0", "data.val_fraction must be")),
    ):
        arguments = ["train", "data", "--output", str(tmp_path / "r"), *wrong]
        result = subprocess.run([sys.executable, "-c", code, *arguments], check=True, capture_output=True, text=True)
        for word in words:
            assert word in result.stderr
