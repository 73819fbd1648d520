"""A server with two binary runs of one SAM whose answers differ, and a U-Net of several classes."""

import asyncio
import socket
import threading
from contextlib import contextmanager
from pathlib import Path

import pytest

SAVED = Path(__file__).parents[1] / "saved_runs" / "0.1.0"
RUNS = ("conv-lora", "late", "town")


@pytest.fixture(scope="session")
def folders(tmp_path_factory):
    """The run folders by name."""
    from convlora.data.synthetic import write_task
    from convlora.training.config import RunConfig
    from convlora.training.run import train

    place = tmp_path_factory.mktemp("serve")
    write_task("town", place / "data", num_train=4, num_val=1, num_test=1, size=(60, 70))
    config = RunConfig()
    training = {"device": "cpu", "max_steps": 6, "batch_size": 2, "lr": 1e-2, "warmup_steps": 0}
    sections = {"data": {"path": str(place / "data")}, "model": {"image_size": 64}, "training": training}
    config.update(sections | {"method": {"name": "unet", "width": 8}}, origin="the test")
    train(config, place / "town")
    return {"conv-lora": SAVED / "conv-lora", "late": SAVED / "late", "town": place / "town"}


@pytest.fixture(scope="session")
def served(folders):
    from convlora.serve.served import load_runs

    runs, _ = load_runs(list(folders.values()), model=str(SAVED / "sam"), device="cpu", precision="fp32")
    return runs


@pytest.fixture(scope="session")
def make_client(served):
    """Makes a client of a server with some limits, in this process and without a network."""
    from starlette.testclient import TestClient

    from convlora.serve.app import make_app
    from convlora.serve.engine import Engine
    from convlora.serve.limits import Limits
    from convlora.serve.segmenting import Segmenting

    made = []

    def make(names=RUNS, allowed_hosts=(), batch_size=1, **limits):
        runs = {name: served[name] for name in names}
        engine = Engine({name: run.segmenter for name, run in runs.items()}, batch_size)
        segmenting = Segmenting(runs, engine, Limits(**limits))
        made.append(segmenting)
        app = make_app(segmenting, allowed_hosts)
        client = TestClient(app, base_url="http://127.0.0.1:8000", raise_server_exceptions=False)
        client.segmenting = segmenting
        return client

    yield make
    for segmenting in made:
        segmenting.close()
        segmenting.engine.close()


@pytest.fixture(scope="session")
def client(make_client):
    return make_client()


@contextmanager
def listening(app, limits):
    """Serves an application at a port of this machine; yields its address."""
    from convlora.serve.server import web_server

    server = web_server(app, limits)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=lambda: asyncio.run(server.serve(sockets=[listener])), daemon=True)
        thread.start()
        try:
            yield listener.getsockname()
        finally:
            server.should_exit = True
            thread.join(20)


@pytest.fixture(scope="session")
def live(make_client):
    """Serves at a real port, with short times."""

    @contextmanager
    def serve(**options):
        client = make_client(**options)
        with listening(client.app, client.segmenting.limits) as address:
            yield address, client.segmenting

    return serve


@pytest.fixture(scope="session")
def photos(tmp_path_factory):
    """Images of every kind that is read, by name."""
    import numpy as np
    import tifffile
    from PIL import Image

    folder = tmp_path_factory.mktemp("photos")
    town = Image.open(SAVED / "images" / "town.png").convert("RGB")
    for name in ("cells.png", "sixteen_bits.png"):
        (folder / name).write_bytes((SAVED / "images" / name).read_bytes())
    exif = Image.Exif()
    exif[0x0112] = 6
    town.resize((150, 80)).save(folder / "turned.jpg", exif=exif)
    town.resize((900, 300)).save(folder / "large.jpg", quality=90)  # decoded at a fraction of its size
    town.resize((31, 200)).save(folder / "oblong.webp", lossless=True)
    town.convert("P").save(folder / "palette.png")
    town.convert("RGBA").save(folder / "alpha.png")
    town.convert("L").save(folder / "grey.bmp")
    pixels = np.asarray(town)
    tifffile.imwrite(folder / "deep.tif", pixels.astype(np.uint16) * 200, photometric="rgb")
    grey = pixels[..., 0].copy()
    grey[:, :20] = 7
    tifffile.imwrite(
        folder / "empty.tif", grey, photometric="minisblack", metadata=None, extratags=[(42113, "s", 0, "7", True)]
    )
    tifffile.imwrite(folder / "pages.tif", np.stack([pixels, pixels[::-1]]), photometric="rgb")
    return {path.name: path for path in sorted(folder.iterdir())}
