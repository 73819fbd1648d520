"""What the server answers is what `convlora predict` writes."""

import io
import json

import jsonschema
import numpy as np
import pytest
from PIL import Image

from convlora.api.predict import predict
from tests.serve.conftest import RUNS, SAVED


@pytest.fixture(scope="module")
def predicted(photos, folders, tmp_path_factory):
    found = {}
    for run, folder in folders.items():
        found[run] = tmp_path_factory.mktemp("predicted") / run
        model = None if run == "town" else SAVED / "sam"
        options = {"model": model, "device": "cpu", "precision": "fp32", "overlay": True}
        result = predict(folder, list(photos.values()), found[run], **options)
        assert not result["failed"]
        assert sum(len(one["shares"]) > list(one["shares"].values()).count(0) + 1 for one in result["images"]) > 5
    return found


@pytest.mark.parametrize("run", RUNS)
def test_masks_and_overlays_are_the_files_of_predict(client, photos, predicted, run):
    assert len(photos) > 10
    for name, path in photos.items():
        stem = name.partition(".")[0]
        with path.open("rb") as file:
            answer = client.post(f"/v1/segment?run={run}", files={"image": (name, file)})
        assert (answer.status_code, answer.headers["content-type"]) == (200, "image/png")
        assert answer.content == (predicted[run] / f"{stem}.png").read_bytes(), name
        if run == "late":
            continue
        answer = client.post(f"/v1/segment?run={run}&format=overlay", content=path.read_bytes())
        assert answer.content == (predicted[run] / f"{stem}_overlay.png").read_bytes(), name


@pytest.mark.parametrize("run", RUNS)
def test_shares_are_those_of_predict(client, photos, predicted, run):
    shares = json.loads((predicted[run] / "shares.json").read_text())["images"]
    for name, path in photos.items():
        answer = client.post(
            "/v1/segment", data={"run": run}, files={"image": path.read_bytes()}, headers={"Accept": "application/json"}
        ).json()
        mask = np.asarray(Image.open(predicted[run] / f"{name.partition('.')[0]}.png"))
        assert {one["name"]: one["share"] for one in answer["classes"]} == shares[name.partition(".")[0]]
        assert [one["pixels"] for one in answer["classes"]] == [
            (mask == one["index"]).sum() for one in answer["classes"]
        ]
        assert (answer["height"], answer["width"]) == mask.shape
        assert answer["no_data_pixels"] == (20 * mask.shape[0] if name == "empty.tif" else 0)


def test_polygons_enclose_the_pixels_of_the_mask(client, photos):
    rasterize = pytest.importorskip("rasterio.features").rasterize
    for run in RUNS:
        content = photos["cells.png"].read_bytes()
        mask = np.asarray(Image.open(io.BytesIO(client.post(f"/v1/segment?run={run}", content=content).content)))
        answer = client.post(f"/v1/segment?run={run}&format=json", content=content).json()
        drawn = np.zeros_like(mask)
        for one in answer["polygons"]:
            inside = rasterize([one | {"type": "Polygon"}], out_shape=mask.shape) > 0
            assert inside.sum() == one["pixels"]
            drawn[inside] = one["class"]
        assert np.array_equal(drawn, mask)
        assert len(np.unique(mask)) > 1


def test_too_many_corners_are_not_listed(client, photos, monkeypatch):
    monkeypatch.setattr("convlora.serve.results.MOST_CORNERS", 10)
    answer = client.post("/v1/segment?run=conv-lora&format=json", content=photos["cells.png"].read_bytes()).json()
    assert answer["polygons"] is None
    assert "10 corners" in answer["polygons_note"]


@pytest.mark.parametrize("name", ["cells.png", "empty.tif", "large.jpg"])
def test_levels_tell_the_mask_of_every_threshold(client, served, photos, name):
    content = photos[name].read_bytes()
    answer = client.post("/v1/segment?run=conv-lora&format=probability", content=content)
    levels = np.asarray(Image.open(io.BytesIO(answer.content)))
    assert levels.dtype == np.uint8
    mask = np.asarray(Image.open(io.BytesIO(client.post("/v1/segment?run=conv-lora", content=content).content)))
    assert np.array_equal(levels[mask < 2] >= 128, mask[mask < 2] == 1)
    probability = served["conv-lora"].segmenter.predict(content).probabilities[1]
    for level in (1, 50, 128, 129, 255):
        assert np.array_equal((levels >= level)[mask < 2], (probability > level / 256)[mask < 2])


