"""HTML pages with everything inside them: no script, font or picture of its own file."""

from __future__ import annotations

import base64
import io
import re
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from PIL import Image

from convlora.errors import printable
from convlora.storage import write_text

# Even an escape cannot bring these into XML; a file that holds one is not shown at all.
_FORBIDDEN = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def write_page(path: Path, template: str, **content: Any) -> Path:
    """Fills a template and writes the page whole or not at all.

    Args:
        path: The file.
        template: Name of a file in `templates`.
        **content: What the template shows. All text is escaped.

    Returns:
        The file.
    """
    write_text(path, render(template, **content))
    return path


def render(template: str, folder: Path | None = None, /, **content: Any) -> str:
    """Fills a template.

    Args:
        template: Name of a file in `templates`.
        folder: Another folder, in which it is looked for first.
        **content: What the template shows. All text is escaped.

    Returns:
        The page.
    """
    return without_forbidden(_templates(folder).get_template(template).render(content))


def without_forbidden(text: str) -> str:
    """Text with U+FFFD in place of what neither HTML nor SVG may hold."""
    return _FORBIDDEN.sub("\ufffd", text)


def embedded(picture: Image.Image, side: int = 320) -> str:
    """A picture as an address that holds it, at most `side` pixels wide and high."""
    picture = picture.convert("RGB")
    picture.thumbnail((side, side))
    memory = io.BytesIO()
    picture.save(memory, format="JPEG", quality=88, subsampling=0)  # or thin lines would lose their colour
    return f"data:image/jpeg;base64,{base64.b64encode(memory.getvalue()).decode()}"


@cache
def _templates(folder: Path | None = None) -> Environment:
    own = Path(__file__).parent / "templates"
    environment = Environment(
        loader=FileSystemLoader([own] if folder is None else [folder, own]),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_shown,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["score"] = score_text
    return environment


def _shown(value: Any) -> Any:
    """Names of files may turn the writing direction of the text after them; markup of ours stays as it is."""
    return printable(value) if type(value) is str else value


def score_text(value: float | None, digits: int = 3) -> str:
    """A score with a few decimals; a dash where there is none."""
    return "-" if value is None else f"{value:.{digits}f}"
