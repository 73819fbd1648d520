"""Whoever reads the documentation learns of every method."""

from pathlib import Path

import pytest

from convlora.methods.registry import METHODS

DOCS = Path(__file__).parents[2] / "docs"
PAGES = {path: path.read_text(encoding="utf-8") for path in sorted(DOCS.rglob("*.md"))}


@pytest.mark.parametrize("name", METHODS)
def test_a_method_has_a_row_in_a_table_of_the_documentation(name):
    rows = [line for text in PAGES.values() for line in text.splitlines() if line.startswith("|")]
    # Some share a row: `late-lora`, `late-conv-lora`.
    assert any(f"`{name}`" in row.split("|")[1] for row in rows)
