"""`convlora serve`."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Annotated

import typer

from convlora.cli.console import err, loading_libraries, out
from convlora.cli.options import Device, MovedModel, Precision, PrecisionName, TestTimeFlips
from convlora.errors import InputError

_NEEDED = ("fastapi", "uvicorn", "python_multipart", "httpx2")


def serve(
    runs: Annotated[
        list[Path],
        typer.Argument(
            metavar="RUN...",
            help="Run folders that 'convlora train' wrote, or hf:USER/NAME\\[@REVISION].",
            show_default=False,
        ),
    ],
    host: Annotated[
        str, typer.Option(metavar="ADDRESS", help="Address to listen at; 127.0.0.1 is reached from this machine only.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen at; 0: any that is free.")] = 8000,
    allow_host: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="Name under which a proxy asks for this server; may be given several times.",
            show_default=False,
        ),
    ] = None,
    label_studio: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="Label Studio whose tasks are predicted: their images are fetched from there, with the access token "
            "in the environment variable LABEL_STUDIO_API_KEY.",
            show_default=False,
        ),
    ] = None,
    max_upload: Annotated[float, typer.Option(metavar="MB", help="Largest request.")] = 64,
    max_pixels: Annotated[float, typer.Option(metavar="MILLIONS", help="Pixels of the largest image.")] = 64,
    queue: Annotated[int, typer.Option(metavar="N", help="Images that may wait at a time; more are refused.")] = 32,
    timeout: Annotated[
        float, typer.Option(metavar="SECONDS", help="Longest wait for an answer once an image has arrived.")
    ] = 60,
    model: MovedModel = None,
    tta: TestTimeFlips = False,
    batch_size: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Images of one run at a time, if several wait. [dim]\\[default: 8 on a GPU, 1 on a CPU][/dim]",
            show_default=False,
        ),
    ] = None,
    device: Device = "auto",
    precision: Precision = PrecisionName.AUTO,
) -> None:
    """Segment images in a browser, or over HTTP, with trained runs.

    It serves a page at / and an interface at /v1/segment until you press Ctrl-C. Several runs of one SAM keep its
    weights in memory once. Label Studio can connect to it as a model, with --label-studio.

    It listens at this machine's own address and knows no passwords. To let others use it, put it behind a proxy that
    asks for one.
    """
    missing = [name for name in _NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise InputError(f"'convlora serve' needs {missing[0]}. Install it with: pip install 'convlora[serve]'")
    with loading_libraries():
        from convlora.serve.limits import Limits
        from convlora.serve.server import serve as serve_runs

    limits = Limits(upload_bytes=int(max_upload * 2**20), pixels=int(max_pixels * 1e6), waiting=queue, seconds=timeout)
    serve_runs(
        runs,
        host=host,
        port=port,
        allow_hosts=allow_host or (),
        label_studio=label_studio,
        model=model,
        device=device,
        precision=precision.value,
        tta=tta,
        batch_size=batch_size,
        limits=limits,
        message=lambda text: out.print(text, markup=False, soft_wrap=True),
        warning=lambda text: err.print(f"Warning: {text}", markup=False, soft_wrap=True),
    )
