"""What the README beside an adapter says of loading it."""

from __future__ import annotations

import os
import re
from pathlib import Path

from convlora.ordinary import ordinary

_HEADING = "## How to Get Started with the Model"
_UNFILLED = "[More Information Needed]"
_TEXT = """This adapter needs the package `convlora`, which makes its method known to PEFT. Without the first line PEFT
stops with a `KeyError`.

```python
import convlora  # noqa: F401
from peft import PeftModel

model = PeftModel.from_pretrained(base_model, "FOLDER OR REPOSITORY OF THIS ADAPTER")
```
"""


def tell_how_to_load(folder: str | os.PathLike[str]) -> None:
    """Completes the card that PEFT has written beside an adapter, unless it speaks of convlora already.

    Args:
        folder: Where the adapter is. The card of an adapter with a name of its own is in the folder above.
    """
    for card in (Path(folder) / "README.md", Path(folder).parent / "README.md"):
        if card.is_file():
            text = ordinary(card).read_text(encoding="utf-8")
            if "library_name: peft" in text and not re.search(r"^(import|from) convlora\b", text, re.MULTILINE):
                card.write_text(_completed(text), encoding="utf-8")
            return


def _completed(text: str) -> str:
    before, heading, after = text.partition(_HEADING)
    if heading and _UNFILLED in after.split("\n## ")[0]:
        return before + heading + after.replace(_UNFILLED, _TEXT.rstrip(), 1)
    return text.rstrip() + f"\n\n{_HEADING}\n\n{_TEXT}"
