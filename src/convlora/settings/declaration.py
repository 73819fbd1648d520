"""What is said about a setting beside its type and its range.

A setting is a field of a dataclass: `lr: Annotated[float | None, Interval(gt=0), About("...")] = None`. Ranges are
those of `annotated_types`, which pydantic understands. The modules of the sections do without
`from __future__ import annotations`, because evaluating texts would make `--help` slower.
"""

from __future__ import annotations

from dataclasses import dataclass

# Groups of options in `--help`, in the order in which they are shown.
BASICS, MEMORY, ADVANCED, FILES = "Basics", "Memory and speed", "Advanced", "Settings files and output"
GROUPS = (BASICS, MEMORY, ADVANCED, FILES)


@dataclass(frozen=True)
class Option:
    """The option of a setting on the command line.

    Attributes:
        flag: Such as `--lr`; with `/` between both for one that is on or off; without dashes for an argument.
        group: Its group in `--help`; empty for an argument.
        metavar: What stands for its value in `--help`; empty: the choices of the setting.
        help: Its help; empty: that of the setting.
    """

    flag: str
    group: str = ""
    metavar: str = ""
    help: str = ""

    @property
    def name(self) -> str:
        """What messages call it."""
        return self.flag.partition("/")[0]


@dataclass(frozen=True)
class About:
    """What people read about a setting.

    Attributes:
        help: One plain sentence.
        more: What `docs/settings.md` adds, in Markdown.
        default: The default in words, where its value does not say enough.
        must_be: What its value must be, in words, where type and range do not say it well.
        option: Its option on the command line; None: it has none, and is set by `--set` or in a file.
    """

    help: str
    more: str = ""
    default: str = ""
    must_be: str = ""
    option: Option | None = None
