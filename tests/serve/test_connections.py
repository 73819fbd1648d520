"""A server at a real port: slow clients, large bodies, and many clients at a time."""

import concurrent.futures
import http.client
import socket
import threading
import time

import pytest

from tests.serve.conftest import RUNS


def received(connection, seconds=20):
    """All that comes until the server ends the connection."""
    connection.settimeout(seconds)
    pieces = []
    try:
        while piece := connection.recv(65536):
            pieces.append(piece)
    except ConnectionResetError:
        pass
    return b"".join(pieces)


def head(length, more=""):
    return (
        f"POST /v1/segment?run=late HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: image/png\r\n"
        f"Content-Length: {length}\r\n{more}\r\n"
    ).encode()


@pytest.fixture(scope="module")
def cells(photos):
    return photos["cells.png"].read_bytes()


def test_slow_clients_are_not_waited_for(live, cells):
    with live(header_seconds=0.5, body_seconds=0.5) as (address, segmenting):
        with socket.create_connection(address) as silent:
            assert received(silent) == b""
        with socket.create_connection(address) as slow:
            started = time.monotonic()
            for sign in b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1":  # one after the other
                try:
                    slow.send(bytes([sign]))
                except OSError:
                    break
                time.sleep(0.05)
            assert received(slow) == b""
            assert time.monotonic() - started < 10
        with socket.create_connection(address) as slow:
            slow.sendall(head(len(cells)) + cells[:100])
            answer = b""
            slow.settimeout(20)
            while b"did not arrive" not in answer:
                piece = slow.recv(65536)
                assert piece, answer
                answer += piece
            assert answer.startswith(b"HTTP/1.1 408")
        with socket.create_connection(address) as leaving:
            leaving.sendall(head(len(cells)) + cells[:100])
        connection = http.client.HTTPConnection(*address)
        for _ in range(2):  # one connection for two requests
            connection.request("POST", "/v1/segment?run=late", cells)
            answer = connection.getresponse()
            assert answer.status == 200
            assert answer.read().startswith(b"\x89PNG")
        connection.close()
        assert segmenting.room.taken == segmenting.waiting == 0


def test_nothing_is_computed_for_clients_that_have_left(live, served, cells, monkeypatch):
    segmenter = served["late"].segmenter
    may, seen, outputs = threading.Event(), [], segmenter.outputs

    def held(images):
        seen.append(len(images))
        assert may.wait(30)
        return outputs(images)

    monkeypatch.setattr(segmenter, "outputs", held, raising=False)
    with live() as (address, segmenting):
        clients = [socket.create_connection(address) for _ in range(3)]
        for number, client in enumerate(clients, 1):
            client.sendall(head(len(cells)) + cells)
            until(lambda number=number: segmenting.waiting == number and seen)
        for leaving in clients[1:]:
            leaving.close()
        until(lambda: segmenting.waiting == 1)
        may.set()
        assert clients[0].recv(65536).startswith(b"HTTP/1.1 200")
        clients[0].close()
        assert seen == [1]
        assert segmenting.room.taken == 0


def until(holds, seconds=20):
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_a_client_that_waits_for_permission_sends_no_large_body(live):
    with live(upload_bytes=1000) as (address, _), socket.create_connection(address) as client:
        client.sendall(head(10**9, "Expect: 100-continue\r\n"))
        client.settimeout(20)
        assert client.recv(65536).startswith(b"HTTP/1.1 413")


def test_what_is_no_http(live):
    with live() as (address, _):
        for nonsense in (b"\x16\x03\x01\x02\x00", b"GET\r\n\r\n", b"POST / HTTP/1.1\r\nContent-Length: -5\r\n\r\n"):
            with socket.create_connection(address) as client:
                client.sendall(nonsense + b"\r\n\r\n")
                assert received(client).startswith(b"HTTP/1.1 400")


def test_many_clients_get_their_own_answers(live, photos):
    """Two runs and good and broken images at once."""
    contents = [path.read_bytes() for path in photos.values()][:5]
    with live(waiting=64, batch_size=2) as (address, segmenting):

        def ask(run, content):
            connection = http.client.HTTPConnection(*address, timeout=120)
            connection.request("POST", f"/v1/segment?run={run}", content)
            answer = connection.getresponse()
            body = answer.read()
            connection.close()
            return answer.status, body

        work = [(run, content) for run in RUNS for content in contents]
        expected = {(run, content): ask(run, content) for run, content in work}
        assert {status for status, _ in expected.values()} == {200}
        broken = [("late", content[: len(content) // 4]) for content in contents] + [("nix", contents[0])]
        mixed = [*work, *broken] * 2
        with concurrent.futures.ThreadPoolExecutor(12) as pool:
            answers = list(pool.map(lambda one: ask(*one), mixed))
        for one, (status, body) in zip(mixed, answers):
            if one in expected:
                assert status == 200
                assert same_mask(body, expected[one][1])
            else:
                assert status in (404, 415, 422)
        assert segmenting.room.taken == segmenting.waiting == 0


def same_mask(one, other):
    """Whether two masks are equal but for pixels at 0.5, which may fall either way in another batch."""
    import io

    import numpy as np
    from PIL import Image

    first, second = (np.asarray(Image.open(io.BytesIO(content))) for content in (one, other))
    return first.shape == second.shape and (first != second).mean() < 0.001
