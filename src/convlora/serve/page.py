"""The page that a server shows: one document with its own style and script."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from convlora.report.pages import render
from convlora.serve.limits import Limits
from convlora.storage import finite

_TEMPLATES = Path(__file__).parent / "templates"
_SCRIPT = re.compile(r"<script>(.*?)</script>", re.DOTALL)


def page_of(runs: Sequence[dict[str, Any]], limits: Limits) -> str:
    """Makes the page.

    Args:
        runs: What is told about each run.
        limits: What the server takes.
    """
    return render(
        "serve.html",
        _TEMPLATES,
        runs=runs,
        # Inside a script nothing is escaped by HTML's rules, and '<' could end it.
        facts=json.dumps(finite(list(runs)), allow_nan=False).replace("<", "\\u003c"),
        megabytes=f"{limits.upload_bytes / 2**20:g}",
        megapixels=f"{limits.pixels / 1e6:g}",
    )


def content_security_policy(page: str) -> str:
    """What a browser may do with the page: run its own script, show pictures that it has made, and ask this server."""
    digests = [base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in _SCRIPT.findall(page)]
    scripts = " ".join(f"'sha256-{digest}'" for digest in digests)
    return (
        f"default-src 'none'; script-src {scripts}; style-src 'unsafe-inline'; img-src data: blob:; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
