"""Uploading a run to the Hugging Face Hub."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from convlora.reporting import Logged, Reporter
from convlora.sharing.push import push_run


def push(
    run: str | os.PathLike[str],
    repository: str,
    *,
    public: bool = False,
    revision: str | None = None,
    license: str | None = None,
    picture: str | os.PathLike[str] | None = None,
    dry_run: bool = False,
    reporter: Reporter | None = None,
) -> dict[str, Any]:
    """Uploads a finished run to the Hugging Face Hub, as `convlora push` does.

    Only what is needed to use the run is uploaded: its settings without paths, classes, scores, weights, and a model
    card. Images, their names, logs and checkpoints are not. It is then used as `hf:USER/NAME` in place of a run folder.

    Args:
        run: The run folder.
        repository: `USER/NAME`. The repository is made if there is none; files of an earlier run in it are replaced.
        public: Everybody may see it. A repository that is there keeps its visibility, and has to agree.
        revision: The branch to upload to, made if there is none. None: the main branch.
        license: License of the run, by its name on the Hub, such as `"apache-2.0"`. None: none is stated.
        picture: An image for the model card, such as an overlay of `convlora predict`. None: no image leaves your disk.
        dry_run: Upload nothing, without any connection, and return the model card, too.
        reporter: Receives messages; default: they are logged.

    Returns:
        `run`, `repository`, `url`, `revision`, `public`, `files` (`name` and `bytes` of each), and `commit`; with
        `dry_run` the model card `card` in its place.

    Raises:
        InputError: If the run is not finished or damaged, a name cannot be, there is no token or it has no right to
            write, or the Hub cannot be reached.
    """
    reporter = Logged() if reporter is None else reporter
    return push_run(
        Path(run),
        repository,
        public=public,
        revision=revision,
        license=license,
        picture=None if picture is None else Path(picture),
        dry_run=dry_run,
        tell=reporter.message,
    )
