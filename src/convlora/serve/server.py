"""Loading runs and answering requests until the server is stopped."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
from collections.abc import Callable, Sequence
from pathlib import Path

import uvicorn
from fastapi import FastAPI

from convlora.devices import default_batch
from convlora.errors import InputError
from convlora.serve.app import make_app
from convlora.serve.engine import Engine
from convlora.serve.guard import is_loopback
from convlora.serve.limits import Limits
from convlora.serve.protocol import impatient
from convlora.serve.segmenting import Segmenting
from convlora.serve.served import load_runs
from convlora.serve.task_images import TaskImages, check_address, key_of_environment

_MOST_CONNECTIONS = 512
_STOPPING = 5  # seconds for answers that are under way


def serve(
    runs: Sequence[Path],
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    allow_hosts: Sequence[str] = (),
    label_studio: str | None = None,
    model: str | None = None,
    device: str = "auto",
    precision: str = "auto",
    tta: bool = False,
    batch_size: int | None = None,
    limits: Limits | None = None,
    message: Callable[[str], None] = print,
    warning: Callable[[str], None] = print,
) -> None:
    """Serves runs until the process is interrupted (Ctrl-C) or terminated.

    No file is written: images are decoded from memory.

    Args:
        runs: The run folders.
        host: Address to listen at.
        port: Port to listen at; 0: any that is free.
        allow_hosts: Names under which a proxy asks for this server. If it listens at another address than this
            machine's own and none are given, any name will do.
        label_studio: Address of the Label Studio whose tasks' images are fetched; None: none are.
        model: As of `Segmenter.load`, like the next three.
        device: Likewise.
        precision: Likewise.
        tta: Likewise.
        batch_size: Images of one run at a time; None: 8 on a GPU, 1 on a CPU.
        limits: What is taken on.
        message: Called with what to tell the user.
        warning: Called with what to warn of.

    Raises:
        InputError: If the address cannot be used, or a run cannot be loaded. Nothing listens then.
    """
    limits = Limits() if limits is None else limits
    check_address(label_studio)
    is_private = is_loopback(host)
    with _bound(host, port) as listener:  # before minutes are spent on loading
        served, saved = load_runs(
            list(runs),
            model=model,
            device=device,
            precision=precision,
            tta=tta,
            loading=lambda name: message(f"Loading {name}"),
        )
        chosen = next(iter(served.values())).segmenter.device
        engine = Engine(
            {name: run.segmenter for name, run in served.items()},
            default_batch(chosen) if batch_size is None else batch_size,
        )
        segmenting = Segmenting(served, engine, limits)
        images = TaskImages(label_studio, key_of_environment(), limits, segmenting.room)
        app = make_app(segmenting, allow_hosts if is_private or allow_hosts else None, images)
        server = web_server(app, limits)
        try:
            _listen(listener, host, port)
            if not is_private:
                warning(
                    f"Whoever reaches {host} can use this server: it knows no passwords. Put it behind a proxy that "
                    "does, or leave out --host."
                )
            for name, run in served.items():
                if run.note is not None:
                    warning(f"{name}: {run.note}")
            if len(served) > 1 and saved >= 2**20:
                message(f"Equal weights are shared, which saves {saved / 2**20:,.0f} MB.")
            message(f"Serving {', '.join(served)} at {_address(host, listener)} (stop with Ctrl-C)")
            with contextlib.suppress(KeyboardInterrupt):  # which is how it is meant to end
                asyncio.run(server.serve(sockets=[listener]))
            message("Stopped.")
        finally:
            segmenting.close()
            engine.close()


def web_server(app: FastAPI, limits: Limits) -> uvicorn.Server:
    """What speaks HTTP: silent, impatient, and without anything that is not needed."""
    config = uvicorn.Config(
        app,
        http=impatient(limits),
        ws="none",
        lifespan="off",
        log_level="error",
        access_log=False,
        proxy_headers=False,
        server_header=False,
        limit_concurrency=_MOST_CONNECTIONS,
        timeout_graceful_shutdown=_STOPPING,
    )
    return uvicorn.Server(config)


def _bound(host: str, port: int) -> socket.socket:
    """A socket that has the address, and does not listen yet.

    Raises:
        InputError: If the address cannot be used.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host.strip("[]"), port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
    except (OSError, UnicodeError, OverflowError) as error:
        raise InputError(f"--host {host} is no address of this machine. Give 127.0.0.1, or leave it out.") from error
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
    except OSError as error:
        listener.close()
        raise _unusable(error, host, port) from error
    return listener


def _listen(listener: socket.socket, host: str, port: int) -> None:
    """Begins to take connections; they wait until they are answered.

    Raises:
        InputError: If another program has taken the port meanwhile.
    """
    try:
        listener.listen(128)
    except OSError as error:
        raise _unusable(error, host, port) from error


def _unusable(error: OSError, host: str, port: int) -> InputError:
    if error.errno == errno.EADDRINUSE:
        return InputError(f"Port {port} is in use. Give another one with --port, or stop what uses it.")
    if error.errno == errno.EACCES:
        return InputError(f"Port {port} may not be used. Give one above 1023 with --port.")
    return InputError(f"--host {host} cannot be used ({error.strerror}). Give 127.0.0.1, or leave it out.")


def _address(host: str, listener: socket.socket) -> str:
    name = f"[{host.strip('[]')}]" if ":" in host else host
    return f"http://{name}:{listener.getsockname()[1]}"
