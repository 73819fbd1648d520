"""The report of a run that lies on disk: its data and model are loaded for the pictures, if they are still there."""

from __future__ import annotations

from pathlib import Path

from convlora.data.reading.volumes.slicing import Slicing
from convlora.data.sample import Sample
from convlora.data.sources.opening import open_data
from convlora.errors import InputError, RunError
from convlora.inference.segmenter import Segmenter
from convlora.report.run_files import RunFiles, read_run
from convlora.report.run_page import write_report
from convlora.runs.folds import fold_folders
from convlora.runs.hub import refuse_on_hub


def report_run(
    run: Path, *, data: str | None = None, model: str | None = None, device: str = "auto"
) -> tuple[Path, list[str]]:
    """Writes `report.html` of a run, as far as its files go.

    Args:
        run: The run folder.
        data: Where the data are that it was trained on, if they are not where they were.
        model: Where the SAM is that was fine-tuned, if it is not where it was.
        device: Where the pictures are computed.

    Returns:
        The file, and sentences about what is missing on it.

    Raises:
        InputError: If the folder holds no run, its files are damaged, or `data` or `model` is given and cannot be used.
    """
    refuse_on_hub(run, "convlora report")
    fold_folders(run)  # of folds there is no page before all are trained
    files = read_run(run)
    notes: list[str] = []
    segmenter, samples = None, dict[str, Sample]()
    if files.images and files.split:
        named = data is not None
        try:
            samples = scored_samples(files, data)
            named = model is not None
            segmenter = Segmenter.load(run, model=model, device=device)
        except (InputError, RunError) as error:
            if named:  # a mistake in what was given must not cost a page its pictures
                raise
            notes.append(f"There are no pictures of single images. {error} (convlora report has --data and --model.)")
    elif data is not None or model is not None:
        option = "--data" if data is not None else "--model"
        raise InputError(
            f"{option} has no effect, because the run {run} has no scores of single images to show. Leave it out."
        )
    try:
        return write_report(files, segmenter, samples, notes), notes
    except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"The files of the run {run} do not fit together ({error}). Restore them.") from error


def scored_samples(run: RunFiles, data: str | None = None) -> dict[str, Sample]:
    """The samples of the split that was scored image by image, by name.

    Args:
        run: The content of the run folder.
        data: Where the data are; default: where they were.

    Raises:
        InputError: If the data cannot be found.
    """
    path = str(run.setting("data", "path")) if data is None else data
    if data is None and not Path(path).exists() and Path(path).is_absolute():
        raise InputError(f"The data are no longer in {path}.")
    source = open_data(path, slicing=Slicing.of(run.settings.get("data", {})))
    if run.split == "test" and source.splits.get("test"):
        samples = source.splits["test"]
    elif run.setting("data", "folds") is not None:  # train and val were divided anew
        samples = [sample for _, sample in source.pooled()]
    else:  # those that were held out are known by their names
        samples = source.splits.get("val") or source.splits.get("train") or source.split("test")
    return {sample.name: sample for sample in samples}
