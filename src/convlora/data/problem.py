"""One thing that is wrong, or looks wrong, with a data set."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Literal

Severity = Literal["error", "warning"]


@dataclass(frozen=True)
class Problem:
    """A finding about one file or one split.

    Args:
        kind: Short name of the sort of problem, such as `"missing-pair"` or `"size-mismatch"`.
        path: The file or folder at fault.
        message: One or two plain sentences that name the file and say what to do.
        severity: `"error"` when training on the data would fail or mislead, otherwise `"warning"`.
        split: The split that the file belongs to, if it is one file's or one split's.
    """

    kind: str
    path: str
    message: str
    severity: Severity = "error"
    split: str | None = None

    def of(self, split: str) -> Problem:
        """The same finding, said of a split."""
        return replace(self, split=split)

    def to_dict(self) -> dict[str, str | None]:
        """Returns the fields as plain JSON types."""
        return asdict(self)
