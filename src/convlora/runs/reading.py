"""Reading what a training run left behind."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any

from convlora.data.classes.class_table import ClassTable
from convlora.data.reading.bands import reading_of
from convlora.errors import InputError, quoted, shown
from convlora.metrics import HIGHER_IS_BETTER
from convlora.models.bundled import BUNDLED
from convlora.models.configuration import LARGEST_SIDE
from convlora.models.fingerprint import same_weights
from convlora.runs.folds import folds_in, unfinished
from convlora.settings.data import LARGEST_WINDOW, MOST_BANDS, SMALLEST_WINDOW
from convlora.storage import old_folder
from convlora.untrusted import UnreadableError, read_json, read_yaml

SAM = "sam.json"
OWN_SAM = "sam"  # folder in a run that was imported, with a SAM that is nowhere else

_MOST_TOKENS = 4096
_MOST_BLOCKS = 1024


def read_settings(run: Path) -> dict[str, Any]:
    """Reads the settings of a run, as in its `config.yaml`.

    Raises:
        InputError: If the folder is no run, or the file is damaged.
    """
    if not (run / "config.yaml").is_file():
        raise InputError(f"{run} is not a run folder: it has no config.yaml. Give the --output of convlora train.")
    try:
        settings = read_yaml(run / "config.yaml")
        if folds_in(settings) is not None and settings["model"]["image_size"] is None:
            raise InputError(unfinished(run, "its first fold is not trained yet"))
        for section, key in (
            ("model", "source"),
            ("model", "image_size"),
            ("model", "attention"),
            ("data", "intensity"),
            ("training", "adapt_last"),
        ):
            _ = settings[section][key]
        _ = settings["method"]["name"], settings["data"]["path"]
        _check(settings["model"], settings["training"], settings["data"])
        _check_bands(settings["data"], settings["model"])
    except (OSError, UnreadableError, KeyError, TypeError, ValueError, OverflowError) as error:
        raise InputError(f"{run}/config.yaml is damaged ({first_line(error)}). Restore it from a copy.") from error
    return settings


def _check(model: dict[str, Any], training: dict[str, Any], data: dict[str, Any]) -> None:
    """Refuses what would be built before anything else could notice; values of the right kind are checked later.

    Raises:
        TypeError: If a value cannot be.
    """
    intensity, window = data["intensity"], data.get("window")
    size, tokens, last = model["image_size"], model.get("num_mask_tokens"), training["adapt_last"]
    sides = size if isinstance(size, list) and len(size) == 2 else [size]
    may_be = {
        f"model.image_size={quoted(size)}": all(_is_count(side, LARGEST_SIDE) for side in sides),
        f"model.num_mask_tokens={quoted(tokens)}": tokens in (None, "auto") or _is_count(tokens, _MOST_TOKENS),
        f"model.source={quoted(model['source'])}": isinstance(model["source"], str),
        f"model.attention={quoted(model['attention'])}": isinstance(model["attention"], str),
        f"model.head={quoted(model.get('head'))}": isinstance(model.get("head", "auto"), str),
        f"model.decoder={quoted(model.get('decoder'))}": isinstance(model.get("decoder", "sam"), str),
        f"training.adapt_last={quoted(last)}": last is None or _is_count(last, _MOST_BLOCKS),
        f"data.window={quoted(window)}": window is None
        or (_is_count(window, LARGEST_WINDOW) and window >= SMALLEST_WINDOW),
        f"data.intensity={quoted(intensity)}": intensity in ("type", "image"),
    }
    for setting, fine in may_be.items():
        if not fine:
            raise TypeError(f"{setting} cannot be")


def _check_bands(data: dict[str, Any], model: dict[str, Any]) -> None:
    """Refuses settings of bands that belong to no run.

    Raises:
        TypeError: If a value is of another kind.
        ValueError: If values do not belong together.
    """
    picked, count = data.get("bands"), model.get("bands")
    if picked is None and count is None:
        return
    many = picked is None or (isinstance(picked, list) and all(_is_count(one, MOST_BANDS) for one in picked))
    if not many or picked == [] or not (count is None or _is_count(count, MOST_BANDS)):
        raise TypeError(f"data.bands={quoted(picked)} with model.bands={quoted(count)} cannot be")
    known = [data.get("band_range"), *([] if count is None else [data.get("band_mean"), data.get("band_std")])]
    numbers = [one for values in known for entry in (values or [None]) for one in _flat(entry)]
    if not all(isinstance(one, (int, float)) and math.isfinite(one) for one in numbers):
        raise TypeError("the ranges or statistics of its bands cannot be")
    reading_of(data, model)


def _flat(entry: Any) -> list[Any]:
    return entry if isinstance(entry, list) else [entry]


def _is_count(value: Any, largest: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 < value <= largest


def read_classes(run: Path) -> ClassTable:
    """Reads the classes of a run.

    Raises:
        InputError: If the file is missing or damaged.
    """
    try:
        return ClassTable.from_dict(read_json(run / "classes.json"))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{run}/classes.json is missing or damaged ({first_line(error)}).") from error


def read_metrics(run: Path) -> dict[str, Any] | None:
    """Reads the results of a run; None if it is not finished.

    Raises:
        InputError: If the file is damaged.
    """
    if not (run / "metrics.json").is_file():
        return None
    try:
        metrics: dict[str, Any] = read_json(run / "metrics.json", largest=1 << 30)
        _check_metrics(metrics)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"{run}/metrics.json is damaged ({first_line(error)}). Make it again with --resume."
        ) from error
    return metrics


def imported_from(metrics: dict[str, Any]) -> str | None:
    """The software that trained a run which was only imported, such as "AutoGluon 1.4.0"; None: convlora did.

    Args:
        metrics: Contents of its `metrics.json`.
    """
    imported = metrics.get("imported")
    return shown(imported["software"], longest=60) if imported else None


def _check_metrics(metrics: dict[str, Any]) -> None:
    """Refuses what could not be shown or compared.

    Raises:
        KeyError: If something is missing.
        TypeError: If something is of another kind.
    """
    numbers = {name: metrics[name] for name in ("steps", "best_epoch", "peak_memory_mb")}
    numbers |= {name: metrics.get(name) for name in ("epochs", "seconds_per_step")}
    numbers |= {name: metrics["params"][name] for name in ("trainable", "total")}
    for split in ("val", "test"):
        scores = metrics.get(split) or {}
        numbers |= {f"{split}.{name}": scores.get(name) for name in (*HIGHER_IS_BETTER, "num_images")}
        for group in ("trivial", "per_class"):
            for name, values in (scores.get(group) or {}).items():
                # A trivial answer to several classes has scores of each class, too, which are not shown.
                shown_ones = ((key, value) for key, value in values.items() if key != "per_class")
                numbers |= {f"{split}.{group}.{name}.{key}": value for key, value in shown_ones}
    for split, interval in (metrics.get("interval") or {}).items():
        numbers |= {f"interval.{split}.{name}": interval[name] for name in ("mean", "low", "high")}
    if metrics.get("imported"):
        _ = metrics["imported"]["software"]
    for name, value in numbers.items():
        if value is not None and (isinstance(value, bool) or not isinstance(value, (int, float))):
            raise TypeError(f"{shown(name)}={quoted(value)} is no number")


def sam_of(run: Path, source: str) -> str:
    """Where the SAM of a run is: where its settings say, or in the run, which was moved with it.

    Args:
        run: The run folder.
        source: What its settings say.
    """
    own = run / OWN_SAM
    # In a run from the Hub it is called by nothing but its name, which something else may have where we are.
    has_moved = source == OWN_SAM or not os.path.exists(source)  # noqa: PTH110
    if Path(source).name == OWN_SAM and has_moved and (own / "config.json").is_file():
        return str(own)
    return source


def check_sam(run: Path, weights: dict[str, float], source: str) -> None:
    """Compares a SAM with the one that a run was trained from.

    Args:
        run: The run folder; if it does not know, because it is of an older version, nothing is compared.
        weights: Weights of the SAM, as from `convlora.models.fingerprint.sample_weights`.
        source: What it is called, for the message.

    Raises:
        InputError: If it is another one of the same shape: the adapter would make nonsense of it.
    """
    if not (run / SAM).exists():
        return
    try:
        stored = read_json(run / SAM, largest=1 << 20)
        same = same_weights(stored, weights)
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise InputError(f"{run / SAM} is damaged ({first_line(error)}). Restore it from a copy.") from error
    if not same and source in BUNDLED:
        raise InputError(
            f"The run {run} was trained from '{source}' of another version of convlora, whose weights are others. "
            "Train it again, or use the version that made it (its adapter/README.md names it)."
        )
    if not same:
        raise InputError(
            f"'{source}' is not the model that the run {run} was trained from: its weights are others, or what "
            "preprocessor_config.json beside them says. Give that one "
            "with --model."
        )


def adapter_folder(run: Path) -> Path:
    """The folder of the best weights of a run.

    Raises:
        InputError: If there are none yet.
    """
    # Training may be about to put better ones in their place at this moment, and renaming is its business alone.
    for folder in (run / "adapter", old_folder(run / "adapter")):
        if (folder / "adapter_model.safetensors").is_file():
            return folder
    raise InputError(f"The run {run} has no trained weights yet. Resume its training with --resume.")


def first_line(error: BaseException) -> str:
    """The first line of an error's message."""
    return (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
