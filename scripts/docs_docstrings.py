"""Makes our docstrings into what mkdocstrings understands; a plugin of the library that it reads code with."""

from __future__ import annotations

import re
from typing import Any

import griffe


class Docstrings(griffe.Extension):
    """Names the sections as mkdocstrings expects them, and shows names of code as code."""

    def on_object(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        """Changes the docstring of a module, class, function or attribute before it is parsed."""
        if obj.docstring is not None:
            text = re.sub(r"^(\s*)Example:$", r"\1Examples:", obj.docstring.value, flags=re.MULTILINE)
            text = text.replace("  # doctest: +SKIP", "")
            obj.docstring.value = re.sub(r"\[(`[\w.]+`)\]", r"\1", text)
