"""The paths that Label Studio calls, and the images that are fetched for it."""

import base64
import json
from http.server import BaseHTTPRequestHandler

import numpy as np
import pytest
from starlette.testclient import TestClient

from convlora.errors import InputError
from convlora.serve.app import make_app
from convlora.serve.limits import Limits, Room
from convlora.serve.task_images import TaskImages
from tests.helpers.label_tools import label_studio_map
from tests.helpers.web import listening
from tests.serve.conftest import SAVED

CELLS = (SAVED / "images" / "cells.png").read_bytes()
CONFIG = (
    '<View><Image name="photo" value="$picture"/><BrushLabels name="brush" toName="photo"><Label value="{}"/>'
    '<Label value="other"/></BrushLabels></View>'
)
FITTING = CONFIG.format("cell")


class Studio:
    """A stand-in of Label Studio that serves one image to those who have a token, and tells what was asked."""

    def __init__(self):
        self.token, self.access, self.asked, self.refreshed = "Token secret", "", [], 0
        self.moved = {}

    def handler(studio):  # noqa: N805 - the handler has a self of its own
        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *_):
                pass

            def answer(self, status, content=b"", **headers):
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def do_GET(self):
                studio.asked.append(self.path)
                if self.path in studio.moved:
                    self.answer(302, Location=studio.moved[self.path])
                elif self.headers.get("Authorization") != studio.token:
                    self.answer(401)
                elif self.path == "/data/nothing":
                    self.answer(404)
                else:
                    self.answer(200, CELLS)

            def do_POST(self):
                length = int(self.headers["Content-Length"])
                said = json.loads(self.rfile.read(length))
                assert (self.path, said) == ("/api/token/refresh", {"refresh": "a.b.c"})
                studio.refreshed += 1
                studio.token = f"Bearer access-{studio.refreshed}"
                self.answer(200, json.dumps({"access": f"access-{studio.refreshed}"}).encode())

        return Handler


@pytest.fixture
def studio():
    found = Studio()
    with listening(found.handler()) as found.url:
        yield found


@pytest.fixture(scope="module")
def segmenting_of(make_client):
    """What answers, with some limits; one for all tests."""
    made = {}

    def find(names, **limits):
        key = (names, *sorted(limits.items()))
        if key not in made:
            made[key] = make_client(names=names, **limits).segmenting
        return made[key]

    return find


@pytest.fixture
def connected(segmenting_of, studio):
    """A client of a server that knows the stand-in."""

    def connect(key="secret", url=None, names=("conv-lora",), **limits):
        segmenting = segmenting_of(names, **limits)
        images = TaskImages(url or studio.url, key, segmenting.limits, segmenting.room)
        app = make_app(segmenting, (), images)
        client = TestClient(app, base_url="http://127.0.0.1:8000", raise_server_exceptions=False)
        client.segmenting = segmenting
        return client

    return connect


def ask(client, *addresses, config=FITTING, path="/predict", key="picture"):
    tasks = [{"id": 7 + place, "data": {key: address}} for place, address in enumerate(addresses)]
    body = {"tasks": tasks, "label_config": config, "project": "1.2", "model_version": "x", "params": {"context": None}}
    answer = client.post(path, json=body)
    assert client.segmenting.room.taken == 0
    return answer


def inline(content):
    return "data:image/png;base64," + base64.b64encode(content).decode()


def names_of(served, run, content):
    from convlora.serve.images import Upload

    segmenter = served[run].segmenter
    names = np.array(segmenter.classes.names, dtype=object)
    if segmenter.classes.background is not None:
        names[segmenter.classes.background] = ""
    (found,) = segmenter.maps_of([segmenter.see(Upload(content))])
    return names[found]


def test_predictions_are_the_masks(connected, studio, served, photos):
    turned = photos["turned.jpg"].read_bytes()
    answer = ask(connected(), "/data/upload/1/a%20b.png", f"{studio.url}/data/local-files/?d=a/b.png", inline(turned))
    assert answer.status_code == 200, answer.text
    results = answer.json()["results"]
    assert studio.asked.count("/data/upload/1/a%20b.png") == studio.asked.count("/data/local-files/?d=a/b.png") == 1
    for prediction, content in zip(results, [CELLS, CELLS, turned], strict=True):
        assert prediction["model_version"] == "conv-lora"
        wanted = names_of(served, "conv-lora", content)
        found, controls = label_studio_map({"predictions": [prediction]})
        assert controls == {("brush", "photo")}
        assert np.array_equal(found, wanted)
        assert (wanted == "cell").any()


def test_several_classes_and_several_runs(connected, served):
    client = connected(names=("conv-lora", "town"))
    names = served["town"].segmenter.classes.names
    labels = "".join(f'<Label value="{name}"/>' for name in names)
    config = f'<View><BrushLabels name="b" toName="i">{labels}</BrushLabels><Image name="i" value="$picture"/></View>'
    answer = ask(client, inline(CELLS), config=config, path="/label-studio/town/predict")
    found, _ = label_studio_map({"predictions": answer.json()["results"]})
    assert np.array_equal(found, names_of(served, "town", CELLS))
    assert len(set(np.unique(found)) - {""}) > 1
    assert ask(client, inline(CELLS), config=config).status_code == 422
    assert ask(client, inline(CELLS), path="/label-studio/none/predict").status_code == 404
    assert client.post("/label-studio/town/setup", json={}).json() == {"model_version": "town"}


