"""Reads damaged files for a while: `python -m tests.fuzz SECONDS [FOLDER]`; findings are kept in FOLDER."""

import sys
from pathlib import Path

from tests.fuzz.fuzzing import fuzz
from tests.fuzz.readers import READERS

if __name__ == "__main__":
    seconds = float(sys.argv[1])
    keep = Path(sys.argv[2]) if len(sys.argv) > 2 else Path(__file__).parent / "corpus"
    for name in READERS:
        files, found = fuzz(name, seconds=seconds / len(READERS), seed=None, keep=keep)
        sys.stdout.write(f"{name}: {files} files read, {len(found)} findings\n")
        for text in found:
            sys.stdout.write(f"  {text}\n")
        sys.stdout.flush()
