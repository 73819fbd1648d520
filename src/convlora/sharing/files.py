"""What of a run is given to others: what is needed to use it, and nothing that tells where it was made.

Texts are read, freed of paths and written anew. Weights are sent as they lie on the disk. Images, names of images,
logs and checkpoints stay here.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

import yaml
from safetensors import SafetensorError

from convlora.data.reading.images import read_image
from convlora.errors import InputError
from convlora.links import is_link, is_plain_file
from convlora.methods.registry import find_method
from convlora.models.bundled import BUNDLED
from convlora.models.weight_files import read_shapes
from convlora.runs.adapters import WEIGHTS
from convlora.runs.hub import is_repository, is_run_file
from convlora.runs.reading import (
    OWN_SAM,
    SAM,
    adapter_folder,
    first_line,
    imported_from,
    read_classes,
    read_metrics,
    read_settings,
    sam_of,
)
from convlora.training.config import RunConfig
from convlora.training.model_card import model_card
from convlora.untrusted import UnreadableError, read_json, read_text

README = "README.md"
PICTURE = "picture.png"
_PICTURE_SIDE = 1600  # pixels; it is there to be looked at

Content = bytes | Path
"""The bytes of a file, or the file that holds them."""


def shared_files(
    run: Path, repository: str, *, revision: str | None = None, license: str | None = None, picture: Path | None = None
) -> dict[str, Content]:
    """The files of a run as they are given to others, by their names.

    Args:
        run: The run folder.
        repository: `USER/NAME`, for the model card.
        revision: The branch, for the model card.
        license: License of the run, by its name on the Hub; None: none is stated.
        picture: An image for the model card. It is written anew, without what a camera noted in it.

    Raises:
        InputError: If the run is not finished, or a file of it is missing, damaged or a link.
    """
    settings, classes, metrics = read_settings(run), read_classes(run), read_metrics(run)
    if metrics is None:
        raise InputError(f"The run {run} is not finished, so it has no scores to show. Resume it with --resume.")
    adapter = adapter_folder(run)
    source = str(settings["model"]["source"])
    own = is_own_sam(run, settings)
    public = OWN_SAM if own else public_name(source)
    settings["data"]["path"], settings["model"]["source"] = None, public
    configuration = _json(adapter / "adapter_config.json")
    if configuration.get("base_model_name_or_path") is not None:
        configuration["base_model_name_or_path"] = public
    for split in ("val", "test"):  # the names of single volumes may be those of patients
        ((metrics.get(split) or {}).get("volumes") or {}).pop("each", None)
    if metrics.get("imported"):
        metrics["imported"]["model"] = public_name(str(metrics["imported"].get("model", "")))
    files: dict[str, Content] = {
        "config.yaml": yaml.safe_dump(without_paths(settings), sort_keys=False, allow_unicode=True).encode(),
        "classes.json": _written(classes.to_dict()),
        "metrics.json": _written(without_paths(metrics)),
        "adapter/adapter_config.json": _written(without_paths(configuration)),
        f"adapter/{WEIGHTS}": _weights(adapter / WEIGHTS),
    }
    if (run / SAM).exists():
        files[SAM] = _written(without_paths(_json(run / SAM)))
    if own:
        files |= _sam(run)
    if picture is not None:
        files[PICTURE] = _picture(picture)
    card = model_card(
        RunConfig.load(run / "config.yaml"),
        list(classes.names),
        metrics if metrics.get("steps") is not None else None,
        is_sam="sam" in _tags(adapter / README),
        software=imported_from(metrics),
        repository=repository + (f"@{revision}" if revision else ""),
        base=None if own or find_method(str(settings["method"]["name"])).network is not None else public,
        license=license,
        picture=None if picture is None else PICTURE,
    )
    return {README: card.encode(), **files}


def is_own_sam(run: Path, settings: Mapping[str, Any]) -> bool:
    """Whether a run uses the SAM that lies in its own folder."""
    own = run / OWN_SAM
    if not (own / "config.json").is_file():
        return False
    source = str(settings["model"]["source"])
    return Path(sam_of(run, source)).resolve() == own.resolve()


def public_name(source: str) -> str:
    """What a model is called elsewhere: its id on the Hub, or of a folder or file here only the last name."""
    if source in BUNDLED or (is_repository(source) and not Path(source).exists()):
        return source
    return _last_name(source)


def without_paths(value: Any) -> Any:
    """Nested lists and dictionaries with the last name in place of every absolute path."""
    if isinstance(value, dict):
        return {key: without_paths(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [without_paths(entry) for entry in value]
    if isinstance(value, str) and (_is_absolute(value) or value.startswith("~")):
        return _last_name(value)
    return value


def size_of(content: Content) -> int:
    """Bytes of a file."""
    return content.stat().st_size if isinstance(content, Path) else len(content)


def _is_absolute(text: str) -> bool:
    return PurePosixPath(text).is_absolute() or PureWindowsPath(text).is_absolute()


def _last_name(path: str) -> str:
    return PureWindowsPath(path).name  # which knows both kinds of slashes


def _written(value: Any) -> bytes:
    return (json.dumps(value, indent=2, allow_nan=False) + "\n").encode()


def _json(path: Path) -> dict[str, Any]:
    _check_plain(path)
    try:
        found = read_json(path)
    except (OSError, UnreadableError) as error:
        raise InputError(f"{path} is damaged ({first_line(error)}). Restore it from a copy.") from error
    if not isinstance(found, dict):
        raise InputError(f"{path} is damaged: it is no table. Restore it from a copy.")
    return found


def _weights(path: Path) -> Path:
    _check_plain(path)
    try:
        read_shapes(path)
    except (OSError, SafetensorError, UnreadableError) as error:
        raise InputError(f"{path} is damaged ({first_line(error)}). Restore it from a copy.") from error
    return path


def _check_plain(path: Path) -> None:
    """Refuses what is a link, whose target would be given away."""
    if is_link(path.parent) or not is_plain_file(path):
        raise InputError(f"{path} is missing, or a link. Put the file itself there.")


def _sam(run: Path) -> dict[str, Content]:
    """The files of the SAM in a run."""
    names = [
        name for name in (f"{OWN_SAM}/{path.name}" for path in sorted((run / OWN_SAM).iterdir())) if is_run_file(name)
    ]
    files: dict[str, Content] = {}
    for name in names:
        path = run / name
        if path.suffix == ".safetensors":
            files[name] = _weights(path)
            continue
        settings = _json(path)
        settings.pop("_name_or_path", None)  # where transformers read it
        files[name] = _written(without_paths(settings))
    return files


def _picture(path: Path) -> bytes:
    picture = read_image(path)
    picture.thumbnail((_PICTURE_SIDE, _PICTURE_SIDE))
    written = io.BytesIO()
    picture.save(written, format="PNG")
    return written.getvalue()


def _tags(card: Path) -> list[str]:
    """What the model card that training has written says of the kind of model."""
    try:
        header = yaml.safe_load(read_text(card).split("---")[1])
        return [str(tag) for tag in header["tags"]]
    except (OSError, ValueError, IndexError, KeyError, TypeError, yaml.YAMLError):
        return []
