"""Runs on the Hugging Face Hub, `hf:USER/NAME@REVISION`: their files are copied into a folder here, which is then read.

Whoever wrote the repository is a stranger. Only files that a run consists of are fetched, by the names they have in
run folders, as ordinary files and up to a size; what is in them is checked where any run is read.
"""

from __future__ import annotations

import logging
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import quote

from filelock import FileLock

from convlora.errors import InputError, shown
from convlora.runs.reading import OWN_SAM, SAM
from convlora.storage import make_folder, replacing_folder, write_text
from convlora.untrusted import read_text

_logger = logging.getLogger("convlora")

PREFIX = "hf:"
NEEDED = ("config.yaml", "classes.json", "adapter/adapter_config.json", "adapter/adapter_model.safetensors")
FILES = (*NEEDED, "metrics.json", SAM)
LARGEST_TEXT = 16 << 20  # bytes
LARGEST_WEIGHTS = 8 << 30  # bytes, of all files of weights together; the largest SAM has 2.6 GB
MOST_FILES = 64
_PATIENCE = 20  # seconds

_REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", re.ASCII)
_REVISION = re.compile(r"[A-Za-z0-9][\w./-]*", re.ASCII)
_COMMIT = re.compile(r"[0-9a-f]{40}")
_OF_SAM = re.compile(
    rf"{OWN_SAM}/(config\.json|preprocessor_config\.json|[\w-]+\.safetensors(\.index\.json)?)", re.ASCII
)
_PICKLES = (".bin", ".ckpt", ".pickle", ".pkl", ".pt", ".pth")


@dataclass(frozen=True)
class HubRun:
    """A run on the Hub.

    Args:
        repository: `USER/NAME`.
        revision: A branch, a tag or a commit; None: the main branch.
    """

    repository: str
    revision: str | None = None

    def __str__(self) -> str:
        return f"{PREFIX}{self.repository}" + (f"@{self.revision}" if self.revision else "")


def is_repository(name: str) -> bool:
    """Whether a name can be that of a repository on the Hub, `USER/NAME`."""
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    try:
        validate_repo_id(name)
    except HFValidationError:
        return False
    return _REPOSITORY.fullmatch(name) is not None


def is_revision(name: str) -> bool:
    """Whether a name can be that of a branch, a tag or a commit."""
    return _REVISION.fullmatch(name) is not None and ".." not in name and "//" not in name


def is_on_hub(run: str | os.PathLike[str]) -> bool:
    """Whether a run is named as one on the Hub."""
    return os.fspath(run).startswith(PREFIX)


def hub_run(run: str | os.PathLike[str]) -> HubRun:
    """Takes `hf:USER/NAME@REVISION` apart.

    Raises:
        InputError: If it is written otherwise.
    """
    text = os.fspath(run).replace("\\", "/")  # a path of Windows
    repository, at, revision = text.removeprefix(PREFIX).partition("@")
    if not is_repository(repository) or (at and not is_revision(revision)):
        raise InputError(
            f"'{shown(text)}' does not name a run on the Hugging Face Hub. Write hf:USER/NAME or hf:USER/NAME@REVISION."
        )
    return HubRun(repository, revision or None)


def refuse_on_hub(run: str | os.PathLike[str], command: str) -> None:
    """Refuses a run on the Hub where a folder is needed, to read all of it or to write into it.

    Args:
        run: The run.
        command: What needs the folder, for the message.

    Raises:
        InputError: If it is one.
    """
    if is_on_hub(run):
        raise InputError(
            f"{command} needs a run folder on this machine, but '{shown(os.fspath(run))}' is on the Hugging Face Hub. "
            "Give a folder."
        )


def resolve_run(run: str | os.PathLike[str]) -> Path:
    """The folder of a run; one on the Hub is downloaded first.

    The Hub is asked for the newest commit of the branch each time, and files are downloaded once for each commit. If
    the Hub cannot be reached, what was downloaded before is used. The folder is in `HF_HOME`, beside the Hub's own.

    Args:
        run: A run folder, or `hf:USER/NAME[@REVISION]`.

    Raises:
        InputError: If there is no such run on the Hub, it cannot be reached, or it holds what is not to be fetched.
    """
    return _downloaded(hub_run(run)) if is_on_hub(run) else Path(run)


def is_run_file(name: str) -> bool:
    """Whether a file of a repository belongs to the run in it."""
    return name in FILES or _OF_SAM.fullmatch(name) is not None


@contextmanager
def in_words(name: str) -> Iterator[None]:
    """Turns what goes wrong with the Hub into plain sentences.

    Args:
        name: The repository, for the messages.

    Raises:
        InputError: In place of the errors of `huggingface_hub` and of connections.
    """
    from huggingface_hub import errors

    try:
        yield
    except errors.OfflineModeIsEnabled as error:
        raise InputError(
            f"{name} is on the Hugging Face Hub, which HF_HUB_OFFLINE=1 keeps from being asked. Unset that variable."
        ) from error
    except errors.RevisionNotFoundError as error:
        raise InputError(
            f"The Hugging Face Hub has no such branch, tag or commit: {name}. Check what follows the @."
        ) from error
    except errors.GatedRepoError as error:
        raise InputError(f"{name} is open only to those who have asked for access. Ask for it on its page.") from error
    except (errors.RepositoryNotFoundError, errors.RemoteEntryNotFoundError) as error:
        raise InputError(
            f"The Hugging Face Hub has no {name}, or it is private and you are not logged in. Check the name, or give "
            "your token: hf auth login, or the variable HF_TOKEN."
        ) from error
    except errors.HfHubHTTPError as error:
        raise InputError(_status(name, error)) from error
    except (errors.HTTPError, errors.LocalEntryNotFoundError, ConnectionError, TimeoutError) as error:
        raise InputError(
            f"The Hugging Face Hub cannot be reached for {name} ({type(error).__name__}). Check the connection, and "
            "try again."
        ) from error


