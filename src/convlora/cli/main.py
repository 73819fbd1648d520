"""The program `convlora`."""

from __future__ import annotations

import inspect as inspect_source
import sys
from collections.abc import Callable
from typing import Annotated

import typer

from convlora import __version__
from convlora.allocator import save_memory_if_short
from convlora.cli import (
    compare,
    data,
    evaluate,
    export,
    import_run,
    inspect,
    models,
    predict,
    push,
    quickstart,
    recipes,
    report,
    serve,
    train,
)
from convlora.cli.console import show_error
from convlora.cli.failures import FAILURE, exit_code_for
from convlora.cli.interruption import TYPERS_EXIT_CODE, interrupted_message, terminated_like_interrupted
from convlora.cli.plain_help import PlainCommand, PlainGroup
from convlora.cli.processes import leave_process_group
from convlora.cli.training_options import GroupedCommand
from convlora.cores import wait_asleep

app = typer.Typer(
    name="convlora",
    cls=PlainGroup,
    help="Fine-tune the Segment Anything Model on your own images with Conv-LoRA.",
    epilog="Start with: convlora quickstart. Exit codes: 0 done, 1 a failure in the run, 2 bad usage or bad input.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _as_help(command: Callable[..., None]) -> str:
    """A docstring with each paragraph on one line. Typer would keep the line breaks, and take brackets for markup."""
    paragraphs = (inspect_source.getdoc(command) or "").replace("[", r"\[").split("\n\n")
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs)


_CLASSES = {train.train: GroupedCommand, compare.compare: GroupedCommand}
for _command in (
    quickstart.quickstart,
    train.train,
    evaluate.evaluate,
    predict.predict,
    compare.compare,
    export.export,
    inspect.inspect,
    models.models,
    report.report,
    serve.serve,
    import_run.import_,
    push.push,
):
    app.command(_command.__name__.rstrip("_"), help=_as_help(_command), cls=_CLASSES.get(_command, PlainCommand))(
        _command
    )
for _name, _group in {"data": data.app, "recipes": recipes.app}.items():
    for _below in _group.registered_commands:
        assert _below.callback is not None  # noqa: S101 - our own mistake
        _below.help, _below.cls = _as_help(_below.callback), PlainCommand
    app.add_typer(_group, name=_name, cls=PlainGroup)


def _show_version(value: bool) -> None:
    if value:
        typer.echo(f"convlora {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", help="Show the version and stop.", callback=_show_version, is_eager=True)
    ] = False,
    debug: Annotated[
        bool, typer.Option("--debug", help="Show the traceback of an error. Works at any place of a command.")
    ] = False,
) -> None:
    """Options that come before the command."""


def run(arguments: list[str] | None = None) -> None:
    """Runs the program and ends the process with its exit code."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in arguments
    save_memory_if_short()
    wait_asleep()  # before PyTorch is loaded
    arguments = [argument for argument in arguments if argument != "--debug"]
    command = next((argument for argument in arguments if not argument.startswith("-")), "")
    try:
        with terminated_like_interrupted():
            code = app(arguments, standalone_mode=False)
        if code == TYPERS_EXIT_CODE:
            show_error(interrupted_message(command))
            code = FAILURE
    except BaseException as error:
        code = exit_code_for(error, debug, command)
    leave_process_group()
    sys.exit(code if isinstance(code, int) else 0)


if __name__ == "__main__":
    run()