def test_pictures_in_json(client, photos):
    import base64

    address = "/v1/segment?format=json&polygons=false&picture=mask&picture=layers&picture=preview&run="
    for run in RUNS:
        content = photos["turned.jpg"].read_bytes()
        answer = client.post(address + run, content=content).json()
        assert answer["polygons"] is None
        pictures = {name: base64.b64decode(text) for name, text in answer["pictures"].items()}
        assert pictures["mask"] == client.post(f"/v1/segment?run={run}", content=content).content
        mask, layers, preview = (
            np.asarray(Image.open(io.BytesIO(pictures[name]))) for name in ("mask", "layers", "preview")
        )
        assert mask.shape == preview.shape[:2] == layers.shape[:2] == (150, 80)
        assert np.array_equal(layers[..., 0] + 256 * layers[..., 1].astype(int), mask)
        if run == "town":
            assert not layers[..., 2].any()
        else:
            assert np.array_equal(layers[..., 2] >= 128, mask == 1)


def test_a_preview_is_not_larger_than_a_screen(client):
    stream = io.BytesIO()
    Image.new("RGB", (5000, 300)).save(stream, "JPEG")
    answer = client.post("/v1/segment?run=late&format=json&picture=preview", content=stream.getvalue()).json()
    import base64

    assert Image.open(io.BytesIO(base64.b64decode(answer["pictures"]["preview"]))).size == (2048, 123)
    assert (answer["width"], answer["height"]) == (5000, 300)


def test_runs_are_told_apart(client, photos):
    content = photos["cells.png"].read_bytes()
    answers = {client.post(f"/v1/segment?run={run}", content=content).content for run in RUNS}
    assert len(answers) == len(RUNS)


def test_the_only_run_needs_no_name(make_client, photos):
    alone, content = make_client(["late"]), photos["cells.png"].read_bytes()
    assert (
        alone.post("/v1/segment", content=content).content
        == alone.post("/v1/segment?run=late", content=content).content
    )


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        ("*/*", "image/png"),
        ("application/json", "application/json"),
        ("application/json, */*;q=0.1", "application/json"),
        ("image/*", "image/png"),
        ("text/html,application/xhtml+xml,*/*;q=0.8", "image/png"),
        ("application/json;q=0.2, image/png;q=0.9", "image/png"),
        ("text/plain", "application/problem+json"),
        ("image/png;q=0", "application/problem+json"),
    ],
)
def test_accept(client, photos, accept, kind):
    answer = client.post("/v1/segment?run=late", content=photos["cells.png"].read_bytes(), headers={"Accept": accept})
    assert answer.headers["content-type"] == kind
    assert answer.status_code == (406 if "problem" in kind else 200)


def test_answers_are_as_the_interface_says(client, photos):
    described = client.get("/openapi.json").json()

    def check(answer, path, method):
        content = described["paths"][path][method]["responses"][str(answer.status_code)]["content"]
        form = content[answer.headers["content-type"]]["schema"]
        jsonschema.validate(answer.json(), form | {"components": described["components"]})

    check(client.get("/healthz"), "/healthz", "get")
    runs = client.get("/v1/runs")
    check(runs, "/v1/runs", "get")
    assert [run["name"] for run in runs.json()["runs"]] == list(RUNS)
    assert [run["has_probability"] for run in runs.json()["runs"]] == [True, True, False]
    content = photos["empty.tif"].read_bytes()
    for run in RUNS:
        for more in ("", "&polygons=false", "&picture=mask"):
            check(client.post(f"/v1/segment?run={run}&format=json{more}", content=content), "/v1/segment", "post")
    for bad in ("?run=x", "?format=gif", "?run=late&format=png&polygons=true"):
        check(client.post(f"/v1/segment{bad}", content=content), "/v1/segment", "post")


def test_no_place_of_this_machine_is_told(client):
    assert str(SAVED) not in client.get("/v1/runs").text + client.get("/").text