def test_the_interface_that_predict_writes_needs_no_config(connected):
    (prediction,) = ask(connected(), inline(CELLS), config="", key="image").json()["results"]
    assert (prediction["result"][0]["from_name"], prediction["result"][0]["to_name"]) == ("label", "image")


def test_the_other_paths(connected):
    client = connected()
    assert client.get("/health").json()["status"] == "UP"
    assert client.post("/setup", json={"project": "1.2", "schema": "<View/>"}).json() == {"model_version": "conv-lora"}
    assert client.post("/webhook", json={"action": "PROJECT_UPDATED"}).status_code == 200


def test_images_in_buckets(connected, studio):
    assert ask(connected(), "s3://bucket/a.png").status_code == 200
    coded = base64.urlsafe_b64encode(b"s3://bucket/a.png").decode()
    assert studio.asked == [f"/tasks/7/presign/?fileuri={coded}"]


@pytest.mark.parametrize(
    "address",
    [
        "http://127.0.0.1:9/data/a.png",
        "http://localhost.example.org/data/a.png",
        "//example.org/data/a.png",
        "file:///etc/passwd",
        "ftp://127.0.0.1/data/a.png",
        "/api/projects/1/export",
        "/data/../api/users",
        "/data/%2e%2e/api/users",
        "/data/..%5capi/users",
        "{url}/user/account",
        "{url}@example.org/data/a.png",
        "{url}\\@example.org/data/a.png",
        "{url}\n@example.org/data/a.png",
        "http://user@{host}/data/a.png",
        "data/a.png",
        "%2Fdata/a.png",
        "",
        None,
        7,
        ["/data/a.png"],
    ],
)
def test_nothing_else_is_fetched(connected, studio, address):
    if isinstance(address, str):
        address = address.format(url=studio.url, host=studio.url.removeprefix("http://"))
    answer = ask(connected(), address)
    assert answer.status_code == 422, answer.text
    assert studio.asked == []


def test_nothing_is_fetched_if_no_label_studio_is_named(make_client):
    answer = ask(make_client(names=("conv-lora",)), "/data/a.png")
    assert (answer.status_code, "--label-studio" in answer.text) == (422, True)


@pytest.mark.parametrize("target", ["http://127.0.0.1:9/data/a.png", "/user/login/", "//example.org/data/a.png"])
def test_redirects_elsewhere_are_not_followed(connected, studio, target):
    studio.moved["/data/a.png"] = target
    answer = ask(connected(), "/data/a.png")
    assert answer.status_code == 422
    assert studio.asked == ["/data/a.png"]
    assert "login" in answer.text or "pre-signed" in answer.text


def test_redirects_within_label_studio_are_followed(connected, studio):
    studio.moved["/data/a.png"] = "/data/b.png"
    assert ask(connected(), "/data/a.png").status_code == 200
    studio.moved["/data/b.png"] = "/data/a.png"
    assert ask(connected(), "/data/a.png").status_code == 502


def test_the_newer_tokens(connected, studio):
    client = connected(key="a.b.c")
    assert ask(client, "/data/a.png").status_code == 200
    assert ask(client, "/data/a.png").status_code == 200
    assert studio.refreshed == 1
    studio.token = "Bearer later"  # noqa: S105 - the earlier one has run out
    assert ask(client, "/data/a.png").status_code == 200
    assert studio.refreshed == 2


@pytest.mark.parametrize(
    ("key", "address", "said"),
    [("wrong", "/data/a.png", "LABEL_STUDIO_API_KEY"), ("secret", "/data/nothing", "404"), (None, "/data/a", "token")],
)
def test_what_label_studio_refuses(connected, key, address, said):
    answer = ask(connected(key=key), address)
    assert (answer.status_code, said in answer.text) == (502, True)
    assert "secret" not in answer.text


def test_a_label_studio_that_does_not_answer(connected):
    assert ask(connected(url="http://127.0.0.1:9"), "/data/a.png").status_code == 502


def test_too_many_bytes(connected, studio):
    client = connected(upload_bytes=len(CELLS) - 1)
    assert ask(client, "/data/a.png").status_code == 413
    assert ask(client, inline(CELLS)).status_code == 413


@pytest.mark.parametrize("content", ["data:image/png;base64,***", "data:image/png", inline(b"none")])
def test_damaged_images(connected, content):
    assert ask(connected(), content).status_code in (415, 422)


@pytest.mark.parametrize(
    ("config", "said"),
    [
        (CONFIG.format("cat"), "has no label for what this run finds (cell): its brushes are cat, other"),
        ("<View/>", "no BrushLabels"),
        ("<View>", "not XML"),
        ('<!DOCTYPE v [<!ENTITY a "aaaa">]><View>&a;</View>', "not the XML"),
        (7, "not the XML"),
    ],
)
def test_labeling_interfaces_that_do_not_fit(connected, config, said):
    answer = ask(connected(), inline(CELLS), config=config)
    assert (answer.status_code, said in answer.json()["detail"]) == (422, True), answer.text


@pytest.mark.parametrize("body", [b"", b"[", b"[]", b'{"tasks": [1]}', b'{"tasks": {}}', b"\xff", b"[" * 100000])
def test_requests_that_are_none(connected, body):
    client = connected()
    assert client.post("/predict", content=body).status_code == 422
    assert client.segmenting.room.taken == 0


@pytest.mark.parametrize(
    "url", ["localhost:8080", "ftp://x", "http://", "http://a@b", "http://x/?a=b", "http://x:port"]
)
def test_addresses_that_are_none(url):
    with pytest.raises(InputError, match="--label-studio"):
        TaskImages(url, None, Limits(), Room(1, ""))
