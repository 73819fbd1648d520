"""The run whose weights another one begins with: found, and its settings taken over."""

from __future__ import annotations

import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from convlora.data.classes.class_table import ClassTable
from convlora.errors import InputError, shown
from convlora.methods.registry import find_method, resolve_options
from convlora.models.configuration import as_size
from convlora.ordinary import open_ordinary
from convlora.paths import expanded
from convlora.runs.folds import refuse_folds
from convlora.runs.hub import hub_run, is_on_hub, is_run_file, resolve_run
from convlora.runs.reading import OWN_SAM, adapter_folder, read_classes, read_settings, sam_of
from convlora.settings import SETTINGS
from convlora.settings.history import OF_BANDS
from convlora.storage import replacing_folder
from convlora.training.config import RunConfig
from convlora.training.folder import last_checkpoint

INHERITED = (
    "method.name",
    "model.source",
    "model.image_size",
    "model.head",
    "model.num_mask_tokens",
    "model.decoder",
    "model.attention",
    "model.detail",
    "training.adapt_last",
    "data.window",
    "data.intensity",
    "data.axis",
    "data.neighbours",
    "data.value_range",
    "data.pages",
    "data.bands",
    "model.bands",
    *OF_BANDS,
)
"""Settings that are those of the earlier run unless others are given, beside the options of its method."""

_FREE_OPTIONS = {"lora_dropout", "load_balancing_weight", "gate_noise"}  # what they change is training alone
_COMMIT = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True)
class Earlier:
    """A run whose weights another one begins with.

    Attributes:
        name: What the settings call it.
        folder: Where it is; it is only read.
        config: Its settings.
        classes: Its classes.
        adapter: The folder of its weights.
    """

    name: str
    folder: Path
    config: RunConfig
    classes: ClassTable
    adapter: Path

    @property
    def source(self) -> str:
        """Where its SAM is."""
        return sam_of(self.folder, str(self.config.model.source))


def find_earlier(config: RunConfig, output: Path, *, resume: bool) -> Earlier | None:
    """Finds the run that the settings name, and takes over what they leave open.

    A run that is resumed from a checkpoint does not need it any more.

    Args:
        config: The settings of the new run; changed in place.
        output: The folder of the new run.
        resume: Whether the new run is to be resumed.

    Returns:
        The earlier run; None: the settings name none, or it is not needed.

    Raises:
        InputError: If it cannot be read, would be written to, or cannot be gone on from with these settings.
    """
    if resume and last_checkpoint(output) is not None and (output / "config.yaml").is_file():
        _as_it_began(config, RunConfig.load(output / "config.yaml"))
        return None
    if config.model.from_run is None:
        return None
    folder = resolve_run(config.model.from_run if is_on_hub(config.model.from_run) else expanded(config.model.from_run))
    _check_apart(output, folder)
    refuse_folds(folder, "--from")
    read_settings(folder)  # whose sentences are about run folders
    saved = RunConfig.load(folder / "config.yaml")
    saved.method.options = resolve_options(saved.method.name, saved.method.options)
    config.model.from_run = _lasting_name(config.model.from_run, folder)
    earlier = Earlier(config.model.from_run, folder, saved, read_classes(folder), adapter_folder(folder))
    _check_agreement(config, earlier)
    source = saved.model.source if find_method(saved.method.name).network is not None else earlier.source
    _inherit(config, saved, source)
    return earlier


def settle_tokens(config: RunConfig, earlier: Earlier, num_classes: int) -> int | None:
    """Takes back what was inherited and does not fit the number of classes.

    Args:
        config: The settings of the new run; changed in place.
        earlier: The run it begins with.
        num_classes: Number of classes of the new run.

    Returns:
        The mask tokens of the earlier run, if both tell classes apart by mask classification and none are asked for.
    """
    if "model.num_mask_tokens" not in config.settled:
        return None
    tokens = config.model.num_mask_tokens
    if config.model.head == "mask-classification" and isinstance(tokens, int):
        config.model.num_mask_tokens = "auto"  # as many, unless an image has more classes
        return tokens
    if num_classes > 2:
        config.model.num_mask_tokens = "auto"  # 1 is for binary tasks
    return None


def has_own_sam(earlier: Earlier, source: str) -> bool:
    """Whether a SAM is the one that lies in the folder of the earlier run, because it is nowhere else."""
    own = earlier.folder / OWN_SAM
    return (own / "config.json").is_file() and _is_same(Path(source), own)


def copy_own_sam(earlier: Earlier, output: Path) -> None:
    """Copies the SAM in the folder of the earlier run into that of the new one.

    Raises:
        InputError: If a file cannot be read or written.
    """
    with replacing_folder(output / OWN_SAM) as folder:
        for path in sorted((earlier.folder / OWN_SAM).iterdir()):
            if not is_run_file(f"{OWN_SAM}/{path.name}"):
                continue
            try:
                with open_ordinary(path) as file, open_ordinary(folder / path.name, "wb") as copy:
                    shutil.copyfileobj(file, copy, 1 << 20)
            except OSError as error:
                raise InputError(f"{path} cannot be copied ({error.strerror}). Restore it, or free space.") from error


