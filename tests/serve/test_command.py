"""`convlora serve` from the command line."""

import http.client
import os
import re
import signal
import socket
import subprocess
import sys

import pytest

from tests.serve.conftest import SAVED


def test_a_port_in_use(convlora):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        code, _, err = convlora("serve", SAVED / "late", "--port", port)
    assert code == 2
    assert f"Port {port} is in use" in err
    assert "--port" in err


def test_addresses_of_others(convlora):
    code, _, err = convlora("serve", SAVED / "late", "--port", 0, "--host", "192.0.2.1")  # kept for documentation
    assert (code, err.count("--host")) == (2, 1)


def test_a_run_that_cannot_be_loaded(convlora, tmp_path, monkeypatch):
    monkeypatch.setattr("convlora.serve.server._listen", lambda *_: pytest.fail("it listens"))
    code, _, err = convlora("serve", SAVED / "late", tmp_path, "--model", SAVED / "sam", "--port", 0)
    assert code == 2
    assert str(tmp_path) in err
    code, _, err = convlora("serve", SAVED / "late", SAVED / "late", "--port", 0)
    assert code == 2
    assert "twice" in err
    code, _, err = convlora("serve", SAVED / "late", "--port", 0, "--queue", 0)
    assert code == 2
    assert "--queue" in err


def test_an_address_of_label_studio_that_is_none(convlora, monkeypatch):
    monkeypatch.setattr("convlora.serve.server.load_runs", lambda *_, **__: pytest.fail("it loads"))
    code, _, err = convlora("serve", SAVED / "late", "--port", 0, "--label-studio", "localhost:8080")
    assert (code, "http://localhost:8080" in err) == (2, True)


def test_without_the_packages(convlora, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    code, _, err = convlora("serve", SAVED / "late")
    assert code == 2
    assert "pip install 'convlora[serve]'" in err


def test_others_are_warned_of(convlora, monkeypatch):
    monkeypatch.setattr("convlora.serve.server.web_server", lambda *_: Interrupted())
    arguments = ("serve", SAVED / "late", "--model", SAVED / "sam", "--device", "cpu", "--port", 0)
    code, out, err = convlora(*arguments, "--host", "0.0.0.0")  # noqa: S104
    assert (code, err.count("no passwords")) == (0, 1)
    code, out, err = convlora(*arguments)
    assert (code, err) == (0, "")
    assert re.search(r"Serving late at http://127.0.0.1:\d+ ", out)
    assert out.endswith("Stopped.\n")


class Interrupted:
    async def serve(self, sockets):
        raise KeyboardInterrupt


@pytest.mark.processes
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_stops_cleanly(tmp_path, number):
    command = [
        sys.executable,
        "-m",
        "convlora.cli.main",
        "serve",
        SAVED / "late",
        "--model",
        SAVED / "sam",
        "--port",
        "0",
    ]
    environment = os.environ | {"TMPDIR": str(tmp_path), "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    ) as server:
        lines = []
        for line in server.stdout:
            lines.append(line)
            if line.startswith("Serving"):
                break
        else:
            pytest.fail(server.stderr.read())
        port = int(re.search(r":(\d+) ", lines[-1])[1])
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        connection.request("POST", "/v1/segment", (SAVED / "images" / "cells.png").read_bytes())
        answer = connection.getresponse()
        assert (answer.status, answer.read()[:4]) == (200, b"\x89PNG")
        server.send_signal(number)
        out, err = server.communicate(timeout=60)
    assert (server.returncode, err) == (0, "")
    assert out == "Stopped.\n"
    assert list(tmp_path.iterdir()) == []
