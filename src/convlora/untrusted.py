"""Reading text files of strangers: nothing but plain values, small enough and not too deep."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml

from convlora.errors import quoted, shown
from convlora.ordinary import open_ordinary

LARGEST = 16 << 20  # bytes; class tables are a thousandth of it
LARGEST_YAML = 1 << 20  # likewise of settings; reading YAML is slow


class UnreadableError(ValueError):
    """The content is not what it should be; the message is a clause that tells why."""


class _PlainLoader(yaml.SafeLoader):
    """YAML without aliases: a few lines of them can stand for billions of values."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        event = self.peek_event()
        if isinstance(event, yaml.AliasEvent):
            raise UnreadableError("it uses aliases ('*name'), which settings do not need")
        if getattr(event, "tag", None) not in (None, "!"):
            raise UnreadableError(f"it uses the tag '{event.tag}', which settings do not need")
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Mappings whose keys all differ: of equal ones only the last would count."""
        mapping: dict[Any, Any] = super().construct_mapping(node, deep)
        if len(mapping) < len(node.value):
            raise UnreadableError(_repeated(self.construct_object(key) for key, _ in node.value))
        return mapping

    def number(self, node: yaml.ScalarNode) -> Any:
        """Numbers but those to the base of 60, such as 1:30:00: long ones take very long.

        A whole number with a zero before it is refused: YAML 1.1 takes 010 for 8, YAML 1.2 and people for 10.
        """
        if ":" in node.value:
            return node.value
        digits = node.value.lstrip("+-").replace("_", "")
        if node.tag.endswith(":int") and digits[0] == "0" and digits[1:].isdigit():
            plain = ("-" if node.value[0] == "-" else "") + (digits.lstrip("0") or "0")
            raise UnreadableError(
                f"it holds {shown(node.value)}, which some read to the base of 8; write {shown(plain)}, or quote it"
            )
        return self.construct_yaml_int(node) if node.tag.endswith(":int") else self.construct_yaml_float(node)


for _tag in ("tag:yaml.org,2002:int", "tag:yaml.org,2002:float"):
    _PlainLoader.add_constructor(_tag, _PlainLoader.number)


def parse_yaml(text: str) -> Any:
    """Reads YAML.

    Raises:
        UnreadableError: If it is none, uses aliases, gives a key twice or has a whole number such as 010, which is 8
            for some readers and 10 for others.
    """
    try:
        return yaml.load(text, Loader=_PlainLoader)  # noqa: S506 - a safe loader, with less
    except UnreadableError:
        raise
    except RecursionError as error:
        raise UnreadableError("it is nested too deeply") from error
    except (yaml.YAMLError, ValueError, OverflowError) as error:  # dates and numbers that are none
        raise UnreadableError(" ".join(str(error).split())) from error


def read_yaml(path: Path) -> Any:
    """Reads a YAML file.

    Raises:
        OSError: If it cannot be read.
        UnreadableError: If it is too large, or for what [`parse_yaml`] refuses.
    """
    return parse_yaml(_text(path, LARGEST_YAML))


def read_json(path: Path, largest: int = LARGEST) -> Any:
    """Reads a JSON file.

    Args:
        path: The file.
        largest: Its largest size in bytes.

    Raises:
        OSError: If it cannot be read.
        UnreadableError: If it is too large, or for what [`parse_json`] refuses.
    """
    return parse_json(_text(path, largest))


def parse_json(text: str) -> Any:
    """Reads JSON.

    Raises:
        UnreadableError: If it is none, holds NaN or Infinity, or gives a key twice. For repeated keys texts of more
            than 16 million characters are not searched, because they would take up to half as long again.
    """
    try:
        hook = unique_keys if len(text) <= LARGEST else None
        return json.loads(text, object_pairs_hook=hook, parse_constant=_no_number)
    except UnreadableError:
        raise
    except RecursionError as error:
        raise UnreadableError("it is nested too deeply") from error
    except ValueError as error:
        raise UnreadableError(str(error)) from error


def _no_number(name: str) -> Any:
    # Python reads and writes these, but JSON has none, and nobody reckons with them.
    raise UnreadableError(f"it holds {name}, which is no number")


def unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """For `json.loads(..., object_pairs_hook=...)`: of two values of one key Python would drop the first."""
    fields = dict(pairs)
    if len(fields) < len(pairs):
        raise UnreadableError(_repeated(key for key, _ in pairs))
    return fields


def _repeated(keys: Iterable[Any]) -> str:
    seen: set[Any] = set()
    for key in keys:
        if key in seen:
            return f"it gives {quoted(key)} twice; remove one of them"
        seen.add(key)
    return "it gives a key twice"


def read_text(path: Path, largest: int = LARGEST, errors: str = "strict") -> str:
    """Reads a text file in UTF-8, with or without a byte order mark.

    Args:
        path: The file.
        largest: Its largest size in bytes.
        errors: As of `bytes.decode`.

    Raises:
        OSError: If it cannot be read.
        UnicodeDecodeError: If it is no such text.
        UnreadableError: If it is too large.
    """
    with open_ordinary(path) as file:
        size = os.fstat(file.fileno()).st_size
        if size > largest:
            raise UnreadableError(f"it is larger than {largest >> 20} MB, the most that is read")
        content: bytes = file.read(size)  # as much memory as is asked for is taken first, so not up to the limit
    return content.decode("utf-8-sig", errors).replace("\r\n", "\n").replace("\r", "\n")


def read_bytes(path: Path) -> bytes:
    """The content of a file.

    Raises:
        OSError: If it cannot be read.
    """
    with open_ordinary(path) as file:
        content: bytes = file.read()
    return content


def read_lines(path: Path, largest: int = 1 << 30) -> list[dict[str, Any]]:
    """The JSON objects of a file that holds one a line; what is none, as when a process was killed, is left out.

    Args:
        path: The file.
        largest: Its largest size in bytes.

    Raises:
        OSError: If it cannot be read.
        UnreadableError: If it is too large.
    """
    return parse_lines(_text(path, largest, errors="replace"))


def parse_lines(text: str) -> list[dict[str, Any]]:
    """The JSON objects of a text that holds one a line, see [`read_lines`]."""
    entries = []
    for line in text.splitlines():
        try:
            entry = parse_json(line)
        except UnreadableError:
            continue
        if isinstance(entry, dict):
            entries.append(entry)
    return entries


def _text(path: Path, largest: int, errors: str = "strict") -> str:
    try:
        return read_text(path, largest, errors)
    except UnicodeDecodeError as error:
        raise UnreadableError("it is not UTF-8 text") from error
