"""Options of commands that train: one for each setting that declares one, in `convlora.settings`."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Annotated, Any

import typer

from convlora.api.settings import Given
from convlora.cli.options import JSON_HELP
from convlora.cli.plain_help import PlainCommand
from convlora.settings import SETTINGS, Setting
from convlora.settings.declaration import FILES, GROUPS

Config = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="YAML file of settings, such as the config.yaml of a run, or recipe:NAME (see 'convlora recipes').",
        show_default=False,
        rich_help_panel=FILES,
    ),
]
Set = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Change any setting of config.yaml, such as data.workers=4. May be repeated.",
        show_default=False,
        rich_help_panel=FILES,
    ),
]
Json = Annotated[bool, typer.Option("--json", metavar="", help=JSON_HELP, rich_help_panel=FILES)]


class GroupedCommand(PlainCommand):
    """A command whose `--help` stands in the last group instead of one of its own before all others."""

    def get_help_option(self, ctx: Any) -> Any:
        """The option `--help`."""
        option = super().get_help_option(ctx)
        if option is not None:
            option.rich_help_panel = FILES
        return option


def setting_option(key: str, *, group: str | None = None) -> Any:
    """What Typer needs to know of the option of a setting.

    Args:
        key: The setting.
        group: The group in `--help` if it is not the one that was declared; empty: none.
    """
    setting = SETTINGS[key]
    option = setting.about.option
    assert option is not None, f"{key} has no option"  # noqa: S101 - our own mistake
    help_text = (option.help or setting.about.help).replace("[", r"\[")
    if not option.flag.startswith("-"):
        return typer.Argument(metavar=option.flag, help=help_text, show_default=False)
    default = setting.default_in_words.replace("`", "")
    if "/" not in option.flag and default != "none":
        help_text += f" [dim]\\[default: {default}][/dim]"
    return typer.Option(
        option.flag,
        metavar="" if "/" in option.flag else option.metavar or "|".join(setting.choices),
        help=help_text,
        show_default=False,
        rich_help_panel=option.group if group is None else group or None,
    )


def takes_settings(*, without: Collection[str] = ()) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Adds the options of settings to a command.

    The command gets what was given of them as `given`. Values are texts, which are converted with those of files.

    Args:
        without: Settings that the command has no option for.
    """
    settings = {
        setting.key.replace(".", "_"): setting
        for setting in SETTINGS.values()
        if setting.about.option is not None and setting.key not in without
    }

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        own = inspect.signature(command, eval_str=True)

        @functools.wraps(command)
        def with_settings(**values: Any) -> None:
            given: Given = {}
            for name, setting in settings.items():
                value = values.pop(name)
                if value is not None:
                    given.setdefault(setting.section, {})[setting.name] = value
            command(**values, given=given)

        parameters = [_keyword(parameter) for parameter in own.parameters.values() if parameter.name != "given"]
        parameters += [_parameter(name, setting) for name, setting in settings.items()]
        with_settings.__annotations__ = {}  # Typer would evaluate them a second time
        with_settings.__signature__ = own.replace(  # type: ignore[attr-defined]
            parameters=sorted(parameters, key=_place)
        )
        return with_settings

    return decorate


def _keyword(parameter: inspect.Parameter) -> inspect.Parameter:
    return parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY)


def _parameter(name: str, setting: Setting) -> inspect.Parameter:
    is_switch = setting.about.option is not None and "/" in setting.about.option.flag
    kind = Annotated[bool | None if is_switch else str | None, setting_option(setting.key)]  # type: ignore[valid-type]
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=kind)


def _place(parameter: inspect.Parameter) -> int:
    """Groups come in the order in which they were declared, after those of the command itself."""
    panel = parameter.annotation.__metadata__[0].rich_help_panel
    return GROUPS.index(panel) if panel in GROUPS else -1
