"""`convlora push`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from convlora.cli.console import loading_libraries, out, print_json
from convlora.cli.options import Json


def push(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a finished run.", show_default=False)],
    repository: Annotated[
        str,
        typer.Argument(metavar="USER/NAME", help="Repository on the Hub; made if there is none.", show_default=False),
    ],
    public: Annotated[bool, typer.Option("--public/--private", help="Whether everybody may see it.")] = False,
    revision: Annotated[
        str | None,
        typer.Option(metavar="BRANCH", help="Branch to upload to; made if there is none.", show_default=False),
    ] = None,
    license_: Annotated[
        str | None,
        typer.Option(
            "--license",
            metavar="ID",
            help="Licence of the run by its name on the Hub, such as apache-2.0. Without it none is stated.",
            show_default=False,
        ),
    ] = None,
    picture: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Image to show on the page, such as an overlay.", show_default=False),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would be uploaded, without any connection.")
    ] = False,
    json: Json = False,
) -> None:
    """Upload a finished run to the Hugging Face Hub.

    Only what is needed to use the run is uploaded: settings without paths, classes, scores, weights, and a model card.
    Images, their names, logs and checkpoints are not, except for the one image that you give with --picture.

    Others then use it by its name: convlora predict hf:USER/NAME photos/ --output results. Log in first with
    'hf auth login', or set HF_TOKEN to a token that may write.
    """
    with loading_libraries():
        from convlora.api.push import push as push_run
        from convlora.cli.progress import RunProgress

    with RunProgress() as progress:
        result = push_run(
            run,
            repository,
            public=public,
            revision=revision,
            license=license_,
            picture=picture,
            dry_run=dry_run,
            reporter=progress,
        )
    if json:
        print_json(result)
    elif dry_run:
        out.print(result["card"], markup=False, soft_wrap=True)
    else:
        at = "" if revision is None else f"@{revision}"
        out.print(f"Uploaded to {result['url']}", markup=False, soft_wrap=True)
        out.print(
            f"Use it with: convlora predict hf:{result['repository']}{at} photos/ --output results",
            markup=False,
            soft_wrap=True,
        )
