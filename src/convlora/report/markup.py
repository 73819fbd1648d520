"""Text of users in HTML and SVG."""

from __future__ import annotations

import html
import re

# What no XML may hold, not even escaped; SVG files with it are not shown at all.
_FORBIDDEN = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def escaped(text: str) -> str:
    """Text as part of an HTML or SVG file; signs that cannot stand there become U+FFFD, which is shown as such."""
    return html.escape(_FORBIDDEN.sub("\ufffd", text))
