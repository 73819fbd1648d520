"""Messages name options as the command line has them, `--image-size`; Python users read `image_size`."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from convlora.errors import InputError, RunError

_Given = ParamSpec("_Given")
_Returned = TypeVar("_Returned")

_COMMAND = re.compile(r"(?:torchrun |accelerate launch )?convlora [a-z].*?(?=\.(?:\s|$)|$)", re.DOTALL)
_SET = re.compile(r"(?<!\S)--set (?:[a-z]+\.)?(\w+)=([^\s,;:]*[^\s,;:.])")
_SWITCH = re.compile(r"(?<![\w-])--(no-)?(cache|resume|tile|tta|objects|probabilities|activation-checkpointing)\b(?!-)")
_CHOICE = re.compile(
    r"(?<![\w-])--(device|precision|memory|detail|on-bad-image|split|image-size|tile-size|polygons|labels|format|threshold|"
    r"instances|engine) "
    r"((?:auto|cpu|cuda(?::\d+)?|mps|fp32|bf16|fp16|none|half|full|skip|stop|geojson|coco|cvat|labelstudio|onnx|torch|local|ray|"
    r"\d+(?:x\d+)?)\b)"
)
_CALLS = {
    "Give the same command": "Make the same call",
    "give the same command": "make the same call",
    "Give the command": "Make the call",
    "give the command": "make the call",
    "the same command": "the same call",
}
_OPTION = re.compile(r"(?<![\w-])--([a-z]+(?:-[a-z]+)*)")


def in_python(text: str) -> str:
    """A message in the words of a Python user: `--image-size 512` becomes `image_size=512`.

    Whole commands, such as `convlora data check DATA`, stay as they are.
    """
    pieces, end = [], 0
    for command in _COMMAND.finditer(text):
        pieces += [_arguments(text[end : command.start()]), command.group()]
        end = command.end()
    return "".join([*pieces, _arguments(text[end:])])


def _arguments(text: str) -> str:
    for command, call in _CALLS.items():
        text = text.replace(command, call)
    text = _SET.sub(lambda found: f"{found[1]}={_literal(found[2])}", text)
    text = _SWITCH.sub(lambda found: f"{_name(found[2])}={not found[1]}", text)
    text = _CHOICE.sub(lambda found: f"{_name(found[1])}={_literal(found[2])}", text)
    return _OPTION.sub(lambda found: _name(found[1]), text)


def _name(option: str) -> str:
    return "from_run" if option == "from" else option.replace("-", "_")  # Python keeps the word for itself


def _literal(value: str) -> str:
    if value == "null":
        return "None"
    if re.fullmatch(r"[\d.e+-]+|\[.*\]", value):
        return value
    return f'"{value}"'


def speaks_python(function: Callable[_Given, _Returned]) -> Callable[_Given, _Returned]:
    """A function whose errors name arguments where those of the command name options."""

    @functools.wraps(function)
    def call(*args: _Given.args, **kwargs: _Given.kwargs) -> _Returned:
        try:
            return function(*args, **kwargs)
        except (InputError, RunError) as error:
            error.args = tuple(in_python(one) if isinstance(one, str) else one for one in error.args)
            raise

    return call
