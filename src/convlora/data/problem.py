"""One thing that is wrong, or looks wrong, with a data set."""

from dataclasses import asdict, dataclass
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
    """

    kind: str
    path: str
    message: str
    severity: Severity = "error"

    def to_dict(self) -> dict[str, str]:
        """Returns the four fields as plain JSON types."""
        return asdict(self)
