"""Figures of matplotlib as part of a page, and as SVG and PDF files that are the same each time they are drawn."""

from __future__ import annotations

import hashlib
import io
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from markupsafe import Markup, escape

from convlora.errors import printable
from convlora.report.pages import without_forbidden
from convlora.storage import replacing_file

if TYPE_CHECKING:  # matplotlib takes a second to import, so it is loaded where something is drawn
    from matplotlib.figure import Figure

# Okabe and Ito's colours, which people with any colour vision can tell apart. The yellow is left out: it is too light.
COLOURS = ("#0072b2", "#e69f00", "#009e73", "#d55e00", "#cc79a7", "#56b4e9", "#333333")
DASHES = ("-", "--", ":", "-.")
MARKERS = "osD^vP*X"
_FONT = "DejaVu Sans"  # comes with matplotlib
_RC: dict[str, Any] = {
    "font.family": [_FONT],
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#dddddd",
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "text.parse_math": False,  # a name may hold dollar signs
    "svg.fonttype": "none",  # text stays text
    "pdf.fonttype": 42,  # so that journals accept it
}
_UNUSED_ID = re.compile(r' id="[A-Za-z0-9.]+_\d+"')


@dataclass(frozen=True)
class Drawing:
    """A figure with its title; nothing is added to it any more.

    Attributes:
        title: Shown above it, and read out to those who cannot see it.
        figure: The figure.
    """

    title: str
    figure: Figure

    def inline(self) -> Markup:
        """The SVG element for a page."""
        svg = self.svg
        label = escape(without_forbidden(printable(self.title)))
        # Several figures share a page, where the same name may stand once only.
        svg = _UNUSED_ID.sub("", svg[svg.index("<svg") :])
        svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
        return Markup(svg.replace("<svg", f'<svg role="img" aria-label="{label}"', 1))  # noqa: S704 - escaped

    @cached_property
    def svg(self) -> str:
        """The content of an SVG file, which is laid out once for a file and a page."""
        return without_forbidden(self._saved("svg", {"Date": None}).decode("utf-8"))

    def save(self, stem: Path) -> None:
        """Writes `stem.svg` for the screen and `stem.pdf` for papers."""
        with replacing_file(stem.with_suffix(".svg")) as temporary:
            temporary.write_text(self.svg, encoding="utf-8")
        with replacing_file(stem.with_suffix(".pdf")) as temporary:
            temporary.write_bytes(self._saved("pdf", {"CreationDate": None}))

    def _saved(self, kind: str, metadata: dict[str, Any]) -> bytes:
        memory = io.BytesIO()
        with drawing_style(self.title), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self.figure.savefig(memory, format=kind, metadata=metadata)
        return memory.getvalue()


@contextmanager
def drawing_style(title: str = "") -> Iterator[None]:
    """Our own settings in place of those of the user's matplotlibrc.

    Args:
        title: Title of the figure. Names inside an SVG are made from it, so those of two figures differ.
    """
    import matplotlib

    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        salt = hashlib.blake2b(title.encode("utf-8", "replace"), digest_size=8).hexdigest()
        settings: Any = _RC | {"svg.hashsalt": salt}
        matplotlib.rcParams.update(settings)
        yield


def new_figure(width: float, height: float) -> Figure:
    """An empty figure of a size in inches; call it and draw inside [`drawing_style`]."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def drawable(text: str, longest: int = 28) -> str:
    """A name as a plot can show it: what the font lacks becomes U+FFFD, and a long name loses its end."""
    known = _known_signs()
    text = "".join(sign if ord(sign) in known and sign.isprintable() else "\ufffd" for sign in text)
    return text if len(text) <= longest else f"{text[: longest - 1]}…"


@cache
def _known_signs() -> frozenset[int]:
    from matplotlib.font_manager import findfont, get_font

    return frozenset(get_font(findfont(_FONT)).get_charmap())
