"""The data of a run: checked before anything is trained, and without the files that are to be left out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from convlora.data.checking.check import MASKS_SAMPLED, check_data
from convlora.data.checking.facts import Progress
from convlora.data.classes.class_table import ClassTable
from convlora.data.problem import Problem
from convlora.data.reading.bands import BandReading, Reading
from convlora.data.reading.stored import is_first_part
from convlora.data.reading.volumes.slicing import Slicing
from convlora.data.sample import Sample
from convlora.data.sources.groups import read_groups
from convlora.data.sources.opening import DataSource, open_data
from convlora.errors import InputError
from convlora.training.bands import config_reading
from convlora.training.config import RunConfig
from convlora.untrusted import read_json

SKIPPED = "skipped.json"
READ_WHOLE_UP_TO = 1000  # images; reading more before every start would be felt
_WARNINGS_TOLD = 3


@dataclass
class UsableData:
    """What a run is made with.

    Attributes:
        source: The data set, without the files that are left out.
        classes: Its classes.
        skipped: `path`, `split` and `reason` of each file that is left out; None if none may be.
        values: Pixels per value of the masks that were read, see `CheckReport.values`.
        listed: All samples by split, also those that are left out.
    """

    source: DataSource
    classes: ClassTable
    skipped: list[dict[str, str]] | None = None
    values: dict[int, Counter[int]] = field(default_factory=dict)
    listed: dict[str, list[Sample]] = field(default_factory=dict)

    def groups(self) -> dict[int, str]:
        """The groups of `groups.csv`, see [`convlora.data.sources.groups.read_groups`]."""
        left_out = [entry["path"] for entry in self.skipped or ()]
        return read_groups(self.source, self.listed or self.source.splits, left_out)


def load_data(config: RunConfig, tell: Callable[[str], None], progress: Progress | None = None) -> UsableData:
    """Opens and checks the data of a run.

    Data sets of up to `READ_WHOLE_UP_TO` images are read whole, larger ones only if bad files are to be left out.

    Args:
        config: Settings of the run.
        tell: Receives sentences for the user.
        progress: Shows a progress bar, see `check_data`.

    Raises:
        InputError: If the data cannot be trained on.
    """
    source = open_data(str(config.data.path), slicing=Slicing.of(asdict(config.data)))
    leave_out = config.data.on_bad_image == "skip"
    count = sum(map(len, source.splits.values()))
    full = leave_out or count <= READ_WHOLE_UP_TO
    if not full:
        tell(
            f"Of {count:,} images only the headers and {MASKS_SAMPLED} masks are checked now. To have every file read "
            f"before training: convlora data check {source.root}"
        )
    elif count > READ_WHOLE_UP_TO:
        tell(f"Reading {count:,} images and their masks once, to leave out those that cannot be used.")
    reading = config_reading(config)
    report = check_data(
        source,
        full=full,
        progress=progress,
        intensity=reading,
        leave_out=leave_out,
        in_windows=config.data.window is not None,
    )
    # Copies in two splits make scores too good, but published data sets have them too.
    doubles = [problem for problem in report.errors if problem.kind == "duplicate-image"]
    report.problems = [problem for problem in report.problems if problem not in doubles]
    report.raise_errors(remedy=_what_helps(source, report.errors, reading))
    if report.classes is None:
        raise InputError(
            f"The masks of {source.root} do not show what its classes are. Run: convlora data check {source.root}"
        )
    if config.data.folds is not None:  # copies in train and val come into one fold
        doubles = [problem for problem in doubles if problem.split == "test"]
    warnings = [problem.message for problem in (*doubles, *report.warnings)]
    for warning in warnings[:_WARNINGS_TOLD]:
        tell(f"Warning: {warning}")
    if len(warnings) > _WARNINGS_TOLD:
        tell(f"There are {len(warnings) - _WARNINGS_TOLD} more warnings; see: convlora data check {source.root}")
    skipped = None
    if leave_out:
        skipped = [
            {"path": problem.path, "split": str(problem.split), "reason": problem.message} for problem in report.skipped
        ]
    used = replace(source, splits=report.splits, problems=[])
    return UsableData(used, report.classes, skipped, report.values, source.splits)


def _what_helps(source: DataSource, errors: list[Problem], reading: Reading) -> str:
    """What else can be said where there are more errors than are spelled out."""
    if isinstance(reading, BandReading):  # which is a setting, and `data check` reads none
        return ""
    faulty = {problem.path for problem in errors}
    images = [sample.image for samples in source.splits.values() for sample in samples if is_first_part(sample.image)]
    if all(str(image) in faulty for image in images):
        return ""  # nothing would be left, so that a setting or all files are wrong
    return "convlora data check lists all of them, --on-bad-image skip leaves bad files out"


def check_skipped(output: Path, data: UsableData) -> None:
    """Refuses to go on with a run that would leave out other files than before.

    Raises:
        InputError: If the list in the run folder is another one, or damaged.
    """
    if data.skipped is None:
        return
    try:
        entries = read_json(output / SKIPPED, largest=1 << 30) if (output / SKIPPED).exists() else []
        stored = [(str(entry["split"]), str(entry["path"])) for entry in entries]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{output / SKIPPED} is damaged. Restore it, or start a new run with another --output."
        ) from error
    # A run that was killed when it had just received another path has stored it already.
    roots = (Path(str(RunConfig.load(output / "config.yaml").data.path)), data.source.root)
    before = _relative(stored, *roots)
    now = _relative([(entry["split"], entry["path"]) for entry in data.skipped], data.source.root)
    different = sorted(((before - now) + (now - before)).elements())
    if not different:
        return
    split, path = different[0]
    was = "was left out and no longer is" if (split, path) in before else "would be left out now and was not before"
    more = f" (and {len(different) - 1} more differ)" if len(different) > 1 else ""
    raise InputError(
        f"The run {output} cannot be resumed, because the order of the images would be another: {path} in {split} "
        f"{was}{more}. Restore the data, or start a new run with another --output."
    )


def _relative(files: list[tuple[str, str]], *roots: Path) -> Counter[tuple[str, str]]:
    """Files by their place in the data set, which may have been moved since."""
    folders = [root.parent if root.suffix.lower() in (".csv", ".tsv", ".txt", ".json") else root for root in roots]
    return Counter((split, _place(Path(path), folders)) for split, path in files)


def _place(path: Path, folders: list[Path]) -> str:
    inside = [str(path.relative_to(folder)) for folder in folders if path.is_relative_to(folder)]
    return inside[0] if inside else str(path)
