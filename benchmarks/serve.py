"""A thousand requests at once to `convlora serve`, half of them broken: nothing may be lost, and the server lives on.

Every good request has to get the mask that the segmenter gives, every broken one an error that is the client's (4xx).
It prints requests per second and the server's memory, and ends with 1 if anything is wrong.

python benchmarks/serve.py RUN [RUN ...] --requests 1000 --clients 16
"""

from __future__ import annotations

import argparse
import http.client
import io
import os
import random
import re
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
import psutil
from PIL import Image

from convlora.data.synthetic import draw_cells
from convlora.inference.segmenter import Segmenter
from convlora.serve.names import name_runs

SIZES = ((240, 320), (480, 200), (900, 1200), (64, 64))


class Good(NamedTuple):
    """A request that has an answer.

    Attributes:
        run: Name of the run.
        content: The image file.
        mask: Its classes, `(H, W)`.
    """

    run: str
    content: bytes
    mask: np.ndarray


class Server:
    """The command in a process of its own."""

    def __init__(self, runs: list[Path], options: list[str]) -> None:
        command = [sys.executable, "-m", "convlora.cli.main", "serve", *map(str, runs), "--port", "0", *options]
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, text=True, env=os.environ | {"PYTHONUNBUFFERED": "1"}
        )
        for line in self.process.stdout or ():
            print(line.rstrip())
            if found := re.search(r"Serving .*:(\d+) ", line):
                self.port = int(found[1])
                return
        raise SystemExit("The server did not start.")

    def memory(self) -> float:
        """Resident memory in MB."""
        return psutil.Process(self.process.pid).memory_info().rss / 2**20

    def ask(self, path: str, body: bytes | None = None, method: str = "POST", **headers: str) -> tuple[int, bytes]:
        """One request on a connection of its own; asked again while the server is full."""
        while True:
            connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=300)
            try:
                connection.request(method, path, body, headers)
                answer = connection.getresponse()
                content = answer.read()
                if answer.status != 503:
                    return answer.status, content
                self.refused += 1
                time.sleep(float(answer.headers["Retry-After"]) * random.uniform(0.2, 1))
            finally:
                connection.close()

    refused = 0


def picture(number: int) -> bytes:
    """A file of one of several sizes and formats."""
    rng = np.random.default_rng(number)
    pixels = draw_cells(SIZES[number % len(SIZES)], rng)[0]
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, ("PNG", "JPEG", "TIFF", "WEBP")[number // 2 % 4])
    return stream.getvalue()


def broken_requests(server: Server, good: Good) -> list[Callable[[], tuple[int, bytes]]]:
    """Ways to ask that must be refused."""
    address, content = f"/v1/segment?run={good.run}", good.content
    bomb = io.BytesIO()
    Image.new("1", (20_000, 8_000)).save(bomb, "PNG")
    return [
        lambda: server.ask(address, content[: len(content) // 4]),
        lambda: server.ask(address, b"\x89PNG\r\n\x1a\n" + os.urandom(2000)),
        lambda: server.ask(address, b"\xff\xd8\xff" + os.urandom(2000)),
        lambda: server.ask(address, b"II*\0" + os.urandom(2000)),
        lambda: server.ask(address, b"RIFF" + os.urandom(2000)),
        lambda: server.ask(address, os.urandom(500)),
        lambda: server.ask(address, b""),
        lambda: server.ask(address, bomb.getvalue()),
        lambda: server.ask(address, b"x" * (3 << 20)),
        lambda: server.ask("/v1/segment?run=none", content),
        lambda: server.ask(address + "&format=gif", content),
        lambda: server.ask(address + "&threshold=2", content),
        lambda: server.ask(address, b"--x\r\nbroken", **{"Content-Type": "multipart/form-data; boundary=y"}),
        lambda: server.ask(address, b"{}", **{"Content-Type": "application/json"}),
        lambda: server.ask(address, content, Host="evil.example"),
        lambda: server.ask(address, content, Origin="http://evil.example"),
        lambda: server.ask("/v1/segment/none", content),
        lambda: server.ask(address, method="GET"),
    ]


def main() -> None:
    """Starts a server, asks, and reports."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path, help="binary runs; best two whose answers differ")
    parser.add_argument("--requests", type=int, default=1000)
    parser.add_argument("--clients", type=int, default=16, help="requests at a time")
    parser.add_argument("--images", type=int, default=8)
    parser.add_argument("--batch-size", type=int, default=1)
    options = parser.parse_args()
    common = ["--device", "cpu", "--precision", "fp32"]
    good = []
    for name, run in name_runs(options.runs).items():
        segmenter = Segmenter.from_run(run, device="cpu", precision="fp32")
        for number in range(options.images):
            content = picture(number)
            good.append(Good(name, content, segmenter.predict_maps([content])[0]))
        del segmenter
    server = Server(options.runs, [*common, "--max-upload", "2", "--batch-size", str(options.batch_size)])
    counts: Counter[str] = Counter()
    lock, before = threading.Lock(), server.memory()
    broken = [one for each in good[:: options.images] for one in broken_requests(server, each)]
    most = before

    def one(number: int) -> None:
        nonlocal most
        if number % 2:
            status, body = broken[number // 2 % len(broken)]()
            result = f"broken: {status}" if 400 <= status < 500 else f"WRONG: {status} to a broken request {number}"
        else:
            wanted = good[number // 2 % len(good)]
            status, body = server.ask(f"/v1/segment?run={wanted.run}", wanted.content)
            result = f"good: {status}" if status == 200 else f"WRONG: {status} {body[:200]!r}"
            if status == 200:
                different = (np.asarray(Image.open(io.BytesIO(body))) != wanted.mask).mean()
                # Of batches, pixels at 0.5 may fall either way.
                if different > (0 if options.batch_size == 1 else 1e-3):
                    result = f"WRONG: {different:.2%} of the pixels"
        with lock:
            counts[result] += 1
            most = max(most, server.memory())

    order = list(range(options.requests))
    random.Random(0).shuffle(order)
    started = time.perf_counter()
    with ThreadPoolExecutor(options.clients) as pool:
        list(pool.map(one, order))
    seconds = time.perf_counter() - started
    alive = server.ask("/healthz", method="GET")
    for result, count in sorted(counts.items()):
        print(f"{count:6d}  {result}")
    print(f"{server.refused:6d}  times asked again, as the server was full (503)")
    print(f"{options.requests / seconds:.1f} requests/s with {options.clients} clients, {seconds:.1f} s, then {alive}")
    print(f"memory of the server: {before:.0f} MB before, {most:.0f} MB at most, {server.memory():.0f} MB after")
    server.process.terminate()
    code = server.process.wait(60)
    lost = options.requests - sum(counts.values())
    if lost or code or any(result.startswith("WRONG") for result in counts) or alive[0] != 200:
        raise SystemExit(f"FAILED: {lost} lost, exit code of the server {code}")


if __name__ == "__main__":
    main()
