"""Pages of the documentation that mkdocs makes while it builds: the commands, and the notebooks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the pages that are not in the repository; mkdocs calls this once it has listed those that are."""
    import sys

    from mkdocs.structure.files import File

    sys.path.insert(0, str(Path(__file__).parent))
    from command_reference import command_reference

    pages = {"commands.md": command_reference()}
    for notebook in sorted((Path(config.docs_dir) / "notebooks").glob("*.ipynb")):
        pages[f"notebooks/{notebook.stem}.md"] = notebook_page(notebook)
    for name, text in pages.items():
        files.append(File.generated(config, name, content=text))
    return files


def notebook_page(notebook: Path) -> str:
    """A notebook as Markdown: its text as it is, its code in fences.

    Args:
        notebook: The `.ipynb` file; outputs in it are left out.
    """
    parts = []
    for cell in json.loads(notebook.read_text(encoding="utf-8"))["cells"]:
        text = "".join(cell["source"])
        parts.append(f"```python\n{text}\n```" if cell["cell_type"] == "code" else text)
    parts.append(f"This page is the notebook `docs/notebooks/{notebook.name}`. Open it in Jupyter to run it.")
    return "\n\n".join(parts) + "\n"
