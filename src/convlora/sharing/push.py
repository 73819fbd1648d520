"""Uploading a run to the Hugging Face Hub."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from convlora.errors import InputError, shown
from convlora.runs.folds import refuse_folds
from convlora.runs.hub import PREFIX, in_words, is_repository, is_revision, is_run_file, refuse_on_hub
from convlora.sharing.files import README, Content, shared_files, size_of
from convlora.untrusted import read_text

_LICENSE = re.compile(r"[a-z0-9][a-z0-9.-]*")


def push_run(
    run: Path,
    repository: str,
    *,
    public: bool = False,
    revision: str | None = None,
    license: str | None = None,
    picture: Path | None = None,
    dry_run: bool = False,
    tell: Callable[[str], None],
) -> dict[str, Any]:
    """Uploads the files of a run that are needed to use it, in one commit.

    Args:
        run: The run folder.
        repository: `USER/NAME`; it is made if there is none.
        public: Everybody may see it.
        revision: The branch; it is made if there is none. None: the main branch.
        license: License of the run, by its name on the Hub, such as `apache-2.0`.
        picture: An image for the model card.
        dry_run: Ask nobody and upload nothing; the model card is returned, too.
        tell: Receives sentences for the user.

    Returns:
        `run`, `repository`, `url`, `revision`, `public`, `files` (`name` and `bytes` of each), and `commit`, or `card`.

    Raises:
        InputError: If the run or a name cannot be used, or the Hub refuses or cannot be reached.
    """
    refuse_on_hub(run, "convlora push")
    refuse_folds(run, "convlora push")
    repository = repository.removeprefix(PREFIX)
    _check_names(repository, revision, license)
    files = shared_files(run, repository, revision=revision, license=license, picture=picture)
    from huggingface_hub import constants

    result: dict[str, Any] = {
        "run": str(run),
        "repository": repository,
        "url": f"{constants.ENDPOINT}/{repository}" + (f"/tree/{revision}" if revision else ""),
        "revision": revision or "main",
        "public": public,
        "files": [{"name": name, "bytes": size_of(content)} for name, content in files.items()],
    }
    kind = "public" if public else "private"
    verb = "Would upload" if dry_run else "Uploading"
    listed = ", ".join(f"{one['name']} ({_bytes(one['bytes'])})" for one in result["files"])
    tell(f"{verb} to {result['url']} ({kind}): {listed}.")
    if dry_run:
        return {**result, "card": _text(files[README])}
    return {**result, "commit": _upload(repository, revision, public, files)}


def _check_names(repository: str, revision: str | None, license: str | None) -> None:
    if not is_repository(repository):
        raise InputError(
            f"'{shown(repository)}' cannot be a repository on the Hugging Face Hub. Write USER/NAME, with letters, "
            "digits, '-', '_' and '.'."
        )
    if revision is not None and not is_revision(revision):
        raise InputError(
            f"--revision {shown(revision)} cannot be a branch. Write letters, digits, '-', '_', '.' and '/'."
        )
    if license is not None and _LICENSE.fullmatch(license) is None:
        raise InputError(
            f"--license {shown(license)} is no licence of the Hub. Write its identifier, such as apache-2.0."
        )


def _upload(repository: str, revision: str | None, public: bool, files: dict[str, Content]) -> str:
    """Makes the repository if there is none, and commits the files; those of an earlier run there go.

    Returns:
        The commit.
    """
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, constants, get_token

    if get_token() is None and not constants.is_offline_mode():
        raise InputError(
            "There is no token for the Hugging Face Hub, so nothing can be uploaded. Log in with hf auth login, "
            "or set the variable HF_TOKEN."
        )
    api = HfApi(library_name="convlora")
    with in_words(repository):
        api.create_repo(repository, private=not public, exist_ok=True)
        _check_visibility(repository, public, bool(api.model_info(repository).private))
        if revision is not None:
            api.create_branch(repository, branch=revision, exist_ok=True)
        there = api.list_repo_files(repository, revision=revision)
        stale = [name for name in there if is_run_file(name) and name not in files]
        operations = [
            *(CommitOperationAdd(name, content) for name, content in files.items()),
            *(CommitOperationDelete(name) for name in stale),
        ]
        try:
            commit = api.create_commit(
                repository, operations, commit_message="Upload a run with convlora", revision=revision
            )
        except ValueError as error:  # what the Hub says about the head of the model card
            raise InputError(
                f"The Hugging Face Hub refuses the model card ({shown(error)}). Check --license."
            ) from error
    return str(commit.oid)


def _check_visibility(repository: str, public: bool, is_private: bool) -> None:
    if not public and not is_private:
        raise InputError(
            f"{repository} is there already and is public, so that everybody would see the run. Give --public if that "
            "is meant, or another name."
        )
    if public and is_private:
        raise InputError(
            f"{repository} is there already and is private. Leave out --public, or make it public in its settings on "
            "the Hub first."
        )


def _bytes(number: int) -> str:
    return f"{number / 1e6:.1f} MB" if number >= 100_000 else f"{number / 1e3:.1f} kB"


def _text(content: Content) -> str:
    return content.decode() if isinstance(content, bytes) else read_text(content)
