"""Draws the figure of the documentation's page on the method.

python scripts/method_figure.py docs/method.svg
"""

from __future__ import annotations

import sys
from pathlib import Path

FROZEN, TRAINED, DATA, LINE = "#cfd8dc", "#ffcc80", "#ffffff", "#37474f"
WIDTH, HEIGHT = 960, 590


def box(x: int, y: int, width: int, height: int, lines: str, fill: str) -> str:
    """A labelled box; a line break in `lines` separates its lines of text."""
    rows = lines.split("\n")
    top = y + height / 2 - 9 * (len(rows) - 1) + 5
    words = "".join(
        f'<text x="{x + width / 2}" y="{top + 18 * place}" text-anchor="middle">{row}</text>'
        for place, row in enumerate(rows)
    )
    return f'<rect x="{x}" y="{y}" width="{width}" height="{height}" rx="6" fill="{fill}" stroke="{LINE}"/>{words}'


def arrow(*points: tuple[int, int]) -> str:
    """A line through points, with a head at its end."""
    path = " ".join(f"{x},{y}" for x, y in points)
    return f'<polyline points="{path}" fill="none" stroke="{LINE}" stroke-width="1.5" marker-end="url(#head)"/>'


def note(x: int, y: int, text: str, anchor: str = "middle") -> str:
    """Small text without a box."""
    return f'<text x="{x}" y="{y}" text-anchor="{anchor}" font-size="13" fill="{LINE}">{text}</text>'


def title(x: int, y: int, text: str) -> str:
    """A heading."""
    return f'<text x="{x}" y="{y}" font-size="17" font-weight="bold">{text}</text>'


def whole_model() -> list[str]:
    """The upper half: from the image to the mask."""
    return [
        title(20, 30, "The model"),
        box(20, 70, 100, 60, "image", DATA),
        arrow((120, 100), (170, 100)),
        box(170, 55, 300, 90, "image encoder of SAM (frozen)\nsees patches of 16 × 16 pixels", FROZEN),
        box(220, 150, 200, 34, "Conv-LoRA in every block", TRAINED),
        arrow((470, 100), (540, 100)),
        note(505, 90, "1/16 size"),
        box(540, 55, 200, 90, "mask decoder of SAM\n(trained)", TRAINED),
        arrow((740, 100), (820, 100)),
        note(780, 90, "1/2 size"),
        box(820, 70, 110, 60, "mask", DATA),
        arrow((70, 130), (70, 240), (170, 240)),
        box(170, 215, 300, 50, "detail branch (trained, optional)", TRAINED),
        arrow((470, 240), (640, 240), (640, 147)),
        note(555, 232, "sees single pixels"),
    ]


def layer() -> list[str]:
    """The lower half: one adapted projection."""
    return [
        f'<line x1="20" y1="290" x2="{WIDTH - 20}" y2="290" stroke="{LINE}" stroke-dasharray="4 4"/>',
        title(20, 325, "One Conv-LoRA layer"),
        box(20, 430, 90, 60, "feature\nmap", DATA),
        arrow((65, 430), (65, 372), (400, 372)),
        box(400, 345, 160, 54, "projection of SAM\n(frozen)", FROZEN),
        arrow((560, 372), (875, 372), (875, 440)),
        arrow((110, 460), (150, 460)),
        box(150, 430, 110, 60, "A: to r = 3\nchannels", TRAINED),
        arrow((260, 460), (310, 460)),
        box(310, 425, 410, 70, "", DATA),
        box(322, 437, 98, 46, "enlarge × s", DATA),
        arrow((420, 460), (442, 460)),
        box(442, 437, 140, 46, "3 × 3 convolution", TRAINED),
        arrow((582, 460), (604, 460)),
        box(604, 437, 106, 46, "reduce × 1/s", DATA),
        note(515, 417, "expert at scale s; there are eight, s = 1 to 8"),
        arrow((720, 460), (750, 460)),
        box(750, 430, 90, 60, "B: to all\nchannels", TRAINED),
        arrow((840, 460), (858, 460)),
        f'<circle cx="875" cy="460" r="16" fill="{DATA}" stroke="{LINE}"/>',
        '<text x="875" y="466" text-anchor="middle" font-size="18">+</text>',
        arrow((891, 460), (935, 460)),
        arrow((205, 490), (205, 545), (310, 545)),
        box(310, 520, 230, 50, "gate: picks one expert\nfor this map", TRAINED),
        arrow((425, 520), (425, 497)),
        box(640, 525, 22, 18, "", FROZEN),
        note(670, 539, "frozen weights of SAM", "start"),
        box(640, 551, 22, 18, "", TRAINED),
        note(670, 565, "trained weights", "start"),
    ]


def figure() -> str:
    """The whole figure as SVG."""
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" '
        'font-size="15" role="img" aria-label="How Conv-LoRA adapts SAM">'
        '<defs><marker id="head" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="7" markerHeight="7" orient="auto">'
        f'<path d="M0,0 L10,5 L0,10 z" fill="{LINE}"/></marker></defs>'
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#fafafa"/>'
    )
    return "\n".join([head, *whole_model(), *layer(), "</svg>"]) + "\n"


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(figure(), encoding="utf-8")