def _as_it_began(config: RunConfig, saved: RunConfig) -> None:
    """Completes the settings of a run that is resumed by the same command, which named an earlier run."""
    if config.model.from_run is None or saved.model.from_run is None:
        return
    given, before = config.model.from_run, saved.model.from_run
    if not is_on_hub(given):
        config.model.from_run = os.path.realpath(expanded(given))
    elif is_on_hub(before):
        one, other = hub_run(given), hub_run(before)
        if one.repository == other.repository and not _COMMIT.fullmatch(one.revision or ""):
            config.model.from_run = before  # the commit that its branch was then
    _inherit(config, saved, str(saved.model.source))


def _check_apart(output: Path, folder: Path) -> None:
    """Refuses to write into the earlier run."""
    real, own = Path(os.path.realpath(output)), Path(os.path.realpath(folder))
    if own == real or own in real.parents or _is_same(output, folder):
        raise InputError(
            f"--from names the run in {folder}, and {output} would be written into it. Give another --output: the "
            "earlier run stays as it is."
        )


def _is_same(one: Path, other: Path) -> bool:
    return os.path.realpath(one) == os.path.realpath(other)


def _lasting_name(name: str, folder: Path) -> str:
    """A name under which exactly this run is found again."""
    if not is_on_hub(name):
        return os.path.realpath(expanded(name))
    run = hub_run(name)
    return f"hf:{run.repository}@{folder.name}" if _COMMIT.fullmatch(folder.name) else name


def _is_chosen(config: RunConfig, key: str) -> bool:
    """Whether a setting was given, and not left to be found out."""
    if key == "data.window":  # none is a choice, too: images are seen whole
        return config.is_asked(key)
    return config.is_asked(key) and config.get(key) not in (None, "auto")


def _check_agreement(config: RunConfig, earlier: Earlier) -> None:
    """Refuses settings that the weights do not fit.

    Raises:
        InputError: With all of them.
    """
    saved, problems = earlier.config, []

    def refuse(key: str, given: Any, had: Any) -> None:
        label = SETTINGS[key].label if key in SETTINGS else key
        problems.append(f"{label} is {shown(_written(given))}, but the run was trained with {shown(_written(had))}.")

    if _is_chosen(config, "method.name") and config.method.name != saved.method.name:
        refuse("method.name", config.method.name, saved.method.name)
    else:
        for key, value in config.method.options.items():
            if key in saved.method.options and key not in _FREE_OPTIONS and value != saved.method.options[key]:
                refuse(f"method.{key}", value, saved.method.options[key])
    last = config.training.adapt_last
    if config.is_asked("training.adapt_last") and last is not None and last != saved.training.adapt_last:
        refuse("training.adapt_last", last, saved.training.adapt_last or "all blocks adapted")
    if config.is_asked("model.decoder") and config.model.decoder != saved.model.decoder:
        refuse("model.decoder", config.model.decoder, saved.model.decoder)
    detail = config.model.detail if _is_chosen(config, "model.detail") else saved.model.detail
    if saved.model.detail not in ("none", detail):  # to a run without the branch, one can be added
        refuse("model.detail", detail, saved.model.detail)
    size, had = config.model.image_size, saved.model.image_size
    trains_sizes = find_method(saved.method.name).trains_encoder  # whose position tables are as large as the images
    if trains_sizes and size is not None and had is not None and as_size(size) != as_size(had):
        refuse("model.image_size", size, had)
    bands, inputs = config.model.bands, saved.model.bands
    if bands is not None and bands != inputs:
        refuse("model.bands", bands, "red, green and blue" if inputs is None else inputs)
    if problems:
        them = "Leave it out" if len(problems) == 1 else "Leave these out"
        raise InputError(
            f"Training cannot begin with the weights of {earlier.name} as asked. {' '.join(problems)} {them}, or train "
            "without --from."
        )


def _written(value: Any) -> str:
    return "x".join(map(str, value)) if isinstance(value, list) else str(value)


def _inherit(config: RunConfig, saved: RunConfig, source: str) -> None:
    """Takes over from another run what the settings leave open."""
    for key in INHERITED:
        others = key in OF_BANDS and (config.data.bands, config.model.bands) != (saved.data.bands, saved.model.bands)
        if _is_chosen(config, key) or others:  # ranges are those of certain bands
            continue
        section, _, name = key.partition(".")
        value = source if key == "model.source" else saved.get(key)
        value = "auto" if key == "model.head" and value == "binary" else value  # there may be more classes now
        setattr(getattr(config, section), name, value)
        config.settled.add(key)
    config.method.options = {**saved.method.options, **config.method.options}
