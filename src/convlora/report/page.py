"""An HTML page without anything outside it: no script, no font, no picture of its own file."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from convlora.report.markup import escaped
from convlora.storage import write_text

MOST_COLUMNS = 8  # of pictures, before they become too small to judge

_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; color: #222; background: #fff; }
body { max-width: 62rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.6rem; } h2 { font-size: 1.2rem; margin-top: 2.2rem; }
table { border-collapse: collapse; } .table { overflow-x: auto; }
th, td { padding: .25rem .6rem; text-align: left; border-bottom: 1px solid #ddd; }
td:first-child { white-space: nowrap; }
td.n, th.n { text-align: right; font-variant-numeric: tabular-nums; }
.pictures { display: grid; gap: .4rem; } .pictures img { width: 100%; display: block; }
.many { grid-template-columns: repeat(auto-fill, minmax(9.5rem, 1fr)); margin-bottom: 1.6rem; }
figure { margin: 0; } figcaption { font-size: .75rem; overflow-wrap: anywhere; }
pre { background: #f4f4f4; padding: .8rem; overflow-x: auto; } svg { max-width: 100%; height: auto; }
small { color: #666; }
"""


class Page:
    """Collects the parts of a report and writes them.

    Args:
        title: Of the page.
    """

    def __init__(self, title: str) -> None:
        self.title = title
        self._parts: list[str] = [f"<h1>{escaped(title)}</h1>"]

    def heading(self, text: str) -> None:
        """A heading below the title's."""
        self._parts.append(f"<h2>{escaped(text)}</h2>")

    def text(self, text: str, small: bool = False) -> None:
        """A paragraph."""
        inner = escaped(text)
        self._parts.append(f"<p>{f'<small>{inner}</small>' if small else inner}</p>")

    def code(self, text: str) -> None:
        """Commands to copy."""
        self._parts.append(f"<pre>{escaped(text)}</pre>")

    def table(self, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """A table; all columns but the first hold numbers."""

        def line(cells: Sequence[str], tag: str) -> str:
            return "".join(
                f"<{tag}{' class=n' if number else ''}>{escaped(cell)}</{tag}>" for number, cell in enumerate(cells)
            )

        body = "".join(f"<tr>{line(row, 'td')}</tr>" for row in rows)
        self._parts.append(f'<div class="table"><table><tr>{line(header, "th")}</tr>{body}</table></div>')

    def svg(self, drawing: str) -> None:
        """A drawing made by [`convlora.report.plots`]."""
        self._parts.append(drawing)

    def pictures(self, header: Sequence[str], rows: Sequence[Sequence[Image.Image]]) -> None:
        """Rows of pictures under headings; with many columns, each picture with its own, as many in a line as fit."""
        if len(header) > MOST_COLUMNS:
            for row in rows:
                figures = [
                    f'<figure><img alt="{escaped(name)}" src="{_embed(picture)}">'
                    f"<figcaption>{escaped(name)}</figcaption></figure>"
                    for name, picture in zip(header, row, strict=True)
                ]
                self._parts.append(f'<div class="pictures many">{"".join(figures)}</div>')
            return
        cells = [f"<b>{escaped(name)}</b>" for name in header]
        cells += [
            f'<img alt="{escaped(name)}" src="{_embed(picture)}">'
            for row in rows
            for name, picture in zip(header, row, strict=True)
        ]
        columns = f"grid-template-columns: repeat({len(header)}, 1fr)"
        self._parts.append(f'<div class="pictures" style="{columns}">{"".join(cells)}</div>')

    def write(self, path: Path) -> None:
        """Writes the page whole or not at all."""
        write_text(
            path,
            f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{escaped(self.title)}</title>'
            f'<meta name="viewport" content="width=device-width"><style>{_STYLE}</style></head>\n<body>\n'
            + "\n".join(self._parts)
            + "\n</body></html>\n",
        )


def _embed(picture: Image.Image, side: int = 320) -> str:
    """A picture as part of the page, at most `side` pixels wide and high."""
    picture = picture.convert("RGB")
    picture.thumbnail((side, side))
    memory = io.BytesIO()
    picture.save(memory, format="JPEG", quality=88)
    return f"data:image/jpeg;base64,{base64.b64encode(memory.getvalue()).decode()}"