def _status(name: str, error: Any) -> str:
    status = getattr(error.response, "status_code", None)
    if status == 401:
        return (
            f"The Hugging Face Hub does not know who you are, which {name} needs. Give a valid token: hf auth login, "
            "or the variable HF_TOKEN."
        )
    if status == 403:
        return (
            f"Your token has no right to do this with {name}. Make one that may write on "
            "https://huggingface.co/settings/tokens, or choose a repository of your own."
        )
    reason = shown(getattr(error, "server_message", None) or "", 200)
    return f"The Hugging Face Hub refused {name} (status {status}{': ' + reason if reason else ''}). Try again later."


def _downloaded(run: HubRun) -> Path:
    from huggingface_hub import HfApi, constants, errors

    home = Path(constants.HF_HOME) / "convlora" / run.repository.replace("/", "--")
    reference = home / "refs" / quote(run.revision or "main", safe="")
    commit = run.revision if run.revision and _COMMIT.fullmatch(run.revision) else None
    if commit is not None and (home / commit).is_dir():
        return home / commit
    api = HfApi(library_name="convlora")
    try:
        with in_words(str(run)):
            commit = api.model_info(run.repository, revision=run.revision, timeout=_PATIENCE).sha
    except InputError as error:
        answered = isinstance(error.__cause__, errors.HfHubHTTPError) and error.__cause__.response.status_code < 500
        known = None if answered else _known(reference)
        if known is None or not (home / known).is_dir():
            raise
        if not constants.is_offline_mode():
            _logger.warning("The Hugging Face Hub cannot be reached; %s is the copy that was downloaded last.", run)
        return home / known
    if commit is None or _COMMIT.fullmatch(commit) is None:
        raise InputError(f"The Hugging Face Hub does not say which commit {run} is. Try again later.")
    make_folder(home / "refs")
    with FileLock(home / "lock"):
        if not (home / commit).is_dir():
            _fetch(api, run, commit, home / commit)
    write_text(reference, commit)
    return home / commit


def _known(reference: Path) -> str | None:
    """The commit that a branch was when it was last asked for."""
    try:
        commit = read_text(reference, largest=1 << 10)
    except (OSError, ValueError):
        return None
    return commit if _COMMIT.fullmatch(commit) else None


def _fetch(api: Any, run: HubRun, commit: str, folder: Path) -> None:
    """Downloads the files of a run into a folder, all or none."""
    with in_words(str(run)):
        listed = {
            entry.path: getattr(entry, "size", None)
            for entry in api.list_repo_tree(run.repository, recursive=True, revision=commit)
        }
    wanted = _wanted(run, listed)
    with replacing_folder(folder) as unfinished:
        for name, size in wanted.items():
            with in_words(str(run)):
                api.hf_hub_download(run.repository, name, revision=commit, local_dir=unfinished)
            if (unfinished / name).stat().st_size != size:
                raise InputError(f"{name} of {run} is not as large as the Hugging Face Hub says. Try again later.")
        shutil.rmtree(unfinished / ".cache", ignore_errors=True)  # notes of the Hub's library


def _wanted(run: HubRun, listed: dict[str, int | None]) -> dict[str, int]:
    """Names and sizes of what is to be fetched.

    Raises:
        InputError: If something is missing, too large, or leads elsewhere.
    """
    for name in listed:
        if PurePosixPath(name).is_absolute() or ".." in name.split("/") or "\\" in name:
            raise InputError(f"{run} holds a file with the name '{shown(name)}', which leads elsewhere. Do not use it.")
    wanted = {name: size for name, size in listed.items() if is_run_file(name)}
    missing = [name for name in NEEDED if name not in wanted]
    pickles = [name for name in listed if name.endswith(_PICKLES)]
    if missing:
        told = f" Its weights may be in {shown(pickles[0])}, but pickles are never read." if pickles else ""
        raise InputError(
            f"{run} is not a run of convlora: it has no {', '.join(missing)}.{told} Give a repository that "
            "convlora push wrote."
        )
    sizes = {name: -1 if size is None else size for name, size in wanted.items()}
    texts = [name for name, size in sizes.items() if not name.endswith(".safetensors") and size > LARGEST_TEXT]
    weights = sum(size for name, size in sizes.items() if name.endswith(".safetensors"))
    if texts or weights > LARGEST_WEIGHTS or len(sizes) > MOST_FILES or min(sizes.values()) < 0:
        what = f"{texts[0]} of {run}" if texts else str(run)
        raise InputError(
            f"{what} is larger than a run can be ({LARGEST_TEXT >> 20} MB for a text, {LARGEST_WEIGHTS >> 30} GB and "
            f"{MOST_FILES} files in all). Do not use it."
        )
    return sizes
